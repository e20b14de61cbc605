"""One's own pictures: ``folder/<class>/…``, ``folder/{train,val,test}/<class>/…``, or just pictures."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..clip.words import TEMPLATE, check_names
from ..support.disk import as_path
from ..support.pictures import SUFFIXES, is_picture
from .dictionaries import load_dictionary
from .photos import Files, Labelled, cut_classes, photo_world
from .world import World

PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LAYOUTS = "lay them out as FOLDER/<class>/…, as FOLDER/train/<class>/… and FOLDER/test/<class>/…, or all in FOLDER"
OTHER_SUFFIXES = (".heic", ".heif", ".jxl", ".tga", ".psd", ".svg", ".pdf", ".eps", ".raw", ".cr2", ".nef", ".dng")

Names = Sequence[str] | Mapping[str, str]


def folder_world(
    folder: str | Path,
    classnames: Names | None = None,
    *,
    labelled: bool | None = None,
    templates: Sequence[str] = (TEMPLATE,),
    dictionary: str | Path | Iterable[str] = "imagenet21k",
) -> World:
    """Make a world of a folder; each picture is opened when it is looked at.

    * ``folder/<class>/…``: labelled; each class is cut into 50 % training, 20 % validation, 30 % test (seeded).
      With ``folder/train/<class>/…`` and ``folder/test/<class>/…`` (and ``val``) nothing is cut.
    * ``folder/…`` with ``classnames``: no labels (-1), all for training, all classes are ``base``: for KDPL.
    * ``folder/…`` alone: no names either: for class-agnostic KDPL. Neither of the two can be scored.

    Args:
        classnames: Names of the classes; of a labelled folder one for each subfolder, in the order of their names, or
            a dict from subfolders to names. Names that are the subfolders' own may come in any order.
        labelled: Whether subfolders are classes; by default, if the pictures lie in subfolders.
        templates: As in ``encode_names``.
        dictionary: As in ``load_dictionary``.

    Raises:
        FileNotFoundError, ValueError: No such folder, no picture in it, another layout, or names that do not fit.
    """
    home = as_path(folder).resolve()
    if classnames is not None and not isinstance(classnames, Mapping):
        classnames = check_names(classnames)
    files = read_folder(home, classnames, labelled)
    names = check_names(files.classnames) if files.classnames else ()
    world = photo_world(home.name, files._replace(classnames=names), templates, upright=True)
    world = replace(world, dictionary=load_dictionary(dictionary))
    if (world.train.labels >= 0).all():
        return world
    why = f"The pictures of {home} have no labels: nothing can be scored on them; use a subfolder for each class."
    unscored = {part: replace(getattr(world, part), unusable_because=why) for part in ("train", "val", "test")}
    return replace(world, base=range(len(names)), novel=range(len(names), len(names)), **unscored)


def read_folder(folder: Path, classnames: Names | None = None, labelled: bool | None = None) -> Files:
    """Return where the pictures lie and what their classes are called; see ``folder_world``."""
    places = find_pictures(folder)
    top = {parts[0].lower() if parts else "" for parts in places.values()}
    has_parts = top <= PARTS.keys() and "train" in {PARTS[name] for name in top}
    if labelled is None:
        labelled = top != {""} and not (has_parts and all(len(parts) == 1 for parts in places.values()))
    if not labelled:
        given = classnames.values() if isinstance(classnames, Mapping) else classnames
        return Files(list(given or ()), [(path, -1) for path in places], [], [])
    for path, parts in places.items():
        if len(parts) != 1 + has_parts:
            raise ValueError(f"{folder} has pictures at several depths, such as {path}: {LAYOUTS}.")
    names = sorted({parts[-1] for parts in places.values()}, key=_by_number)
    if len(names) < 2:
        raise ValueError(f"{folder} has pictures of one class only, {names[0]!r}: {LAYOUTS}.")
    titles = titles_of(names, classnames, folder)
    if not has_parts:
        warnings.warn(f"{folder} has no subfolders train and test: each class is cut 50/20/30 %.", stacklevel=3)
        classes: dict[str, list[str]] = {name: [] for name in names}
        for path, (name,) in places.items():
            classes[name].append(path)
        return Files(titles, *cut_classes(classes, "folder", train=0.5, val=0.2))
    label = {name: y for y, name in enumerate(names)}
    lists: dict[str, Labelled] = {"train": [], "val": [], "test": []}
    for path, (part, name) in places.items():
        lists[PARTS[part.lower()]].append((path, label[name]))
    if lists["val"] and not lists["test"]:
        warnings.warn(f"{folder} has no test pictures: its validation pictures are tested on.", stacklevel=3)
        lists["test"] = lists["val"]
        lists["val"] = []
    return Files(titles, **{part: sorted(pairs, key=lambda pair: pair[1]) for part, pairs in lists.items()})


def find_pictures(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the sorted paths of all pictures below a folder → the subfolders that they lie in; follow links."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give the path of a folder of pictures.")
    found: list[str] = []
    others: Counter[str] = Counter()
    seen = set()
    for home, subfolders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(home)
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__"))]
        if place in seen:  # a link in a circle
            subfolders.clear()
            continue
        seen.add(place)
        found += [f"{home}/{name}" for name in files if is_picture(name)]
        others.update(Path(name).suffix.lower() for name in files if name.lower().endswith(OTHER_SUFFIXES))
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in others.items()) or "no other pictures"
    if not found:
        raise FileNotFoundError(f"{folder} has no {', '.join(SUFFIXES)}, and {kinds}: {LAYOUTS}.")
    if others:
        warnings.warn(f"{folder}: {kinds} are not opened; convert them to JPEG or PNG.", stacklevel=4)
    return {path: Path(path).relative_to(folder).parts[:-1] for path in sorted(found)}


def titles_of(names: Sequence[str], given: Names | None, folder: Path) -> list[str]:
    """Return the class names of subfolders, in the order of these.

    Raises:
        ValueError: The number of names is wrong, or one belongs to another subfolder than its position says.
    """
    own = [name.replace("_", " ") for name in names]
    if given is None:
        return own
    if isinstance(given, Mapping):
        if unknown := sorted(given.keys() - set(names)):
            raise ValueError(f"{folder} has no subfolder {unknown[0]!r} with pictures: it has {', '.join(names[:5])} …")
        return [given.get(name, title) for name, title in zip(names, own)]
    folded = {title.casefold() for title in own}
    if {name.casefold() for name in given} == folded:
        return own
    if len(given) != len(names):
        raise ValueError(f"{len(given)} names for the {len(names)} subfolders of {folder}: {', '.join(names[:5])} …")
    for name in given:
        if name.casefold() in folded:
            raise ValueError(f"{name!r} is a subfolder of {folder}, others are not: give a dict of subfolder → name.")
    warnings.warn(f"{folder}: the names are paired with its subfolders: {dict(zip(names, given))}.", stacklevel=4)
    return list(given)


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """Sort class2 before class10."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces]
