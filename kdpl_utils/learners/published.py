"""Checkpoints of the published CoOp, CoCoOp, VPT, MaPLe and PromptSRC code as learners."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from ..clip.fast_text import text_tower
from ..support.disk import as_path
from ..vlm import VLM
from . import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptSRC
from .saving import fill

OUR_NAMES = (  # of tensors: those of the published code, as regular expressions → ours
    (r"^prompt_learner\.", ""),
    (r"^image_encoder\.VPT$", "visual.0"),
    (r"^image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow$", r"visual.\1"),
    (r"^text_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow$", lambda found: f"deep.{int(found[1]) - 1}"),
    (r"^compound_prompts_text\.", "deep."),
    (r"^compound_prompt_projections\.", "deep_proj."),
)


def import_checkpoint(
    path: str | Path, vlm: VLM, ctx_init: str = "a photo of a", classnames: Sequence[str] | None = None
) -> Learner:
    """A learner from a ``model.pth.tar-N`` of the published CoOp, CoCoOp, VPT, MaPLe or PromptSRC code.

    The names of the tensors tell the method. No code in the file can run.

    Args:
        vlm: the model it was learned with; what the file holds of CLIP is compared with it.
        ctx_init: the words it started from; MaPLe keeps those behind its vectors.
        classnames: for a CoOp with a context for each class, their names in order.

    Raises:
        ValueError: not such a checkpoint, or learned with another model.
    """
    state = _tensors_of(path)
    _check_backbone(state, vlm, path)
    saved = {}
    for key, tensor in state.items():
        for theirs, ours in OUR_NAMES:
            key = re.sub(theirs, ours, key)
        saved[key] = tensor
    learner = _learner_of(saved, vlm, ctx_init, classnames, path)
    return fill(learner, {key: saved[key] for key in learner.state_dict() if key in saved}, path)


def _learner_of(
    saved: dict[str, Tensor], vlm: VLM, ctx_init: str, classnames: Sequence[str] | None, path: str | Path
) -> Learner:
    """A fresh learner of the kind and size that the tensors, by our names, belong to."""
    depth = sum(key.startswith("visual.") and key[7:].isdigit() for key in saved)
    depth_text = 1 + sum(key.startswith("deep.") for key in saved)
    ctx = saved.get("ctx")
    if ctx is not None and "proj.weight" in saved:
        return MaPLe(vlm, n_ctx=len(ctx), depth=depth_text, ctx_init=ctx_init)
    if ctx is not None and depth:
        return PromptSRC(vlm, n_ctx=len(ctx), depth=depth, depth_text=depth_text, ctx_init=ctx_init)
    if depth:
        return VPT(vlm, n_ctx=len(saved["visual.0"]), depth=depth)
    if ctx is not None and "meta_net.linear1.weight" in saved:
        return CoCoOp(vlm, ctx_init=ctx_init)
    if ctx is None:
        raise ValueError(f"{path} holds no prompts of CoOp, CoCoOp, VPT, MaPLe or PromptSRC.")
    if ctx.ndim == 3 and (classnames is None or len(classnames) != len(ctx)):
        raise ValueError(f"{path} has a context for each of {len(ctx)} classes: give their classnames.")
    saved["prompt.ctx"] = ctx
    return CoOp(vlm, n_ctx=ctx.shape[-2], classnames=classnames if ctx.ndim == 3 else None)


def _check_backbone(state: Mapping[str, Tensor], vlm: VLM, path: str | Path) -> None:
    """MaPLe, VPT and PromptSRC checkpoints carry the whole CLIP: let it be this one, up to half precision."""
    own = {f"image_encoder.{key}": tensor for key, tensor in vlm.model.visual.state_dict().items()}
    own["text_encoder.positional_embedding"] = text_tower(vlm.model).positional_embedding
    for key in ("image_encoder.positional_embedding", "text_encoder.positional_embedding"):
        saved = state.get(key)
        mine = own.get(key)
        if saved is None:
            continue
        if mine is None or mine.shape != saved.shape or (saved - mine.cpu().float()).norm() > 0.02 * saved.norm():
            raise ValueError(
                f"{path} was learned with another CLIP than {vlm.name} {vlm.pretrained or ''} ({key} differs): load "
                "the model it was learned with."
            )


def _tensors_of(path: str | Path) -> dict[str, Tensor]:
    """The ``state_dict`` of a checkpoint, tensors in float32; ``weights_only`` runs no code of the file."""
    path = as_path(path)
    try:
        # A training also pickles its schedule, an object of some class: an inert one takes its place.
        # Its optimiser's state is a defaultdict, which becomes a plain dict.
        unsafe = get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []  # before PyTorch 1.6: none
        with safe_globals([(_new_dict if name == "collections.defaultdict" else _Inert, name) for name in unsafe]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        state = loaded.get("state_dict", loaded)
        tensors = {k: t for k, t in state.items() if isinstance(t, Tensor)}
    except OSError:
        raise
    except Exception as error:  # a pickle that is no checkpoint, or a TorchScript program, may raise any kind
        raise ValueError(
            f"{path} is not a PyTorch checkpoint with a state_dict, or is a program (TorchScript): nothing in it was "
            "run. Give the checkpoint that training wrote (model.pth.tar-N)."
        ) from error
    return {k.removeprefix("module."): t.float() if t.is_floating_point() else t for k, t in tensors.items()}


def _new_dict(*args) -> dict:
    return {}


class _Inert:
    """Stands for every object that is not a tensor."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass
