"""Naming what is in pictures, one after another: many cost no more memory than one, and a broken one costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from ..learners.base import predict
from ..learners.classifier import load_classifier, model_of
from ..learners.saving import holds, load_learner, saved_names
from ..loading import load_vlm
from ..support.disk import as_path
from ..support.pictures import open_picture
from ..support.prefetch import ahead
from ..worlds.finding import find_pictures

Row = list[tuple[str, float]]  # names with probabilities


def predictor(
    path: Path,
    student: tuple[str, str | None] | None = None,
    classnames: Sequence[str] | None = None,
    teacher: tuple[str, str | None] | None = None,
) -> Callable[[Sequence, int], list[Row]]:
    """What names pictures: a classifier with its names, or learned prompts of any kind with those of their training.

    Args:
        student: the model it belongs to; by default the one that the file names.
        classnames: other names, for learned prompts.
        teacher: the one of a PromptKD, whose text features are its classes.

    Raises:
        ValueError: a file of another kind, or learned prompts and no names.
    """
    path = as_path(path)
    vlm = load_vlm(*(student or model_of(path)))
    if holds(path, "classifier"):
        if classnames is not None:
            raise ValueError(f"{path} has class names of its own: give learned.safetensors for others.")
        return load_classifier(path, vlm).predict
    learner = load_learner(path, vlm, **({} if teacher is None else {"teacher": load_vlm(*teacher)}))
    names = saved_names(path) if classnames is None else list(classnames)
    if names is None:
        raise ValueError(f"{path} holds prompts without class names: give some with --names.")
    if len(names) == 1:
        raise ValueError(f"{names[0]!r} alone is no choice: give at least two names.")
    with torch.no_grad():
        classify = learner.classifier(names)
    return lambda images, k: predict(vlm, classify, images, names, k)


def named_pictures(
    predict: Callable[[Sequence], list[Row]], paths: Sequence[str | Path]
) -> Iterator[tuple[str, Row, str]]:
    """For each picture its path and what ``predict`` says of it, or why it cannot be read.

    A folder stands for all pictures in it, at any depth.

    Args:
        predict: PIL pictures → for each of them names with probabilities.
    """
    for path, image, problem in ahead(_opened, _every(paths)):
        yield path, [] if image is None else predict([image])[0], problem


def _every(paths: Sequence[str | Path]) -> Iterator[tuple[str, str]]:
    """Each picture's path, or a path with the reason why there is none: one of several folders costs no other."""
    for given in paths:
        try:
            path = as_path(given)
            found = find_pictures(path) if path.is_dir() else [str(path)]
        except (ValueError, OSError) as error:
            yield str(given), str(error)
        else:
            for picture in found:
                yield picture, ""


def _opened(found: tuple[str, str]) -> tuple[str, Image.Image | None, str]:
    path, problem = found
    if problem:
        return path, None, problem
    try:
        return path, open_picture(path), ""
    except (ValueError, OSError) as error:
        return path, None, str(error)
