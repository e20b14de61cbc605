"""Learned prompts as files: kilobytes of safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..support.disk import write_whole
from ..support.version import __version__
from ..towers.text import text_tower
from ..train import Recipe
from ..vlm import VLM
from .base import Learner


def save_learner(learner: Learner, path: str | Path, recipe: Recipe | None = None) -> Path:
    """Write what was learned, and all that makes the learner again, as safetensors; whole or not at all.

    The header names the method, its settings, the model and weights it belongs to, their sizes, the recipe and the
    version of this library. There is no pickle in it.
    """
    header = {
        "learner": type(learner).__name__,
        "settings": json.dumps(learner.settings),
        "recipe": json.dumps(asdict(recipe or learner.recipe)),
    }
    return _write(learner.state_dict(), {**header, **_model_header(learner.vlm)}, path)


def load_learner(path: str | Path, vlm: VLM, **extra) -> Learner:
    """The learner of a file, on the model it was learned with.

    Args:
        extra: what no file can hold: ``teacher=`` for a PromptKD.

    Raises:
        ValueError: not such a file, or learned with another model.
    """
    header, tensors = _read(path, "learner")
    _check_model(header, vlm, path)
    kinds = {kind.__name__: kind for kind in _subclasses(Learner)}
    if header["learner"] not in kinds:
        raise ValueError(f"{path} holds a {header['learner']}, which is not known here: import the file defining it.")
    learner = kinds[header["learner"]](vlm, **json.loads(header["settings"]), **extra)
    learner.load_state_dict(tensors)
    return learner


def saved_recipe(path: str | Path) -> Recipe:
    """The recipe a learner was trained with."""
    values = json.loads(_read(path, "learner")[0]["recipe"])
    return Recipe(**{**values, "average": values["average"] and tuple(values["average"])})


# --- files and headers -----------------------------------------------------------------------------------------------


def _model_header(vlm: VLM) -> dict[str, str]:
    return {
        "model": vlm.name,
        "pretrained": vlm.pretrained or "",
        "weights": vlm.weights,
        **_sizes(vlm),
        "kdpl_utils": __version__,
    }


def _sizes(vlm: VLM) -> dict[str, str]:
    text_width = text_tower(vlm.model).token_embedding.weight.shape[1]
    return {"text width": str(text_width), "embedding": str(vlm.model.visual.output_dim)}


def _check_model(header: Mapping[str, str], vlm: VLM, path: str | Path) -> None:
    saved_model = (header["model"], header["pretrained"])
    given_model = (vlm.name, vlm.pretrained or "")
    saved_name = " ".join(filter(None, saved_model))
    if saved_model != given_model or any(header[key] != size for key, size in _sizes(vlm).items()):
        raise ValueError(
            f"{path} was learned with {saved_name} and this model is {' '.join(filter(None, given_model))}: prompts "
            f"belong to the model they were learned with; load {saved_name} with load_vlm."
        )
    # Files of weights may share a name. A model made by hand, and a file of an earlier version, do not say.
    saved_weights = header.get("weights", "")
    if saved_weights and vlm.weights and saved_weights != vlm.weights:
        raise ValueError(
            f"{path} was learned with other weights than these, which are also called {saved_name}: prompts belong to "
            "the weights they were learned with; load those."
        )


def _write(tensors: Mapping[str, Tensor], header: dict[str, str], path: str | Path) -> Path:
    ready = {key: t.detach().cpu().contiguous() for key, t in tensors.items()}
    return write_whole(path, lambda partial: save_file(ready, partial, header))


def _read(path: str | Path, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            header, tensors = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file; for a published checkpoint use import_checkpoint."
        ) from error
    if kind not in header:
        raise ValueError(f"{path} holds no {kind} written by this library: choose another file.")
    return header, tensors


def _subclasses(kind: type) -> set[type]:
    return {kind}.union(*(_subclasses(sub) for sub in kind.__subclasses__()))
