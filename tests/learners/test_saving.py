"""Learned prompts survive the disk and refuse other models."""

from dataclasses import replace

import pytest
import torch
from oracle import moved
from safetensors import safe_open
from safetensors.torch import save_file

import kdpl_utils as kd
from kdpl_utils.learners import VPT, CoCoOp, CoOp, MaPLe, PromptKD, PromptSRC
from kdpl_utils.learners.saving import load_learner, save_learner, saved_recipe

NAMES = ["sushi", "hot dog", "ice cream"]
KINDS = [CoOp, CoCoOp, VPT, MaPLe, PromptSRC]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_round_trip(kind, student, pixels, tmp_path):
    learner, recipe = moved(kind(student)), kd.Recipe(epochs=3, average=(2, 1))
    path = save_learner(learner, tmp_path / "learned.safetensors", recipe)
    again = load_learner(path, student)
    assert type(again) is kind and again.settings == learner.settings and saved_recipe(path) == recipe
    assert torch.equal(again(pixels, NAMES), learner(pixels, NAMES))
    with safe_open(path, "pt") as file:
        header = file.metadata()
        assert set(file.keys()) == set(learner.state_dict())  # nothing of CLIP
    assert header["model"] == "emoji-student-vit" and header["kdpl_utils"] == kd.__version__
    assert [p.name for p in tmp_path.iterdir()] == ["learned.safetensors"]


def test_coop_is_kilobytes(student, tmp_path):
    assert save_learner(CoOp(student), tmp_path / "x.safetensors").stat().st_size < 4096


def test_promptkd_needs_its_teacher_again(student, other, pixels, tmp_path):
    learner = moved(PromptKD(student, other))
    path = save_learner(learner, tmp_path / "x.safetensors")
    assert torch.equal(load_learner(path, student, teacher=other)(pixels, NAMES), learner(pixels, NAMES))


def test_own_contexts_come_back(student, pixels, tmp_path):
    learner = moved(CoOp(student, n_ctx=2, classnames=NAMES))
    path = save_learner(learner, tmp_path / "x.safetensors")
    assert torch.equal(load_learner(path, student)(pixels, NAMES), learner(pixels, NAMES))


def test_another_model_is_refused_by_name(student, other, tmp_path):
    path = save_learner(CoOp(student), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="learned with emoji-student-vit and this model is emoji-student-rn"):
        load_learner(path, other)
    tuned = kd.VLM(student.model, student.preprocess, student.tokenizer, student.name, "tuned.pt")
    with pytest.raises(ValueError, match="this model is emoji-student-vit tuned.pt"):
        load_learner(path, tuned)


def test_what_is_no_learner_is_refused(student, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_learner(tmp_path / "nothing", student)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="import_checkpoint"):
        load_learner(tmp_path / "text", student)
    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(ValueError, match="holds no learner"):
        load_learner(tmp_path / "plain", student)


def test_two_files_of_weights_with_one_name_are_two_models(student, tmp_path):
    """Both are called weights.pt: only what is in them tells them apart."""
    one, two = (replace(student, pretrained="weights.pt", weights=digits) for digits in ("1f", "2e"))
    path = save_learner(CoOp(one), tmp_path / "learned.safetensors")
    load_learner(path, one)
    with pytest.raises(ValueError, match="learned with other weights"):
        load_learner(path, two)


def test_parameters_that_are_not_finite_are_neither_saved_nor_used(student, tmp_path):
    learner = CoOp(student)
    path = save_learner(learner, tmp_path / "x.safetensors")
    before = path.read_bytes()
    with torch.no_grad():
        learner.prompt.ctx[0, 0] = torch.nan
    with pytest.raises(ValueError, match="prompt.ctx in .* is not finite"):
        save_learner(learner, path)
    assert path.read_bytes() == before
