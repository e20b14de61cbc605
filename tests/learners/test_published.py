"""Published checkpoints come in without running code."""

import pickle

import pytest
import torch
from oracle import moved

from kdpl_utils.learners import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptSRC
from kdpl_utils.learners.published import import_checkpoint
from kdpl_utils.vlm import VLM

NAMES = ["sushi", "hot dog", "ice cream"]
KINDS = [CoOp, CoCoOp, VPT, MaPLe, PromptSRC]


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
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    extra = {"optimizer": optimizer.state_dict(), "scheduler": {"successor": schedule}, "val_result": None}
    torch.save({"state_dict": state, "epoch": 5, **extra}, path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_published_checkpoints_give_the_same_logits(kind, student, pixels, tmp_path):
    learner, path = moved(kind(student)), tmp_path / "model.pth.tar-5"
    write_published(learner, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = import_checkpoint(path, student)
    assert type(found) is kind
    torch.testing.assert_close(found(pixels, NAMES), learner(pixels, NAMES), atol=1e-5, rtol=1e-5)


def test_published_own_contexts(student, pixels, tmp_path):
    learner = moved(CoOp(student, n_ctx=2, classnames=NAMES))
    write_published(learner, tmp_path / "x")
    with pytest.raises(ValueError, match="context for each of 3 classes: give their classnames"):
        import_checkpoint(tmp_path / "x", student)
    found = import_checkpoint(tmp_path / "x", student, classnames=NAMES)
    torch.testing.assert_close(found(pixels, NAMES), learner(pixels, NAMES))


def test_half_precision_prompts_become_float32(student, tmp_path):
    torch.save({"state_dict": {"ctx": torch.ones(4, 128, dtype=torch.float16)}}, tmp_path / "x")
    assert import_checkpoint(tmp_path / "x", student).prompt.ctx.dtype is torch.float32


class Harmful:
    def __reduce__(self):
        import os

        return os.system, ("touch harmed",)


def test_no_code_runs(student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"ctx": torch.ones(4, 128)}, "scheduler": Harmful()}, tmp_path / "x")
    with pytest.raises(ValueError, match="nothing in it was run"):
        import_checkpoint(tmp_path / "x", student)
    assert not (tmp_path / "harmed").exists()
    torch.load(tmp_path / "x", weights_only=False)  # the control: the file does harm where it may
    assert (tmp_path / "harmed").exists()


def test_checkpoints_that_do_not_fit_are_refused(student, other, tmp_path):
    path = tmp_path / "x"
    write_published(moved(VPT(student)), path)
    with pytest.raises(ValueError, match="learned with another CLIP than emoji-student-rn"):
        import_checkpoint(path, other)
    torch.save({"state_dict": {"ctx": torch.ones(4, 512)}}, path)
    with pytest.raises(ValueError, match=r"prompt.ctx is \(4, 512\) there and \(4, 128\) here"):
        import_checkpoint(path, student)
    torch.save({"state_dict": {"fc.weight": torch.ones(4, 512)}}, path)
    with pytest.raises(ValueError, match="holds no prompts of CoOp"):
        import_checkpoint(path, student)
    torch.save({"state_dict": {"epoch": 5}}, path)
    with pytest.raises(ValueError, match="not a PyTorch checkpoint|holds no prompts"):
        import_checkpoint(path, student)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        import_checkpoint(tmp_path / "nowhere", student)
    write_published(moved(CoOp(student)), path)
    foreign = VLM(student.model, student.preprocess, lambda texts: None, "foreign")
    with pytest.raises(ValueError, match="text tower of foreign is not CLIP's"):
        import_checkpoint(path, foreign)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        import_checkpoint(path, student)
