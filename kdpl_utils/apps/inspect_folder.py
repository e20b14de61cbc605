"""``kdpl inspect``: what two models predict for a folder of pictures, written as one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..clip.words import check_names
from ..distill import select_classes
from ..learners.base import prompted_features
from ..learners.classifier import Classifier, kind_of, load_classifier, model_of, names_of
from ..learners.saving import load_learner
from ..loading import load_vlm
from ..protocol import all_logits
from ..support.disk import as_path
from ..vlm import VLM, encode_names, logits
from ..worlds.dictionaries import load_dictionary
from ..worlds.folders import PARTS, find_pictures
from .encode import Model, default_models, encode_once
from .inspect_page import Comparison, page_path, thumbnail, write_page

PICKING = 2000  # so many pictures, evenly spaced, pick names from a dictionary: logits of all would fill the memory


@torch.no_grad()
def inspect_folder(
    folder: str | Path,
    out: str | Path = "inspect.html",
    teacher: Model | str | None = None,
    student: Model | str | None = None,
    learned: str | Path | None = None,
    classnames: Sequence[str] | None = None,
    dictionary: str | Path | Sequence[str] | None = None,
    k: int = 100,
    most: int = 200,
    scale: str = "own",
    precision: str = "fp32",
    labelled: bool | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the page about the pictures on which two models differ most, and return its path.

    Args:
        folder: pictures at any depth; if they lie in subfolders, these are the labels, unless ``labelled`` is False.
        out: the page, or a folder for it; an earlier page of this command is replaced, any other file is not.
        learned: a file of ``save_learner`` or ``export_classifier``: the student is shown before and after it.
        classnames: by default a classifier's own, or else the subfolders', or ``k`` that the teacher picks from
            ``dictionary``, ImageNet-21k's if there is none.
        most: pictures in the page; its numbers are of all pictures.
        scale: of the teacher's cosines, its ``"own"`` or the ``"student"``'s, which the published KDPL uses.

    Raises:
        ValueError: there is nothing to compare, no picture can be read, or names do not fit.
        FileNotFoundError: a folder, a file or weights are missing.
    """
    out = page_path(out)
    if k < 2 or most < 1:
        raise ValueError(f"k is {k} and most is {most}: give at least 2 names and 1 picture.")
    student, teacher = default_models(student or (model_of(learned) if learned else None), teacher)
    if learned is None and teacher == student:
        raise ValueError(f"Teacher and student are both {' '.join(filter(None, student))}: give two different models.")
    folder = as_path(folder).resolve()
    places = find_pictures(folder)
    is_labelled = labelled is not False and any(places.values())
    folders = [_class_of(place) if is_labelled else "" for place in places.values()]
    names = _names(folders, classnames, dictionary, learned)
    words = [] if names else check_names(load_dictionary(dictionary or "imagenet21k"), dictionary=True)
    report(f"{len(places)} pictures.")

    vlm, larger = (load_vlm(*model, precision=precision) for model in (student, teacher))
    encoders = [(larger, None), (vlm, None)]
    trained = None
    if learned is not None and kind_of(learned) == "classifier":
        trained = load_classifier(learned, vlm)
        if len(trained.tokens):
            encoders.append((vlm, lambda pixels: prompted_features(vlm, pixels, list(trained.tokens))))
    elif learned is not None:
        trained = load_learner(learned, vlm, **({"teacher": larger} if kind_of(learned) == "PromptKD" else {}))
        if trained.visual_prompts():
            encoders.append((vlm, trained.image))
    seen = encode_once(encoders, list(places), lambda picture, _: thumbnail(picture))
    by_teacher, by_student, *_ = seen.features
    # The page may be sent to others, so it does not tell where the folder lies.
    notes = [f"Left out: {sentence.replace(f'{folder}/', '')}" for sentence in seen.left_out]
    teacher_scale = larger.scale if scale == "own" else vlm.scale
    if words:
        some = logits(by_teacher[:: 1 + len(by_teacher) // PICKING], encode_names(larger, words), teacher_scale)
        names = check_names([words[c] for c in select_classes(some, min(k, len(words))).tolist()])
        notes.append(f"The teacher picked {len(names)} names of a dictionary's {len(words):,}; there are no labels.")
        folders = [""] * len(folders)
    place = {_plain(name): c for c, name in enumerate(names)}
    if others := sorted({name for name in folders if name and _plain(name) not in place}):
        some = ", ".join(map(repr, others[:5])) + (" …" if len(others) > 5 else "")
        notes.append(f"Pictures in these subfolders have no label, as no class has their name: {some}.")

    before = "student" if trained is None else "student before"
    models = {"teacher": _title(larger), before: _title(vlm)}
    scores = {
        "teacher": logits(by_teacher, encode_names(larger, names), teacher_scale),
        before: logits(by_student, encode_names(vlm, names), vlm.scale),
    }
    if trained is not None:
        models["student after"] = f"{_title(vlm)} with what was learned ({type(trained).__name__})"
        scores["student after"] = _learned_logits(trained, names, seen.features[-1])
        notes.append("Pictures that the prompts were learned from may be among these.")
    for note in notes:
        report(note)
    paths = [Path(path).relative_to(folder).as_posix() for path in places]
    comparison = Comparison(
        title=folder.name,
        paths=[paths[row] for row in seen.rows],
        open_picture=seen.kept.__getitem__,
        names=names,
        labels=torch.tensor([place.get(_plain(folders[row]), -1) for row in seen.rows]),
        logits={role: z.float().cpu() for role, z in scores.items()},
        models=models,
        notes=notes,
    )
    return write_page(comparison, out, most)


def _class_of(place: tuple[str, ...]) -> str:
    """The subfolder that is a picture's label; empty for a picture beside the subfolders."""
    return place[-1] if place and not (len(place) == 1 and place[0].lower() in PARTS) else ""


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _title(vlm: VLM) -> str:
    return " ".join(filter(None, (vlm.name, vlm.pretrained)))


def _names(
    folders: Sequence[str],
    classnames: Sequence[str] | None,
    dictionary: str | Path | Sequence[str] | None,
    learned: str | Path | None,
) -> Sequence[str]:
    """The class names; none if the teacher is to pick them from a dictionary."""
    own = names_of(learned) if learned else None
    if [own, classnames, dictionary].count(None) < 2:
        raise ValueError(f"Give names or a dictionary, not both{f'; {learned} has names of its own' if own else ''}.")
    if dictionary is not None or not (own or classnames or any(folders)):
        return []
    names = check_names(own or classnames or sorted({*folders} - {""}))
    if len(names) < 2:
        raise ValueError(f"{names[0]!r} is the only name: give at least two names, or a dictionary.")
    return names


def _learned_logits(trained, names: Sequence[str], features: Tensor) -> Tensor:
    """(N, C) from the features (N, D) of the student's own image tower, with its visual prompts if there are any."""
    if isinstance(trained, Classifier):
        return logits(features, trained.text, trained.vlm.scale)
    if trained.visual_prompts():
        return logits(features, trained.text(names), trained.vlm.scale)
    return all_logits(trained.classifier(names), features)
