"""Learned prompts as files: kilobytes of safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ..clip.fast_text import text_tower
from ..support.disk import DamagedError, as_path, read_tensors, write_tensors
from ..support.version import __version__
from ..train import Recipe
from ..vlm import VLM
from .base import Learner


def save_learner(
    learner: Learner, path: str | Path, recipe: Recipe | None = None, classnames: Sequence[str] | None = None
) -> Path:
    """Write what was learned, and all that makes the learner again, as safetensors.

    The header names the method, its settings, the model and weights it belongs to, their sizes, the recipe and the
    version of this library. There is no pickle in it.

    Args:
        classnames: the classes it was learned with, as a record; it can be used with other names.

    Raises:
        ValueError: a parameter is not finite; a file that was there stays.
    """
    check_finite(learner.state_dict(), path)
    header = {
        "learner": type(learner).__name__,
        "settings": json.dumps(learner.settings),
        "recipe": json.dumps(asdict(recipe or learner.recipe)),
        **model_header(learner.vlm),
    }
    if classnames is not None:
        header["classnames"] = json.dumps(list(classnames))
    if hasattr(learner, "teacher"):
        header["teacher"] = json.dumps(learner.teacher.identity)
    return write_tensors(as_path(path), learner.state_dict(), header)


def load_learner(path: str | Path, vlm: VLM, **extra) -> Learner:
    """The learner of a file, on the model it was learned with.

    Args:
        extra: what no file can hold: ``teacher=`` for a PromptKD.

    Raises:
        ValueError: not such a file, or learned with another model or other weights.
    """
    header, tensors = read_header(path, "learner")
    check_model(header, vlm, path)
    kinds = {kind.__name__: kind for kind in _subclasses(Learner)}
    if header["learner"] not in kinds:
        raise ValueError(f"{path} holds a {header['learner']}, which is not known here: import the file defining it.")
    kind = kinds[header["learner"]]
    if "teacher" in header:
        if "teacher" not in extra:
            raise ValueError(f"{path} holds a {kind.__name__}, and no file can hold its teacher: give teacher=….")
        saved = json.loads(header["teacher"])
        if saved[:2] != list(extra["teacher"].identity[:2]):
            raise ValueError(f"{path} uses the text features of {saved[0]} as its classes: give that teacher.")
    return fill(kind(vlm, **json.loads(header["settings"]), **extra), tensors, path)


def fill(learner: Learner, tensors: Mapping[str, Tensor], path: str | Path) -> Learner:
    """The learner with the tensors of a file.

    Raises:
        ValueError: other tensors than its own, or numbers that are not finite.
    """
    own = learner.state_dict()
    wanted = {key: tuple(t.shape) for key, t in own.items()}
    given = {key: tuple(t.shape) for key, t in tensors.items()}
    if wrong := sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key)):
        raise ValueError(
            f"{path} is a {type(learner).__name__} of another model than {learner.vlm.name}: {wrong[0]} is "
            f"{given.get(wrong[0])} there and {wanted.get(wrong[0])} here."
        )
    check_finite(tensors, path)
    learner.load_state_dict({key: t.to(own[key]) for key, t in tensors.items()})
    return learner


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse parameters that are not finite: every prediction would be the first class."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} in {path} is not finite: train again, with a lower learning rate.")


def saved_recipe(path: str | Path) -> Recipe:
    """The recipe a learner was trained with."""
    recipe = json.loads(read_header(path, "learner")[0]["recipe"])
    recipe["average"] = recipe["average"] and tuple(recipe["average"])
    return Recipe(**recipe)


def saved_names(path: str | Path) -> list[str] | None:
    """The class names that a learner was trained with; None where its file does not say."""
    header, _ = read_header(path, "learner")
    return json.loads(header["classnames"]) if "classnames" in header else None


def holds(path: str | Path, kind: str) -> bool:
    """Whether a file holds a ``"learner"`` or a ``"classifier"`` that this library wrote."""
    try:
        read_header(path, kind)
    except (ValueError, OSError):
        return False
    return True


# --- headers ---------------------------------------------------------------------------------------------------------


def model_header(vlm: VLM) -> dict[str, str]:
    """Which model and weights a file belongs to."""
    return {
        "model": vlm.name,
        "pretrained": vlm.pretrained or "",
        "weights": vlm.weights,
        "text width": str(text_tower(vlm.model).token_embedding.weight.shape[1]),
        "embedding": str(vlm.model.visual.output_dim),
        "kdpl_utils": __version__,
    }


def check_model(header: Mapping[str, str], vlm: VLM, path: str | Path) -> None:
    """Refuse a file of another model, or of other weights that are called the same."""
    own = model_header(vlm)
    if any(header.get(key) != own[key] for key in ("model", "pretrained", "text width", "embedding")):
        given = f"{vlm.name} {vlm.pretrained or ''}".strip()
        saved = f"{header.get('model')} {header.get('pretrained')}".strip()
        raise ValueError(
            f"{path} was learned with {saved} and this model is {given}: prompts belong to the model they were learned "
            f"with; load {saved} with load_vlm."
        )
    if header.get("weights") and vlm.weights and header["weights"] != vlm.weights:
        raise ValueError(
            f"{path} was learned with other weights of {vlm.name} than these: prompts belong to the weights they were "
            "learned with; load those."
        )


def read_header(path: str | Path, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file that has ``kind`` in its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not written by this library, or damaged.
    """
    path = as_path(path)
    try:
        header, tensors = read_tensors(path)
    except DamagedError as error:
        raise ValueError(f"{error} For a published checkpoint, which is a pickle, use import_checkpoint.") from error
    if kind not in header:
        raise ValueError(f"{path} holds no {kind} written by this library: choose another file.")
    return header, tensors


def _subclasses(kind: type) -> set[type]:
    return {kind}.union(*(_subclasses(sub) for sub in kind.__subclasses__()))
