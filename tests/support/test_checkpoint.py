"""The state of a training on disk: whole, of this training, with every random generator."""

import random

import numpy as np
import pytest
import torch

from kdpl_utils.support.checkpoint import Checkpoint, digest_of_tensors


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_all_generators_go_on_where_they_were(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.keep("mine", {"step": "3"}, {"a": torch.arange(3.0)})
    expected = drawn()
    drawn()
    header, tensors = checkpoint.read("mine")
    assert drawn() == expected and header["step"] == "3" and torch.equal(tensors["a"], torch.arange(3.0))


def test_the_generators_of_gpus_too(tmp_path, monkeypatch):
    """Of two GPUs that are not there."""
    states = [torch.arange(4, dtype=torch.uint8), torch.arange(4, 8, dtype=torch.uint8)]
    set_back = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: set_back.update({device: state}))
    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.keep("mine", {}, {})
    checkpoint.read("mine")
    assert set(set_back) == {0, 1} and all(torch.equal(set_back[i], states[i]) for i in (0, 1))


def test_what_is_not_there_or_damaged_is_none(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state")
    assert checkpoint.read("mine") is None
    checkpoint.keep("mine", {}, {"a": torch.zeros(9)})
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-3])
    with pytest.warns(UserWarning, match="state is damaged .* made again"):
        assert checkpoint.read("mine") is None


@pytest.mark.parametrize("owner, key", [("another", ""), ("mine", "other pictures")])
def test_the_state_of_another_training_is_refused(owner, key, tmp_path):
    Checkpoint(tmp_path / "state").keep("mine", {}, {})
    with pytest.raises(ValueError, match="holds the state of another training"):
        Checkpoint(tmp_path / "state", key).read(owner)


def test_a_digest_tells_kinds_shapes_and_bits_apart():
    zeros = torch.zeros(4)
    others = [zeros.double(), zeros.view(2, 2), -zeros, torch.tensor([0, 0, 0, 1e-45]), zeros[:3]]
    assert len({digest_of_tensors([one]) for one in [zeros, *others]}) == 6
    assert digest_of_tensors([zeros[::2]]) == digest_of_tensors([torch.zeros(2)])
