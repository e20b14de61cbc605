"""Sentences around class names: the same for all, or some of their own for each (as CuPL's prompt files have them)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..support.disk import as_path, json_of
from .words import SPECIAL, check_templates, cleaned

# Sentences with ``{}`` for all names; or a dict from names to sentences, or the path of a JSON file that holds one.
Templates = Sequence[str] | Mapping[str, Sequence[str]] | str | Path


def as_templates(templates: Templates) -> tuple[str, ...] | dict[str, list[str]]:
    """The sentences, checked, read from a file where it is the path of one; names with underscores as spaces.

    Raises:
        ValueError: no sentences, or none that a name could stand in.
        FileNotFoundError: there is no such file.
    """
    is_path = isinstance(templates, Path) or (isinstance(templates, str) and templates.endswith(".json"))
    if not is_path:
        return _by_name(templates) if isinstance(templates, Mapping) else check_templates(templates)
    path = as_path(templates)
    found = _read(path)
    try:
        return _by_name(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _by_name(found: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    if not found:
        raise ValueError("The dict of sentences is empty: give at least one class name with its sentences.")
    by_name: dict[str, list[str]] = {}
    for name, sentences in found.items():
        spaced = str(name).replace("_", " ")
        if spaced in by_name:
            raise ValueError(f"The name {spaced!r} has sentences twice, with and without underscores: keep one.")
        by_name[spaced] = _checked(name, sentences)
    return by_name


def sentences_of(
    names: Sequence[str], templates: tuple[str, ...] | dict[str, list[str]], general: str
) -> list[list[str]]:
    """The sentences of each name; ``general`` with the name in it for those that a dict lacks, with a warning."""
    if not isinstance(templates, Mapping):
        return [[template.format(name) for template in templates] for name in names]
    lacking = [name for name in names if name not in templates]
    if lacking:
        some = ", ".join(lacking[:5]) + (" …" if len(lacking) > 5 else "")
        warnings.warn(
            f"{len(lacking)} of {len(names)} class names have no sentences of their own and get {general!r}: {some}.",
            stacklevel=4,
        )
    return [[s.replace("{}", name) for s in templates.get(name, [general])] for name in names]


def _checked(name: str, sentences: object) -> list[str]:
    if isinstance(sentences, str) or not isinstance(sentences, Sequence) or not sentences:
        raise ValueError(f"The sentences of {name!r} are {sentences!r}: give a list of at least one.")
    for sentence in sentences:
        if not isinstance(sentence, str) or not sentence.strip():
            raise ValueError(f"{sentence!r} is no sentence of {name!r}: give text.")
        if any(special in cleaned(sentence) for special in SPECIAL):
            raise ValueError(f"The sentence {sentence!r} holds a mark of CLIP's own, which ends it: leave it out.")
    return list(sentences)


def _read(path: Path) -> Mapping[str, Sequence[str]]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give a JSON file from class names to lists of sentences.")
    try:
        found = json_of(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}): write a dict from class names to lists of sentences."
        ) from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds no dict: write one from class names to lists of sentences.")
    return found
