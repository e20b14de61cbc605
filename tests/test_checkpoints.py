"""Learned prompts survive the disk, refuse other models, and published checkpoints come in without running code."""

import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import kdpl_utils as kd
from kdpl_utils import checkpoints as ck
from kdpl_utils.learners import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptKD, PromptSRC
from kdpl_utils.vlm import Pixels

NAMES = ["sushi", "hot dog", "ice cream"]
KINDS = [CoOp, CoCoOp, VPT, MaPLe, PromptSRC]


@pytest.fixture(scope="module")
def student():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture(scope="module")
def other():
    return kd.load_vlm("emoji-student-rn", device="cpu")


@pytest.fixture(scope="module")
def pictures():
    return kd.load_world("emoji").test.images[:3]


@pytest.fixture(scope="module")
def pixels(student, pictures):
    return Pixels(student, pictures)[:]


def moved(learner: Learner) -> Learner:
    """Away from the start, as if it had been trained."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return learner


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_round_trip(kind, student, pixels, tmp_path):
    learner, recipe = moved(kind(student)), kd.Recipe(epochs=3, average=(2, 1))
    path = ck.save_learner(learner, tmp_path / "learned.safetensors", recipe)
    again = ck.load_learner(path, student)
    assert type(again) is kind and again.settings == learner.settings and ck.saved_recipe(path) == recipe
    assert torch.equal(again(pixels, NAMES), learner(pixels, NAMES))
    with safe_open(path, "pt") as file:
        header = file.metadata()
        assert set(file.keys()) == set(learner.state_dict())  # nothing of CLIP
    assert header["model"] == "emoji-student-vit" and header["kdpl_utils"] == kd.__version__
    assert [p.name for p in tmp_path.iterdir()] == ["learned.safetensors"]


def test_coop_is_kilobytes(student, tmp_path):
    assert ck.save_learner(CoOp(student), tmp_path / "x.safetensors").stat().st_size < 4096


def test_promptkd_needs_its_teacher_again(student, other, pixels, tmp_path):
    learner = moved(PromptKD(student, other))
    path = ck.save_learner(learner, tmp_path / "x.safetensors")
    assert torch.equal(ck.load_learner(path, student, teacher=other)(pixels, NAMES), learner(pixels, NAMES))


def test_own_contexts_come_back(student, pixels, tmp_path):
    learner = moved(CoOp(student, n_ctx=2, classnames=NAMES))
    path = ck.save_learner(learner, tmp_path / "x.safetensors")
    assert torch.equal(ck.load_learner(path, student)(pixels, NAMES), learner(pixels, NAMES))


def test_another_model_is_refused_by_name(student, other, tmp_path):
    path = ck.save_learner(CoOp(student), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="learned with emoji-student-vit and this model is emoji-student-rn"):
        ck.load_learner(path, other)
    tuned = kd.VLM(student.model, student.preprocess, student.tokenizer, student.name, "tuned.pt")
    with pytest.raises(ValueError, match="this model is emoji-student-vit tuned.pt"):
        ck.load_learner(path, tuned)


def test_what_is_no_learner_is_refused(student, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        ck.load_learner(tmp_path / "nothing", student)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="not a safetensors file"):
        ck.load_learner(tmp_path / "text", student)
    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(ValueError, match="holds no learner"):
        ck.load_learner(tmp_path / "plain", student)


def test_a_failed_write_leaves_the_old_file(student, tmp_path, monkeypatch):
    path = ck.save_learner(CoOp(student), tmp_path / "x.safetensors")
    before = path.read_bytes()

    def fail(tensors, partial, header):
        partial.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(ck, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        ck.save_learner(moved(CoOp(student)), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [CoOp, VPT, MaPLe, PromptSRC], ids=lambda k: k.__name__)
def test_exported_classifier(kind, student, pixels, pictures, tmp_path):
    learner = moved(kind(student))
    path = ck.export_classifier(learner, NAMES, tmp_path / "c.safetensors")
    classifier = ck.load_classifier(path, student)
    torch.testing.assert_close(classifier(pixels), learner(pixels, NAMES).detach(), atol=1e-5, rtol=1e-5)
    named = classifier.predict(pictures, k=2)
    assert named == [[(n, pytest.approx(p, abs=1e-5)) for n, p in row] for row in learner.predict(pictures, NAMES, 2)]
    assert [row[0][0] for row in named] == [NAMES[i] for i in learner(pixels, NAMES).argmax(1).tolist()]
    assert all(row[0][1] >= row[1][1] for row in named)


def test_text_features_elsewhere(student, pixels, tmp_path):
    """The formula of the docstring, without this library."""
    learner = moved(CoOp(student))
    path = ck.export_classifier(learner, NAMES, tmp_path / "c.safetensors")
    with safe_open(path, "pt") as file:
        text, scale = file.get_tensor("text"), float(file.metadata()["logit_scale_exp"])
    plain = scale * student.model.encode_image(pixels, normalize=True) @ text.T
    torch.testing.assert_close(plain, learner(pixels, NAMES), atol=1e-5, rtol=1e-5)


def test_a_classifier_that_depends_on_the_image_is_refused(student, other, tmp_path):
    for learner in (CoCoOp(student), PromptKD(student, other)):
        with pytest.raises(ValueError, match="no fixed text features"):
            ck.export_classifier(learner, NAMES, tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


# --- published layouts, as method after method writes them -----------------------------------------------------------


def clip_state(model) -> dict:
    """What MaPLe, VPT and PromptSRC checkpoints hold of CLIP besides the prompts, in half precision as published."""
    state = {f"image_encoder.{k}": t.half() for k, t in model.visual.state_dict().items()}
    state["text_encoder.positional_embedding"] = model.positional_embedding.half()
    return {**state, "logit_scale": model.logit_scale}


def published(learner: Learner) -> dict:
    ctx = {"token_prefix": torch.zeros(3, 1, 128), "token_suffix": torch.zeros(3, 35, 128)}
    if isinstance(learner, CoOp):
        return {"ctx": learner.prompt.ctx, **ctx}
    if isinstance(learner, CoCoOp):
        return {"ctx": learner.ctx, **{f"meta_net.{k}": t for k, t in learner.meta_net.state_dict().items()}, **ctx}
    clip = clip_state(learner.vlm.model)
    if isinstance(learner, MaPLe):
        mine = {"ctx": learner.ctx, **{f"proj.{k}": t for k, t in learner.proj.state_dict().items()}, **ctx}
        for i, (deep, proj) in enumerate(zip(learner.deep, learner.deep_proj)):
            mine[f"compound_prompts_text.{i}"] = deep
            mine |= {f"compound_prompt_projections.{i}.{k}": t for k, t in proj.state_dict().items()}
        return {**{f"prompt_learner.{k}": t for k, t in mine.items()}, **clip}
    blocks = {f"image_encoder.transformer.resblocks.{i}.VPT_shallow": t for i, t in enumerate(learner.visual) if i}
    state = {"image_encoder.VPT": learner.visual[0], **blocks, **clip}
    if isinstance(learner, PromptSRC):
        deep = {f"text_encoder.transformer.resblocks.{i + 1}.VPT_shallow": t for i, t in enumerate(learner.deep)}
        state = {"prompt_learner.ctx": learner.ctx, **deep, **state}
    return state


def write_published(learner: Learner, path) -> None:
    """As Dassl does: the scheduler is pickled with its optimizer, so that weights_only refuses the file."""
    state = {k: t.detach() for k, t in published(learner).items()}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    extra = {"optimizer": optimizer.state_dict(), "scheduler": {"successor": schedule}, "val_result": None}
    torch.save({"state_dict": state, "epoch": 5, **extra}, path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_published_checkpoints_give_the_same_logits(kind, student, pixels, tmp_path):
    learner, path = moved(kind(student)), tmp_path / "model.pth.tar-5"
    write_published(learner, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = ck.import_checkpoint(path, student)
    assert type(found) is kind
    torch.testing.assert_close(found(pixels, NAMES), learner(pixels, NAMES), atol=1e-5, rtol=1e-5)


def test_published_own_contexts(student, pixels, tmp_path):
    learner = moved(CoOp(student, n_ctx=2, classnames=NAMES))
    write_published(learner, tmp_path / "x")
    with pytest.raises(ValueError, match="context for each of 3 classes: give their classnames"):
        ck.import_checkpoint(tmp_path / "x", student)
    found = ck.import_checkpoint(tmp_path / "x", student, classnames=NAMES)
    torch.testing.assert_close(found(pixels, NAMES), learner(pixels, NAMES))


def test_half_precision_prompts_become_float32(student, tmp_path):
    torch.save({"state_dict": {"ctx": torch.ones(4, 128, dtype=torch.float16)}}, tmp_path / "x")
    assert ck.import_checkpoint(tmp_path / "x", student).prompt.ctx.dtype is torch.float32


class Harmful:
    def __reduce__(self):
        import os

        return os.system, ("touch harmed",)


def test_no_code_runs(student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"ctx": torch.ones(4, 128)}, "scheduler": Harmful()}, tmp_path / "x")
    assert isinstance(ck.import_checkpoint(tmp_path / "x", student), CoOp)
    assert not (tmp_path / "harmed").exists()
    torch.load(tmp_path / "x", weights_only=False)  # the control: the file does harm where it may
    assert (tmp_path / "harmed").exists()


def test_checkpoints_that_do_not_fit_are_refused(student, other, tmp_path):
    path = tmp_path / "x"
    write_published(moved(VPT(student)), path)
    with pytest.raises(ValueError, match="learned with another CLIP than emoji-student-rn"):
        ck.import_checkpoint(path, other)
    torch.save({"state_dict": {"ctx": torch.ones(4, 512)}}, path)
    with pytest.raises(ValueError, match=r"prompt.ctx is \(4, 512\) there and \(4, 128\) here"):
        ck.import_checkpoint(path, student)
    torch.save({"state_dict": {"fc.weight": torch.ones(4, 512)}}, path)
    with pytest.raises(ValueError, match="holds no prompts of CoOp"):
        ck.import_checkpoint(path, student)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        ck.import_checkpoint(path, student)
