"""``kdpl inspect``: what two models say about a folder of pictures, written as one HTML page."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

import torch
from PIL import Image
from torch import LongTensor, Tensor

from ..distill import select_classes
from ..learners import Learner
from ..learners.classifier import Classifier, kind_of, load_classifier, model_of, names_of
from ..learners.saving import load_learner
from ..loading import load_vlm, shipped_models
from ..protocol import all_logits
from ..support.disk import as_path
from ..support.values import whole
from ..towers.words import ClassNames
from ..vlm import VLM, Pixels, check_names, encode_images, encode_names, logits
from ..worlds.datasets import data_folder
from ..worlds.dictionaries import load_dictionary
from ..worlds.emoji import EMOJI_TEACHERS
from ..worlds.finding import some
from ..worlds.folders import read_folder
from ..worlds.photo_worlds import STUDENTS, TEACHERS
from ..worlds.photos import open_photo
from .inspect_page import Comparison, page_path, write_page

Model = tuple[str, str | None]  # name and weights, as load_vlm takes them
Report = Callable[[str], None]

CHOOSING = 2_000  # so many pictures, evenly spaced, choose from a dictionary: logits of all would fill the memory


def inspect_folder(
    folder: str | Path,
    out: str | Path = "inspect.html",
    teacher: Model | None = None,
    student: Model | None = None,
    learned: str | Path | None = None,
    classnames: Sequence[str] | None = None,
    dictionary: str | Path | Sequence[str] | None = None,
    k: int = 100,
    most: int = 200,
    scale: str = "own",
    precision: str = "fp32",
    labelled: bool | None = None,
    report: Report = lambda line: None,
) -> Path:
    """Write the page about the pictures on which two models differ most, and return its path.

    Args:
        folder: pictures at any depth; where they lie in subfolders, these are the labels.
        out: the page, or a folder for it; an earlier page of this command is replaced, any other file is not.
        teacher, student: by default ViT-L/14 and ViT-B/32 of OpenAI's, or the teacher that fits a shipped student.
        learned: a file of ``save_learner`` or ``export_classifier``: the student is shown before and after it.
        classnames: by default a classifier's own, or else the subfolders'. Without any, the teacher chooses.
        dictionary: what it chooses ``k`` names from, as in class-agnostic KDPL; by default ImageNet-21k's. One that
            is given is used whatever the subfolders are called.
        most: pictures in the page; the numbers above them are of all pictures.
        scale: of the teacher's cosines, its ``"own"`` or the ``"student"``'s, which the published KDPL uses.
        labelled: whether subfolders are classes; by default, if the pictures lie in subfolders.

    Raises:
        ValueError: there is nothing to compare, no picture can be read, or names do not fit.
        FileNotFoundError: a folder, a file or weights are not there.
    """
    out = page_path(out)
    k, most = whole(k, "k", 2), whole(most, "most", 1)
    student = student or (model_of(learned) if learned else STUDENTS[0])
    teacher = teacher or (EMOJI_TEACHERS[-1] if student[0] in shipped_models() else TEACHERS[1])
    if learned is None and tuple(teacher) == tuple(student):
        raise ValueError(f"Teacher and student are both {' '.join(filter(None, student))}: give two different models.")
    pictures = FolderPictures(folder, labelled)
    report(f"{len(pictures)} pictures.")
    names = _names_at_hand(pictures, classnames, dictionary, learned)
    entries = load_dictionary(dictionary or "imagenet21k", data_folder) if names is None else ()
    student_vlm, teacher_vlm = (load_vlm(*model, precision=precision) for model in (student, teacher))
    trained = None if learned is None else _load_learned(learned, student_vlm, teacher_vlm)
    comparison = compare(pictures, teacher_vlm, student_vlm, trained, names, entries, k, scale, report)
    for note in comparison.notes:
        report(note)
    return write_page(comparison, out, most)


@torch.no_grad()
def compare(
    pictures: FolderPictures,
    teacher: VLM,
    student: VLM,
    learned: Learner | Classifier | None,
    names: ClassNames | None,
    dictionary: Sequence[str],
    k: int,
    scale: str,
    report: Report,
) -> Comparison:
    """What the models say about every picture that can be read.

    Args:
        names: None lets the teacher choose ``k`` from ``dictionary``; the other arguments as in ``inspect_folder``.
    """
    seen_by_teacher = encode_images(teacher, pictures)
    report(f"The teacher, {_title(teacher)}, has seen them.")
    seen_by_student = encode_images(student, pictures)
    report(f"The student, {_title(student)}, has seen them.")
    kept = pictures.readable()
    teacher_scale = (teacher if scale == "own" else student).scale.item()
    if names is None:
        names = _choose(teacher, seen_by_teacher[kept], dictionary, k, teacher_scale)
        labels = torch.full((len(pictures),), -1)
        notes = [
            f"The names are the {len(names)} that the teacher finds most probable in these pictures, of the "
            f"{len(dictionary):,} of a dictionary; there are no labels."
        ]
    else:
        labels, notes = pictures.labels(names)

    before = "student" if learned is None else "student before"
    models = {"teacher": _title(teacher), before: _title(student)}
    scores = {
        "teacher": logits(seen_by_teacher, encode_names(teacher, names), teacher_scale),
        before: logits(seen_by_student, encode_names(student, names), student.scale),
    }
    if learned is not None:
        models["student after"] = f"{_title(student)} with what was learned ({type(learned).__name__})"
        scores["student after"] = _learned_logits(learned, names, seen_by_student, Pixels(student, pictures))
        notes.append("Pictures that the prompts were learned from may be among these.")
    return Comparison(
        title=pictures.folder.name,
        paths=[pictures.name(i) for i in kept],
        open_picture=lambda row: pictures[kept[row]],
        names=list(names),
        labels=labels[kept],
        logits={role: z[kept].float().cpu() for role, z in scores.items()},
        models=models,
        notes=notes + pictures.left_out(),
    )


class FolderPictures(Sequence):
    """The pictures under a folder, opened when looked at; one that cannot be read is grey, and remembered.

    Attributes:
        paths: of the pictures, sorted.
        folders: the class name of each one's subfolder; None where subfolders are no classes.
        warnings: what was said when the folder was read.
        unreadable: index → why.
    """

    def __init__(self, folder: str | Path, labelled: bool | None = None):
        self.folder = as_path(folder).resolve()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            files = read_folder(self.folder, labelled=labelled)
        # All pictures are looked at, whatever part they would be cut into for training. The page may be sent to others,
        # so it does not tell where the folder lies.
        sentences = [str(one.message).replace(str(self.folder), self.folder.name) for one in said]
        of_training = ("each class is cut", "pictures to test on are copies")
        self.warnings = [sentence for sentence in sentences if not any(words in sentence for words in of_training)]
        pairs = sorted([*files.train, *files.val, *files.test])
        self.paths = [str(path) for path, _ in pairs]
        # "" for a picture that lies in no class's folder, though others do
        names = [files.classnames[label] if label >= 0 else "" for _, label in pairs]
        self.folders = names if len(files.classnames) > 1 else None
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Image.Image:
        try:
            return open_photo(self.paths[i], upright=True)
        except (ValueError, OSError) as error:  # one picture does not cost the others
            self.unreadable[i] = str(error)
            return Image.new("RGB", (8, 8), "grey")

    def name(self, i: int) -> str:
        """The path below the folder."""
        return PurePath(self.paths[i]).relative_to(self.folder).as_posix()

    def readable(self) -> list[int]:
        """Indices of the pictures that could be read, once all have been looked at."""
        kept = [i for i in range(len(self)) if i not in self.unreadable]
        if not kept:
            raise ValueError(f"None of the {len(self)} pictures in {self.folder} can be read: put whole ones there.")
        return kept

    def left_out(self) -> list[str]:
        """Sentences about the pictures that could not be read, if there are any."""
        if not self.unreadable:
            return self.warnings
        bad = [repr(self.name(i)) for i in sorted(self.unreadable)]
        return [*self.warnings, f"Left out, as they cannot be read: {some(bad)}."]

    def labels(self, names: Sequence[str]) -> tuple[LongTensor, list[str]]:
        """Which of the names each picture's subfolder is called, (N,), -1 where it is none; and what to say of it."""
        if self.folders is None:
            return torch.full((len(self),), -1), ["The pictures do not lie in subfolders, so there are no labels."]
        place = {_plain(name): c for c, name in enumerate(names)}
        labels = torch.tensor([place.get(_plain(folder), -1) for folder in self.folders])
        # Spelled so that control characters in a name do nothing in a terminal.
        others = sorted({repr(folder) for folder in self.folders if folder and _plain(folder) not in place})
        if not others:
            return labels, []
        return labels, [f"No label for pictures in subfolders that are called like none of the names: {some(others)}."]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _title(vlm: VLM) -> str:
    return " ".join(filter(None, (vlm.name, vlm.pretrained)))


