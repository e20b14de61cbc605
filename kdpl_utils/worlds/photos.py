"""Photographs in files: lists of paths, cut into splits, as a world."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import torch

from ..clip.words import Templates, as_templates
from ..support.disk import digest, file_digest
from ..support.pictures import is_picture, open_picture
from .world import LazyList, Split, World, base_novel

STUDENTS = (("ViT-B-32-quickgelu", "openai"), ("RN50-quickgelu", "openai"))
# The last one is the paper's teacher: 986 million parameters, and a licence of its own.
TEACHERS = (("ViT-B-16-quickgelu", "openai"), ("ViT-L-14-quickgelu", "openai"), ("ViT-H-14-quickgelu", "dfn5b"))
HASHED = 2000  # files whose bytes identify them; of longer lists paths, sizes and dates do

Labelled = list[tuple[str, int]]  # paths, each with its label; -1 where that is unknown


class Files(NamedTuple):
    """Class names, and where the pictures of each split lie."""

    classnames: Sequence[str]
    train: Labelled
    val: Labelled
    test: Labelled


def pictures_in(folder: Path) -> list[str]:
    """Paths of the pictures directly in a folder, sorted: file systems list them in any order."""
    return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if is_picture(name)]


def class_folders(folder: Path) -> list[Path]:
    """The subfolders, sorted by name (code points, as CoOp's ``list.sort()``), without hidden ones."""
    found = sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name)
    if not found:
        raise FileNotFoundError(2, "There is no subfolder of pictures", str(folder / "<class>"))
    return found


def cut_classes(
    classes: Mapping[str, Iterable[str]], key: str, train: float, val: float
) -> tuple[Labelled, Labelled, Labelled]:
    """A seeded cut of each class into (train, val, test): a picture's place is drawn by class name and file name.

    So the cut is the same wherever the files lie, and what becomes of other classes moves none of its pictures.
    Shares are rounded as in CoOp's ``read_and_split_data``; at least one picture is for training; test is the rest.
    """
    parts: tuple[Labelled, Labelled, Labelled] = ([], [], [])
    for label, (name, paths) in enumerate(classes.items()):
        drawn = sorted(paths, key=lambda path, name=name: (digest(f"{key}/{name}", PurePath(path).name), path))
        first = max(1, round(train * len(drawn)))
        second = first + round(val * len(drawn))
        for part, chosen in zip(parts, (drawn[:first], drawn[first:second], drawn[second:])):
            part += [(path, label) for path in sorted(chosen)]
    return parts


def photo_world(name: str, files: Files, templates: Templates, upright: bool = False) -> World:
    """A world of photographs with the usual models, without shifts and dictionary."""
    base, novel = base_novel(len(files.classnames))
    why = "{} has no {} pictures: learn from another world with these classes, or test on another one."
    splits = {
        part: photo_split(pairs, upright, "" if pairs else why.format(name, part))
        for part, pairs in (("train", files.train), ("val", files.val), ("test", files.test))
    }
    return World(
        name=name,
        classnames=tuple(files.classnames),
        **splits,
        shifts={},
        templates=as_templates(templates),
        base=base,
        novel=novel,
        dictionary=(),
        students=STUDENTS,
        teachers=TEACHERS,
        student=STUDENTS[0],
        teacher=TEACHERS[1],
    )


def photo_split(pairs: Labelled, upright: bool = False, unusable_because: str = "") -> Split:
    """A split of files, each opened when it is looked at."""
    paths = [path for path, _ in pairs]
    labels = torch.tensor([label for _, label in pairs], dtype=torch.long)
    images = LazyList(len(paths), lambda i: open_picture(paths[i], upright))
    return Split(images, labels, files_key(paths, upright), unusable_because)


def files_key(paths: Sequence[str], upright: bool) -> str:
    """Identifies the contents of files: a picture that is replaced is another one."""
    if len(paths) <= HASHED:
        return digest("photos", upright, [file_digest(path) for path in paths if os.path.exists(path)], paths)
    stats = [(path, os.stat(path)) for path in paths]
    return digest("photos", upright, [(path, known.st_size, known.st_mtime_ns) for path, known in stats])
