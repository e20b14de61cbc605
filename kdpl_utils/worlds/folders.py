"""One's own pictures: ``folder/<class>/…``, ``folder/{train,val,test}/<class>/…``, or just pictures."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..clip.words import TEMPLATE, Templates, check_names
from ..support.disk import as_path
from ..support.pictures import SUFFIXES, is_picture
from .dictionaries import load_dictionary
from .photos import Files, Labelled, cut_classes, photo_world
from .world import World

PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LAYOUTS = (
    "lay the pictures out as FOLDER/<class>/…, as FOLDER/train/<class>/… with FOLDER/test/<class>/…, or all in FOLDER"
)
OTHER_SUFFIXES = (".heic", ".heif", ".jxl", ".tga", ".psd", ".svg", ".pdf", ".eps", ".raw", ".cr2", ".nef", ".dng")

Names = Sequence[str] | Mapping[str, str]


def folder_world(
    folder: str | Path,
    classnames: Names | None = None,
    *,
    labelled: bool | None = None,
    templates: Templates = (TEMPLATE,),
    dictionary: str | Path | Iterable[str] | None = None,
) -> World:
    """One's own pictures as a world; each is opened when it is looked at.

    * ``folder/<class>/…``: labelled; each class is cut into 50 % training, 20 % validation, 30 % test (seeded).
      With ``folder/train/<class>/…`` and ``folder/test/<class>/…`` (and ``val``) nothing is cut.
    * ``folder/…`` with ``classnames``: no labels (-1), all for training, all classes are ``base``: for KDPL.
    * ``folder/…`` alone: no names either: for class-agnostic KDPL. Neither of the two can be scored.

    Args:
        classnames: names of the classes; of a labelled folder one for each subfolder, in the order of their names, or
            a dict from subfolders to names. Names that are the subfolders' own may come in any order.
        labelled: whether subfolders are classes; by default, if the pictures lie in subfolders.
        templates: as in ``encode_names``.
        dictionary: as in ``load_world``; by default ImageNet-21k's names.

    Raises:
        FileNotFoundError, ValueError: no such folder, no picture in it, another layout, or names that do not fit.
    """
    home = as_path(folder).resolve()
    if classnames is not None and not isinstance(classnames, Mapping):
        classnames = check_names(classnames)
    files = read_folder(home, classnames, labelled)
    names = check_names(files.classnames) if files.classnames else ()
    world = photo_world(home.name, files._replace(classnames=names), templates, upright=True)
    words = load_dictionary("imagenet21k" if dictionary is None else dictionary, home)
    world = replace(world, dictionary=words)
    if (world.train.labels >= 0).all():
        return world
    why = f"The pictures of {home} have no labels: nothing can be scored on them; use a subfolder for each class."
    unscored = {part: replace(getattr(world, part), unusable_because=why) for part in ("train", "val", "test")}
    return replace(world, base=range(len(names)), novel=range(len(names), len(names)), **unscored)


def read_folder(folder: Path, classnames: Names | None = None, labelled: bool | None = None) -> Files:
    """Where the pictures lie, and what their classes are called; see ``folder_world``."""
    places = find_pictures(folder)
    depths = {len(parts) for parts in places.values()}
    top = {parts[0].lower() for parts in places.values() if parts}
    has_parts = "train" in {PARTS.get(name) for name in top} and top <= PARTS.keys()
    if labelled is None:
        labelled = depths != {0} and not (has_parts and depths == {1})
    if not labelled:
        return Files(list(_values(classnames)), [(path, -1) for path in places], [], [])
    if depths != {1 + has_parts}:
        strays = [path for path, parts in places.items() if len(parts) != 1 + has_parts]
        raise ValueError(f"{folder} has pictures at several depths, such as {strays[0]}: {LAYOUTS}.")
    names = sorted({parts[-1] for parts in places.values()}, key=_by_number)
    if len(names) < 2:
        raise ValueError(f"{folder} has pictures of one class only, {names[0]!r}: {LAYOUTS}.")
    titles = titles_of(names, classnames, folder)
    parts: dict[str, dict[str, list[str]]] = {}
    for path, place in places.items():
        part = PARTS[place[0].lower()] if has_parts else ""
        parts.setdefault(part, {name: [] for name in names})[place[-1]].append(path)
    if not has_parts:
        warnings.warn(f"{folder} has no subfolders train and test: each class is cut 50/20/30 %.", stacklevel=4)
        return Files(titles, *cut_classes(parts[""], "folder", train=0.5, val=0.2))
    if "test" not in parts and "val" in parts:
        warnings.warn(f"{folder} has no test pictures: its validation pictures are tested on.", stacklevel=4)
        parts["test"] = parts.pop("val")
    lists: dict[str, Labelled] = {
        part: [(path, y) for y, name in enumerate(names) for path in classes[name]] for part, classes in parts.items()
    }
    return Files(titles, *(lists.get(part, []) for part in ("train", "val", "test")))


def find_pictures(folder: Path) -> dict[str, tuple[str, ...]]:
    """Sorted paths of all pictures below a folder → the subfolders that they lie in; links are followed."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give the path of a folder of pictures.")
    found: list[str] = []
    others: list[str] = []
    seen = set()
    for home, subfolders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(home)
        if place in seen:  # a link in a circle
            subfolders.clear()
            continue
        seen.add(place)
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "__"))]
        found += [f"{home}/{name}" for name in files if is_picture(name)]
        others += [name for name in files if name.lower().endswith(OTHER_SUFFIXES) and not name.startswith(".")]
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in Counter(Path(name).suffix.lower() for name in others).items())
    if not found:
        seen_others = f" (but {kinds})" if others else ""
        raise FileNotFoundError(f"{folder} has no pictures{seen_others}: {LAYOUTS}; {', '.join(SUFFIXES)} are read.")
    if others:
        warnings.warn(f"{folder}: not opened: {kinds}; convert them to JPEG or PNG if they are pictures.", stacklevel=5)
    return {path: Path(path).relative_to(folder).parts[:-1] for path in sorted(found)}


def titles_of(names: Sequence[str], given: Names | None, folder: Path) -> list[str]:
    """The class names of subfolders, in their order.

    Raises:
        ValueError: as many names as there are subfolders are needed; or a name belongs to another subfolder.
    """
    own = [name.replace("_", " ") for name in names]
    if given is None:
        return own
    if isinstance(given, Mapping):
        return [given.get(name, title) for name, title in zip(names, own)]
    folded = {title.casefold(): title for title in own}
    if {name.casefold() for name in given} == folded.keys():
        return own  # the subfolders' own names, in whatever order
    if len(given) != len(names):
        raise ValueError(f"{len(given)} names for the {len(names)} subfolders of {folder}: {', '.join(names[:5])} …")
    pairs = dict(zip(names, given))
    if shared := [name for name in given if name.casefold() in folded]:
        raise ValueError(
            f"{shared[0]!r} is a subfolder of {folder}, so names cannot go by position: give {{folder: name}}."
        )
    warnings.warn(f"{folder}: the names are paired with its subfolders in order: {pairs}.", stacklevel=5)
    return list(given)


def _values(given: Names | None) -> Iterable[str]:
    if given is None:
        return ()
    return given.values() if isinstance(given, Mapping) else given


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """class2 before class10."""
    pieces = re.split(r"(\d+)", name)
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]
