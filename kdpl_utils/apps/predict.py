"""Classify pictures one after another: many need no more memory than one, and an unreadable one costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from ..clip.models import model_pair
from ..learners.base import predict
from ..learners.classifier import load_classifier, model_of
from ..learners.saving import holds, load_learner, saved_names
from ..loading import load_vlm
from ..support.disk import as_path
from ..support.pictures import open_picture
from ..worlds.folders import find_pictures
from .encode import Model

Row = list[tuple[str, float]]  # names with probabilities


def predictor(
    path: str | Path,
    student: Model | str | None = None,
    classnames: Sequence[str] | None = None,
    teacher: Model | str | None = None,
) -> Callable[[Sequence[Image.Image], int], list[Row]]:
    """Return (pictures, k) → k names with probabilities for each, by a classifier or by learned prompts of any kind.

    Args:
        student: the model it belongs to; by default the one that the file names.
        classnames: other names, for learned prompts.
        teacher: the teacher of a PromptKD, whose text features are its classes.

    Raises:
        ValueError: a file of another kind, or learned prompts without names.
    """
    path = as_path(path)
    vlm = load_vlm(*(model_pair(student) if student else model_of(path)))
    if holds(path, "classifier"):
        if classnames is not None:
            raise ValueError(f"{path} has class names of its own: give learned.safetensors for others.")
        return load_classifier(path, vlm).predict
    learner = load_learner(path, vlm, **({"teacher": load_vlm(*model_pair(teacher))} if teacher else {}))
    names = saved_names(path) if classnames is None else list(classnames)
    if names is None:
        raise ValueError(f"{path} holds prompts without class names: give some with --names.")
    if len(names) == 1:
        raise ValueError(f"{names[0]!r} is the only name: give at least two to choose from.")
    with torch.no_grad():
        classify = learner.classifier(names)
    return lambda images, k: predict(vlm, classify, images, names, k)


def classify_pictures(
    classify: Callable[[Sequence[Image.Image]], list[Row]], paths: Sequence[str | Path]
) -> Iterator[tuple[str, Row, str]]:
    """Yield for each picture its path and its names with probabilities, or a sentence on why it cannot be read.

    A folder stands for all pictures in it, at any depth.
    """
    for given in paths:
        try:
            path = as_path(given)
            found = list(find_pictures(path)) if path.is_dir() else [str(path)]
        except (ValueError, OSError) as error:
            yield str(given), [], str(error)
            continue
        for picture in found:
            try:
                row = classify([open_picture(picture)])[0]
            except (ValueError, OSError) as error:
                yield picture, [], str(error)
            else:
                yield picture, row, ""
