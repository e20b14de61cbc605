"""The script that made the shipped weights: what it may see, and that a stopped run ends as an unstopped one."""

import importlib.util
from pathlib import Path

import open_clip
import pytest
import torch

from kdpl_utils.support.shipped import data_file, data_root
from kdpl_utils.worlds.emoji import ADAPTATION_STYLES, SHIFT_STYLES

NAME = "emoji-student-rn"


@pytest.fixture
def script(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("pretrain_emoji", Path("data/pretrain_emoji.py").resolve())
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "pretrain_emoji", module)
    spec.loader.exec_module(module)
    open_clip.add_model_config(data_root() / "emoji" / "models")
    (tmp_path / ".cache").mkdir()
    monkeypatch.setattr(module, "data_root", lambda: tmp_path)
    monkeypatch.setattr(module, "calibrate", lambda *_: 1.0)
    module.RECIPES[NAME] = module.Recipe(("noto", "twemoji"), steps=4, batch_size=6)
    ticks = iter(range(0, 10**6, 100))  # a minute has always passed: a checkpoint after every step
    monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks))
    return module


def test_no_model_saw_a_style_of_the_lessons(script):
    for recipe in script.RECIPES.values():
        assert not set(recipe.styles) & {*ADAPTATION_STYLES, *SHIFT_STYLES, script.CALIBRATION_STYLE}


def test_batches_are_a_function_of_the_step(script):
    tokenizer = open_clip.get_tokenizer(NAME, bpe_path=str(data_file("bpe.txt.gz")))
    corpus = script.Corpus(("noto", "openmoji-black"), tokenizer)
    one, again, other = corpus.batch(8, 5), corpus.batch(8, 5), corpus.batch(8, 6)
    assert all(torch.equal(a, b) for a, b in zip(one, again))
    assert not torch.equal(one[2], other[2])
    assert len(set(one[2].tolist())) == 8 and one[0].shape == (8, 3, 64, 64)


def test_a_stopped_run_ends_as_an_unstopped_one(script, monkeypatch):
    saved = []
    monkeypatch.setattr(
        script, "save", lambda model, name: saved.append({k: v.clone() for k, v in model.state_dict().items()})
    )
    script.pretrain(NAME, "cpu", log=lambda _: None)
    whole, batch = script.Corpus.batch, []

    def stop_at_two(self, size, step):
        if step == 2 and not batch:
            batch.append(step)
            raise KeyboardInterrupt
        return whole(self, size, step)

    monkeypatch.setattr(script.Corpus, "batch", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        script.pretrain(NAME, "cpu", log=lambda _: None)
    script.pretrain(NAME, "cpu", log=lambda _: None)
    assert len(saved) == 2 and all(torch.equal(saved[0][k], saved[1][k]) for k in saved[0])
    assert not list(script.data_root().glob(".cache/*.ckpt"))
