"""A folder of one's own pictures: labelled by subfolder, or not labelled at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from .finding import look_through
from .photos import Files, cut_classes, readable

PARTS = ("train", "val", "test")

Names = Sequence[str] | Mapping[str, str]


def read_folder(folder: Path, classnames: Names | None = None, labelled: bool | None = None) -> Files:
    """Where the pictures of a folder lie, and what their classes are called; see ``photo_worlds.folder_world``.

    Warns of each-class cuts, and of files that do not begin as pictures, which are left out.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give the path of a folder of pictures.")
    paths = readable(look_through(folder).pictures)
    if not paths:
        raise ValueError(f"{folder} has no pictures that can be read: put JPEG or PNG files there, or in subfolders.")
    where = {path: PurePath(path).relative_to(folder).parts[:-1] for path in paths}
    labelled = _is_labelled(folder, where) if labelled is None else labelled
    if not labelled:
        if isinstance(classnames, Mapping):
            raise ValueError("Names by subfolder need pictures in subfolders: give a list of names instead.")
        return Files(list(classnames or ()), [(path, -1) for path in paths], [], [])
    return _labelled(folder, {path: parts for path, parts in where.items() if parts}, classnames)


def _is_labelled(folder: Path, where: dict[str, tuple[str, ...]]) -> bool:
    depths = {bool(parts) for parts in where.values()}
    if len(depths) > 1:
        raise ValueError(
            f"{folder} has pictures both in itself and in subfolders: say labelled=True (each subfolder is a class, "
            "the others are passed) or labelled=False (all pictures, no labels)."
        )
    return depths.pop()


def _labelled(folder: Path, where: dict[str, tuple[str, ...]], classnames: Names | None) -> Files:
    """``folder/<class>/…``, or ``folder/train/<class>/…`` with val or test or both beside it."""
    if not where:
        raise ValueError(f"{folder} has no pictures in subfolders: make one for each class, or say labelled=False.")
    tops = {parts[0] for parts in where.values()}
    all_are_deeper = all(len(parts) > 1 for parts in where.values())
    is_split = "train" in tops and len(tops) > 1 and tops <= set(PARTS) and all_are_deeper
    depth = 1 if is_split else 0  # of the folder that names the class
    classes = sorted({parts[depth] for parts in where.values()})
    names = _names(classes, classnames, folder)
    if is_split:
        label = {name: y for y, name in enumerate(classes)}
        pairs_of_part = {part: [] for part in PARTS}
        for path, parts in where.items():
            pairs_of_part[parts[0]].append((path, label[parts[1]]))
        by_label = [sorted(pairs_of_part[part], key=lambda pair: (pair[1], pair[0])) for part in PARTS]
        return Files(names, *by_label)
    # Cut by names below the folder, so that it is the same wherever the folder is moved to.
    paths_of_class = {name: [] for name in classes}
    for path, parts in where.items():
        paths_of_class[parts[0]].append(os.path.relpath(path, folder))
    cut_parts = cut_classes(list(paths_of_class.values()), "folder", train=0.5, val=0.2)
    warnings.warn(
        f"{folder} has no subfolders train and test, so each class is cut, the same way each time: 50 % training, "
        "20 % validation, 30 % test.",
        stacklevel=5,
    )
    whole_paths = [[(f"{folder}/{path}", y) for path, y in pairs] for pairs in cut_parts]
    return Files(names, *whole_paths)


def _names(found: list[str], classnames: Names | None, folder: Path) -> list[str]:
    """The class names of the sorted subfolders: their own with ``_`` as a space, or those that were given for them."""
    own = [name.replace("_", " ") for name in found]
    if isinstance(classnames, Mapping):
        if unknown := sorted(set(classnames) - set(found)):
            raise ValueError(f"{folder} has no subfolder {unknown[0]!r}: it has {', '.join(found)}.")
        return [classnames.get(name, title) for name, title in zip(found, own, strict=True)]
    if classnames is not None and len(classnames) != len(found):
        raise ValueError(
            f"{len(classnames)} names for the {len(found)} subfolders of {folder}: give one for each, in the order "
            f"{', '.join(found[:5])}{', …' if len(found) > 5 else ''}."
        )
    return list(own if classnames is None else classnames)