def _names_at_hand(
    pictures: FolderPictures,
    classnames: Sequence[str] | None,
    dictionary: str | Path | Sequence[str] | None,
    learned: str | Path | None,
) -> ClassNames | None:
    """The class names, or None where the teacher will choose a dictionary's."""
    own = None if learned is None else names_of(learned)
    given = [what for what, it in (("names", classnames), ("a dictionary", dictionary)) if it is not None]
    if own is not None and given:
        raise ValueError(f"{learned} has class names of its own and knows no others: leave {given[0]} out.")
    if len(given) > 1:
        raise ValueError("Give names or a dictionary to choose them from, not both.")
    if own is not None or classnames is not None:
        names = check_names(classnames if own is None else own)
        if len(names) < 2:
            raise ValueError(f"{names[0]!r} alone is no choice: give at least two names.")
        return names
    if dictionary is not None or pictures.folders is None:
        return None
    return check_names(sorted(set(pictures.folders) - {""}))


def _load_learned(path: str | Path, student: VLM, teacher: VLM) -> Learner | Classifier:
    kind = kind_of(path)
    if kind == "classifier":
        return load_classifier(path, student)
    extra = {"teacher": teacher} if kind == "PromptKD" else {}  # its classes are the teacher's text features
    return load_learner(path, student, **extra)


def _choose(teacher: VLM, features: Tensor, dictionary: Sequence[str], k: int, scale: float) -> list[str]:
    """The k names of highest mean probability over the pictures, or over ``CHOOSING`` of them."""
    step = -(-len(features) // CHOOSING)
    scores = logits(features[::step], encode_names(teacher, dictionary), scale)
    return [dictionary[c] for c in select_classes(scores, min(k, len(dictionary))).tolist()]


def _learned_logits(learned: Learner | Classifier, names: Sequence[str], features: Tensor, pixels: Pixels) -> Tensor:
    """(N, C) with what was learned; features (N, D) of the frozen tower serve where it was left alone."""
    if isinstance(learned, Classifier):
        if len(learned.tokens):
            return all_logits(learned, pixels)
        return logits(features, learned.text, learned.vlm.scale)
    return all_logits(learned.classifier(names), pixels if learned.tokens() else features)
