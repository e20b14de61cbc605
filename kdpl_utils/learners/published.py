"""Checkpoints of the published CoOp, CoCoOp, VPT, MaPLe and PromptSRC code as learners."""

from __future__ import annotations

import re
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
    saved = {re.sub(r"^prompt_learner\.", "", key): tensor for key, tensor in state.items()}
    visual = _layers(saved, "image_encoder.VPT", "image_encoder.transformer.resblocks.{}.VPT_shallow")
    if "proj.weight" in saved and "ctx" in saved:
        return _maple(saved, vlm, ctx_init, path)
    if "ctx" in saved and visual:
        deep = _layers(saved, "ctx", "text_encoder.transformer.resblocks.{}.VPT_shallow")
        sizes = {"n_ctx": len(saved["ctx"]), "depth": len(visual), "depth_text": len(deep)}
        learner = PromptSRC(vlm, **sizes, ctx_init=ctx_init)
        return fill(learner, {"ctx": deep[0], **_listed("deep", deep[1:]), **_listed("visual", visual)}, path)
    if visual:
        learner = VPT(vlm, n_ctx=len(visual[0]), depth=len(visual))
        return fill(learner, _listed("visual", visual), path)
    if "meta_net.linear1.weight" in saved:
        learner = CoCoOp(vlm, ctx_init=ctx_init)
        tensors = {key: tensor for key, tensor in saved.items() if key == "ctx" or key.startswith("meta_net.")}
        return fill(learner, tensors, path)
    if "ctx" in saved:
        if saved["ctx"].ndim == 3 and (classnames is None or len(classnames) != len(saved["ctx"])):
            raise ValueError(f"{path} has a context for each of {len(saved['ctx'])} classes: give their classnames.")
        own = classnames if saved["ctx"].ndim == 3 else None
        learner = CoOp(vlm, n_ctx=saved["ctx"].shape[-2], classnames=own)
        return fill(learner, {"prompt.ctx": saved["ctx"]}, path)
    raise ValueError(f"{path} holds no prompts of CoOp, CoCoOp, VPT, MaPLe or PromptSRC.")


def _maple(saved: Mapping[str, Tensor], vlm: VLM, ctx_init: str, path: str | Path) -> Learner:
    layers = sum(1 for key in saved if key.startswith("compound_prompts_text."))
    learner = MaPLe(vlm, n_ctx=len(saved["ctx"]), depth=layers + 1, ctx_init=ctx_init)
    theirs = {key: key for key in ("ctx", "proj.weight", "proj.bias")}  # our name → theirs
    for i in range(layers):
        theirs[f"deep.{i}"] = f"compound_prompts_text.{i}"
        for part in ("weight", "bias"):
            theirs[f"deep_proj.{i}.{part}"] = f"compound_prompt_projections.{i}.{part}"
    return fill(learner, {own: saved[key] for own, key in theirs.items() if key in saved}, path)


def _layers(saved: Mapping[str, Tensor], first: str, deeper: str) -> list[Tensor]:
    """The first layer's vectors, then those of layers 1, 2, … as far as there are any."""
    layers = [saved[first]] if first in saved else []
    while deeper.format(len(layers)) in saved and layers:
        layers.append(saved[deeper.format(len(layers))])
    return layers


def _listed(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{i}": t for i, t in enumerate(tensors)}


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
        others = [(_Inert, name) for name in get_unsafe_globals_in_checkpoint(path)]
        with safe_globals(others):
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


class _Inert:
    """Stands for every object that is not a tensor."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass
