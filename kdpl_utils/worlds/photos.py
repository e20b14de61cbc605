"""Photographs in files: lists of paths, cut into splits, as a world."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from ..clip.words import check_templates
from ..support.disk import digest, file_digest
from ..support.pictures import is_picture, open_picture
from .world import LazyList, Split, World, base_novel

STUDENTS = (("ViT-B-32-quickgelu", "openai"), ("RN50-quickgelu", "openai"))
# The last one is the paper's teacher: 986 million parameters, and a licence of its own.
TEACHERS = (("ViT-B-16-quickgelu", "openai"), ("ViT-L-14-quickgelu", "openai"), ("ViT-H-14-quickgelu", "dfn5b"))
READ = 2000  # files that are identified by their bytes; those of longer lists by path, size and date

Labelled = list[tuple[str, int]]  # paths, each with its label; -1 where that is unknown


class Files(NamedTuple):
    """Class names, and where the pictures of each split lie."""

    classnames: Sequence[str]
    train: Labelled
    val: Labelled
    test: Labelled


def pictures_in(folder: Path) -> list[str]:
    """Return the paths of the pictures directly in a folder, sorted."""
    return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if is_picture(name)]


def class_folders(folder: Path) -> list[Path]:
    """Return the subfolders that are not hidden, sorted by code points as CoOp's ``list.sort()`` does."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def cut_classes(classes: Mapping[str, Sequence[str]], key: str, train: float, val: float) -> list[Labelled]:
    """Cut the paths of each class into training, validation and the rest, which is for testing.

    The key, the class name and the file name decide where a picture goes, so that the cut is the same wherever the
    files lie, and other classes change nothing. Shares are rounded as in CoOp's ``read_and_split_data``.
    """
    parts: list[Labelled] = [[], [], []]
    for label, (name, paths) in enumerate(classes.items()):
        drawn = sorted(paths, key=lambda path, name=name: (digest(f"{key}/{name}", PurePath(path).name), path))
        first = max(1, round(train * len(drawn)))
        second = first + round(val * len(drawn))
        for part, chosen in zip(parts, (drawn[:first], drawn[first:second], drawn[second:])):
            part += [(path, label) for path in sorted(chosen)]
    return parts


def photo_world(name: str, files: Files, templates: Sequence[str], upright: bool = False) -> World:
    """Make a world of photographs with the usual models, without shifts and dictionary."""
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
        templates=check_templates(templates),
        base=base,
        novel=novel,
        dictionary=(),
        students=STUDENTS,
        teachers=TEACHERS,
        student=STUDENTS[0],
        teacher=TEACHERS[1],
    )


def photo_split(pairs: Labelled, upright: bool = False, unusable_because: str = "") -> Split:
    """Make a split of files, each opened when it is looked at."""
    paths = [path for path, _ in pairs]
    images = LazyList(len(paths), lambda i: open_picture(paths[i], upright))
    return Split(images, [label for _, label in pairs], files_key(paths, upright), unusable_because)


def files_key(paths: Sequence[str], upright: bool) -> str:
    """Identify the contents of files: features of a picture that is replaced are computed again."""
    if len(paths) <= READ:
        return digest("photos", upright, paths, [file_digest(path) for path in paths])
    stats = [os.stat(path) for path in paths]
    return digest("photos", upright, paths, [(known.st_size, known.st_mtime_ns) for known in stats])
