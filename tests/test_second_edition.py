"""The two-phase pretraining: its optimiser against torch's, its captions, and runs that are stopped."""

import random
from dataclasses import replace

import pytest
import torch

import captions
import pretrain
from muon import Muon

NAME = "emoji-second-edition-tiny"  # a name of its own: open_clip's list of models is the whole process's


def test_muon_is_torch_s_on_matrices():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(24, 16))
    theirs = torch.nn.Parameter(ours.detach().clone())
    one = Muon([ours], lr=0.02, momentum=0.95, weight_decay=0.01)
    other = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.01)
    for _ in range(3):
        ours.grad = torch.randn(24, 16)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    assert torch.allclose(ours, theirs, atol=2e-3)  # torch iterates in bfloat16


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="AdamW"):
        Muon([torch.nn.Parameter(torch.zeros(3))])


def test_captions_name_the_concept():
    concept = {"name": "red apple", "keywords": [], "group": "food-drink", "subgroup": "food-fruit"}
    seen = captions.Seen("noto", 0.8, 0.0, "white")
    for write in (captions.raw_caption, captions.filtered_caption):
        assert all("red apple" in write(random.Random(i), concept, seen) for i in range(50))


def test_a_stopped_run_ends_as_an_unstopped_one(monkeypatch, tmp_path):
    tiny = replace(pretrain.STUDENT, styles=("noto",), image_steps=3, image_batch=4, text_steps=3, text_batch=8)
    monkeypatch.setitem(pretrain.RECIPES, NAME, replace(tiny, views=1))
    monkeypatch.setitem(pretrain.CONFIGS, NAME, pretrain.CONFIGS["emoji-student-rn"])
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", -1)
    finished = []
    monkeypatch.setattr(
        pretrain, "save", lambda model, *_: finished.append({k: v.clone() for k, v in model.state_dict().items()})
    )
    pretrain.pretrain(NAME, "cpu", tmp_path / "whole", tmp_path / "out", log=lambda _: None)
    keep, kept = pretrain.keep, []

    def stop_after_keeping(*state):
        keep(*state)
        kept.append(1)
        if len(kept) in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "keep", stop_after_keeping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(NAME, "cpu", tmp_path / "stopped", tmp_path / "out", log=lambda _: None)
    pretrain.pretrain(NAME, "cpu", tmp_path / "stopped", tmp_path / "out", log=lambda _: None)
    assert all(torch.equal(finished[0][k], finished[1][k]) for k in finished[0])
