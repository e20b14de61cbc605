"""Learned prompts as files: kilobytes of safetensors."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from torch import Tensor

from ..prompts import PromptLearner
from ..support.disk import Damaged, as_path, json_of
from ..support.tensors import check_finite, read_tensors, write_tensors
from ..support.version import __version__
from ..towers.text import text_tower
from ..towers.words import as_spelled
from ..train import Recipe
from ..vlm import VLM, check_names
from .base import Learner


def save_learner(
    learner: Learner, path: str | Path, recipe: Recipe | None = None, classnames: Sequence[str] | None = None
) -> Path:
    """Write what was learned, and all that makes the learner again, as safetensors; whole or not at all.

    The header names the method, its settings, the model and weights it belongs to, their sizes, the recipe and the
    version of this library. There is no pickle in it.

    Args:
        classnames: what it was learned with, for whoever finds the file; other names can be used all the same.

    Raises:
        ValueError: something in it is not finite; a file that was there stays.
    """
    check_finite(learner.state_dict(), f"The {type(learner).__name__} that was to be saved as {path}")
    header = {
        "learner": type(learner).__name__,
        "settings": json.dumps(learner.settings),
        "recipe": json.dumps(asdict(recipe or learner.recipe)),
    }
    if classnames is not None:
        header["classnames"] = json.dumps(as_spelled(classnames))
    if hasattr(learner, "teacher"):
        header["teacher"] = json.dumps(learner.teacher.identity)
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
    kind, settings = kinds[header["learner"]], json_field(header, "settings", dict, path)
    if missing := sorted(_needs(kind) - settings.keys() - extra.keys()):
        raise ValueError(f"{path} holds a {kind.__name__}, and no file can hold its {missing[0]}: give {missing[0]}=….")
    if unknown := sorted(settings.keys() - _takes(kind)):
        raise ValueError(
            f"{path} has the setting {unknown[0]!r}, which a {kind.__name__} does not take: it was changed."
        )
    if "teacher" in header and "teacher" in extra:
        _check_teacher(json_field(header, "teacher", list, path), extra["teacher"], path)
    try:
        learner = kind(vlm, **settings, **extra)
    except ValueError as error:
        raise ValueError(f"{path} is a {kind.__name__} that does not fit {vlm.name}: {error}") from error
    return fill(learner, tensors, path)


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
    if whole := [key for key, t in tensors.items() if own[key].is_floating_point() and not t.is_floating_point()]:
        raise ValueError(f"{path} has whole numbers ({tensors[whole[0]].dtype}) as {whole[0]}: write it again.")
    check_finite(tensors, str(path))
    learner.load_state_dict({key: t.to(own[key]) for key, t in tensors.items()})
    return learner


def _takes(kind: type[Learner]) -> set[str]:
    """The settings of a learner; CoOp hands its own on to ``PromptLearner``."""
    parameters = inspect.signature(kind).parameters
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return set(parameters) | (set(inspect.signature(PromptLearner).parameters) if passes_on else set())


def _needs(kind: type[Learner]) -> set[str]:
    parameters = inspect.signature(kind).parameters.values()
    named = (p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "vlm")
    return {p.name for p in named if p.default is p.empty}


def saved_recipe(path: str | Path) -> Recipe:
    """The recipe a learner was trained with."""
    values = json_field(_read(path, "learner")[0], "recipe", dict, path)
    if unknown := sorted(values.keys() - {field.name for field in fields(Recipe)}):
        raise ValueError(f"{path} has {unknown[0]!r} in its recipe, which no recipe has: it was changed.")
    try:
        return Recipe(**values)
    except ValueError as error:
        raise ValueError(f"{path} has a recipe that is none: {error}") from error


def saved_names(path: str | Path) -> list[str] | None:
    """The class names that a learner was trained with; None where its file does not say."""
    header, _ = _read(path, "learner")
    return list(check_names(json_field(header, "classnames", list, path))) if "classnames" in header else None


def holds(path: str | Path, kind: str) -> bool:
    """Whether a file holds a ``"learner"`` or a ``"classifier"`` that this library wrote."""
    try:
        _read(path, kind)
    except (ValueError, OSError):
        return False
    return True


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
    saved_model = (field_of(header, "model", path), field_of(header, "pretrained", path))
    given_model = (vlm.name, vlm.pretrained or "")
    saved_name = " ".join(filter(None, saved_model))
    if saved_model != given_model or any(field_of(header, key, path) != size for key, size in _sizes(vlm).items()):
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


def _check_teacher(saved: list, teacher: VLM, path: str | Path) -> None:
    """Another teacher of the same width would be taken without a word, and its classes lie elsewhere."""
    if saved[:2] != list(teacher.identity[:2]):
        other = ", whose weights are others" if saved[0] == teacher.name else f", not {teacher.name}"
        raise ValueError(f"{path} names its classes by the text features of {saved[0]}{other}: give that teacher.")


def _write(tensors: Mapping[str, Tensor], header: dict[str, str], path: str | Path) -> Path:
    return write_tensors(as_path(path), tensors, header)


def _read(path: str | Path, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as file:
        beginning = file.read(9)
    # An archive of PyTorch's, or a bare pickle. Safetensors may begin alike, with their header's length, then "{".
    if beginning.startswith((b"PK\x03\x04", b"\x80")) and beginning[8:] != b"{":
        raise ValueError(
            f"{path} is a pickle or an archive, not a safetensors file: it was not opened, as it may hold code; for a "
            "published checkpoint use import_checkpoint."
        )
    try:
        header, tensors = read_tensors(path)
    except Damaged as error:
        raise ValueError(
            f"{path} is not a safetensors file, or is cut short or changed: fetch it again; for a published checkpoint "
            "use import_checkpoint."
        ) from error
    if kind not in header:
        raise ValueError(f"{path} holds no {kind} written by this library: choose another file.")
    return header, tensors


def field_of(header: Mapping[str, str], field: str, path: str | Path) -> str:
    """A field of a file's header.

    Raises:
        ValueError: it is not there.
    """
    if field not in header:
        raise ValueError(f"{path} has no {field!r} in its header: another program changed it; write it again.")
    return header[field]


def json_field(header: Mapping[str, str], field: str, kind: type, path: str | Path):
    """A field of a file's header that holds JSON of one kind.

    Raises:
        ValueError: it is not there, or is something else.
    """
    content = field_of(header, field, path)
    try:
        value = json_of(content)
    except ValueError as error:
        raise ValueError(f"{path} has a {field!r} in its header that is no JSON: write it again.") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path} has a {type(value).__name__} as {field!r} in its header: write it again.")
    return value


def _subclasses(kind: type) -> set[type]:
    return {kind}.union(*(_subclasses(sub) for sub in kind.__subclasses__()))
