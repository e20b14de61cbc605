"""Checkpoints of the published CoOp, CoCoOp, VPT, MaPLe and PromptSRC code as learners."""

from __future__ import annotations

import pickle
import re
import types
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..support.disk import as_path
from ..towers.text import text_tower
from ..vlm import VLM
from . import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptSRC
from .saving import fill


def import_checkpoint(
    path: str | Path, vlm: VLM, ctx_init: str = "a photo of a", classnames: Sequence[str] | None = None
) -> Learner:
    """A learner from a ``model.pth.tar-N`` of the published CoOp, CoCoOp, VPT, MaPLe or PromptSRC code.

    The method is told from the names of the tensors. Only tensors are read: whatever else the pickle holds (an
    optimizer, a schedule) is skipped, and no code in it can run. A TorchScript archive, which is a program, is refused.

    Args:
        vlm: the model it was learned with; what the file holds of CLIP is compared with it.
        ctx_init: the words it started from; MaPLe keeps those behind its vectors.
        classnames: for a CoOp with a context for each class, their names in order.

    Raises:
        ValueError: not such a checkpoint, a TorchScript archive, or learned with another model.
    """
    state = _tensors_of(path)
    _check_backbone(state, vlm, path)
    saved = {re.sub(r"^prompt_learner\.", "", key): tensor for key, tensor in state.items()}
    for frozen_words in ("token_prefix", "token_suffix"):
        saved.pop(frozen_words, None)
    visual = _layers(saved, "image_encoder.VPT", "image_encoder.transformer.resblocks.{}.VPT_shallow")
    vectors = [saved[key] for key in ("ctx", "image_encoder.VPT") if key in saved]
    if any(tensor.ndim not in (2, 3) for tensor in vectors):
        raise ValueError(
            f"{path} holds vectors of shape {tuple(vectors[0].shape)}, which are no context: fetch it again."
        )
    if "proj.weight" in saved and "ctx" in saved:
        return _maple(saved, vlm, ctx_init, path)
    if "ctx" in saved and visual:
        deep = _layers(saved, "ctx", "text_encoder.transformer.resblocks.{}.VPT_shallow")
        sizes = {"n_ctx": len(saved["ctx"]), "depth": len(visual), "depth_text": len(deep)}
        learner = _make(PromptSRC, path, vlm, **sizes, ctx_init=ctx_init)
        return fill(learner, {"ctx": deep[0], **_listed("deep", deep[1:]), **_listed("visual", visual)}, path)
    if visual:
        learner = _make(VPT, path, vlm, n_ctx=len(visual[0]), depth=len(visual))
        return fill(learner, _listed("visual", visual), path)
    if "meta_net.linear1.weight" in saved:
        learner = _make(CoCoOp, path, vlm, ctx_init=ctx_init)
        tensors = {key: tensor for key, tensor in saved.items() if key == "ctx" or key.startswith("meta_net.")}
        return fill(learner, tensors, path)
    if "ctx" in saved:
        if saved["ctx"].ndim == 3 and (classnames is None or len(classnames) != len(saved["ctx"])):
            raise ValueError(f"{path} has a context for each of {len(saved['ctx'])} classes: give their classnames.")
        own = classnames if saved["ctx"].ndim == 3 else None
        learner = _make(CoOp, path, vlm, n_ctx=saved["ctx"].shape[-2], classnames=own)
        return fill(learner, {"prompt.ctx": saved["ctx"]}, path)
    raise ValueError(f"{path} holds no prompts of CoOp, CoCoOp, VPT, MaPLe or PromptSRC.")


def _maple(saved: Mapping[str, Tensor], vlm: VLM, ctx_init: str, path: str | Path) -> Learner:
    layers = sum(1 for key in saved if key.startswith("compound_prompts_text."))
    learner = _make(MaPLe, path, vlm, n_ctx=len(saved["ctx"]), depth=layers + 1, ctx_init=ctx_init)
    theirs = {key: key for key in ("ctx", "proj.weight", "proj.bias")}  # our name → theirs
    for i in range(layers):
        theirs[f"deep.{i}"] = f"compound_prompts_text.{i}"
        for part in ("weight", "bias"):
            theirs[f"deep_proj.{i}.{part}"] = f"compound_prompt_projections.{i}.{part}"
    return fill(learner, {own: saved[key] for own, key in theirs.items() if key in saved}, path)


def _make(kind: type[Learner], path: str | Path, vlm: VLM, **settings) -> Learner:
    try:
        return kind(vlm, **settings)
    except ValueError as error:
        raise ValueError(f"{path} is a {kind.__name__} that does not fit {vlm.name}: {error}") from error


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
    text = text_tower(vlm.model)
    pairs = {
        "image_encoder.class_embedding": getattr(vlm.model.visual, "class_embedding", None),
        "image_encoder.positional_embedding": getattr(vlm.model.visual, "positional_embedding", None),
        "text_encoder.positional_embedding": text.positional_embedding,
    }
    for key, own_weight in pairs.items():
        if key in state:
            saved_weight = state[key].double()
            near = own_weight is not None and saved_weight.shape == own_weight.shape
            if not near or (saved_weight - own_weight.detach().cpu().double()).norm() > 0.02 * saved_weight.norm():
                raise ValueError(
                    f"{path} was learned with another CLIP than {vlm.name} {vlm.pretrained or ''}".rstrip()
                    + f" ({key} differs): load the model it was learned with."
                )


def _tensors_of(path: str | Path) -> dict[str, Tensor]:
    """The ``state_dict`` of a checkpoint, tensors in float32."""
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        _refuse_programs(path)
        loaded = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_TENSORS_ONLY)
    except _Program:
        raise
    except Exception as error:  # of what is no checkpoint, a pickle may raise any
        raise ValueError(f"{path} is not a PyTorch checkpoint, or is cut short: fetch it again.") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    named = state.items() if isinstance(state, dict) else ()
    tensors = {k: t for k, t in named if isinstance(k, str) and isinstance(t, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no state_dict of tensors.")
    return {k.removeprefix("module."): t.float() if t.is_floating_point() else t for k, t in tensors.items()}


class _Program(ValueError):
    """A file that is run when it is read."""


def _refuse_programs(path: str | Path) -> None:
    """Refuse what ``torch.load`` would hand to ``torch.jit.load``, past every ``pickle_module``, before it is loaded.

    The archive is listed by the reader that ``torch.load`` itself uses: another one may see other entries in it.
    """
    with Path(path).open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # not an archive: a pickle of before PyTorch 1.6
            return
    entries = torch._C.PyTorchFileReader(str(path)).get_all_records()
    if any(entry == "constants.pkl" or entry.startswith("code/") for entry in entries):
        raise _Program(
            f"{path} is a TorchScript archive, a program that runs when it is loaded: it was not loaded. Give the "
            "checkpoint that training wrote (model.pth.tar-N)."
        )


class _Inert:
    """Stands for every object that is not a tensor: takes anything, does nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def extend(self, items):
        pass


class _TensorsOnly(pickle.Unpickler):
    """Rebuilds tensors and plain containers; whatever else a pickle names is never looked up, let alone run."""

    ALLOWED = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        ("torch", "Size"): torch.Size,
    }

    def find_class(self, module: str, name: str):
        return self.ALLOWED.get((module, name), _Inert)


_TENSORS_ONLY = types.SimpleNamespace(
    __name__="tensors only",
    Unpickler=_TensorsOnly,
    load=lambda file, **options: _TensorsOnly(file, **options).load(),
)
