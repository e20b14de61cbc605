"""A folder of one's own pictures: labelled by subfolder, or not labelled at all."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from ..support.values import yes_or_no
from .finding import (
    Found,
    check_folder,
    in_words,
    look_through,
    no_pictures,
    not_opened,
    problems_of,
    some,
    without_pictures,
)
from .layouts import PARTS, Folder, Layout, layout_of, tree_of
from .photos import Files, Labelled, content_of, cut_classes, readable

Names = Sequence[str] | Mapping[str, str]
SHOWN = 20  # pairs of a name and a subfolder


def read_folder(folder: Path, classnames: Names | None = None, labelled: bool | None = None) -> Files:
    """Where the pictures of a folder lie, and what their classes are called; see ``photo_worlds.folder_world``.

    Warns of everything that is left out, and of what was decided where more than one thing could be meant.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        ValueError: no picture that can be read, names that do not fit, or pictures both in the folder
            and in its subfolders.
    """
    labelled = None if labelled is None else yes_or_no(labelled, "labelled")
    check_folder(folder)
    found = look_through(folder)
    called_so = found.pictures
    found.pictures = readable(called_so)
    if not found.pictures:
        raise ValueError(no_pictures(folder, found, unreadable=len(called_so)))
    _say_what_is_left_out(folder, found)
    root = tree_of({path: PurePath(path).relative_to(folder).parts[:-1] for path in found.pictures})
    layout = _layout(folder, root, labelled)
    if len(layout.names) == 1:
        layout = _of_one_class(layout, labelled)
    for sentence in layout.said:
        _say(f"{folder}: {sentence}")
    if not layout.classes:
        return _unlabelled(folder, layout, classnames)
    files = _labelled(folder, layout, classnames)
    _say_copies(folder, files)
    return files


def _say(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=5)


def _say_what_is_left_out(folder: Path, found: Found) -> None:
    for sentence in problems_of(folder, found):
        _say(sentence)
    empty = without_pictures(found, folder)
    if empty:
        held = {name: found.suffixes_in(name) for name in empty}
        names = some([f"{name} ({in_words(count)})" if count else name for name, count in held.items()])
        _say(f"{folder}: {len(empty)} subfolders have no picture that can be read and are no classes: {names}.")
    for sentence in not_opened(folder, found):
        _say(sentence)


def _say_copies(folder: Path, files: Files) -> None:
    """Pictures to test on that are learned from as well, under whatever name; only files of one size are read."""
    sizes = {path: os.stat(path).st_size for path, _ in (*files.train, *files.test)}
    to_test_on = {sizes[path] for path, _ in files.test}
    learned_from = {content_of(path) for path, _ in files.train if sizes[path] in to_test_on}
    sizes_learned_from = {sizes[path] for path, _ in files.train}
    alike = [path for path, _ in files.test if sizes[path] in sizes_learned_from]
    copies = [PurePath(path).relative_to(folder).as_posix() for path in alike if content_of(path) in learned_from]
    if copies:
        _say(
            f"{folder}: {len(copies)} of {len(files.test)} pictures to test on are copies of some that are learned "
            f"from, so that they test nothing: remove one of each ({some(copies)})."
        )


def _layout(folder: Path, root: Folder, labelled: bool | None) -> Layout:
    if labelled is False:
        return Layout(unlabelled={"": root.every})
    left_out = []
    if labelled:
        if not root.below:
            raise ValueError(f"{folder} has no pictures in subfolders: make one for each class, or say labelled=False.")
        left_out, root.own = root.own, []
    try:
        layout = layout_of(root)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    if left_out:
        layout.said.append(f"{len(left_out)} pictures lie in no subfolder and are left out.")
    return layout


def _of_one_class(layout: Layout, labelled: bool | None) -> Layout:
    """One class cannot be told from anything: the pictures count as unlabelled unless it is said that they are not."""
    (only,) = layout.names
    if labelled:
        layout.said.append(f"There is one class only, {only}: every picture is named so, and nothing can be learned.")
        return layout
    pictures = [picture for part in layout.classes.values() for picture in part[only]]
    pictures += [picture for part in layout.unlabelled.values() for picture in part]
    layout.said.append(
        f"Only the subfolder {only} names a class, and one class cannot be told from anything, so they count as "
        "unlabelled: make a subfolder for each class, or give the names of what may be in them."
    )
    return Layout(unlabelled={"": pictures}, said=layout.said)


def _unlabelled(folder: Path, layout: Layout, classnames: Names | None) -> Files:
    if isinstance(classnames, Mapping):
        raise ValueError("Names by subfolder need pictures in subfolders: give a list of names instead.")
    of_part = layout.unlabelled
    learned_from = "" if "" in of_part else "train" if "train" in of_part else "val" if "val" in of_part else "test"
    for part, pictures in of_part.items():
        if part != learned_from:
            _say(
                f"{folder}: the {len(pictures)} pictures of {part} have no labels, so nothing can be scored on them: "
                "they are left out."
            )
    return Files(list(classnames or ()), [(path, -1) for path in sorted(of_part[learned_from])], [], [])


def _labelled(folder: Path, layout: Layout, classnames: Names | None) -> Files:
    """By class where nothing is split, or by part and class."""
    found = class_order(layout.names)
    names, label = _names(found, classnames, folder)
    of_part = {part: _pairs(classes, label) for part, classes in layout.classes.items()}
    for part, pictures in layout.unlabelled.items():
        if part == "train" and ("test" in layout.classes or "val" in layout.classes):
            of_part["train"] = [(path, -1) for path in sorted(pictures)]
            _say(f"{folder}: the {len(pictures)} training pictures have no labels: they are for KDPL.")
        else:
            _say(f"{folder}: the {len(pictures)} pictures of {part} lie in no class's folder and are left out.")
    if len(of_part) == 1 or "train" not in of_part:
        return _cut(folder, layout, names, label)
    _say_missing(folder, layout, of_part)
    if "test" not in of_part:
        _say(f"{folder} has no test pictures, so those for validation are tested on.")
        of_part["test"] = of_part.pop("val")
    return Files(names, *(of_part.get(part, []) for part in PARTS))


def _pairs(classes: Mapping[str, Sequence[str]], label: Mapping[str, int]) -> Labelled:
    pairs = [(path, label[name]) for name, pictures in classes.items() for path in pictures]
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]))


def _say_missing(folder: Path, layout: Layout, of_part: Mapping[str, Labelled]) -> None:
    """Classes that only some parts have."""
    for part in ("train", "test"):
        missing = sorted(layout.names - set(layout.classes.get(part, ())))
        if missing and part in layout.classes:
            what = "learned from" if part == "train" else "tested on"
            _say(f"{folder}: of {some(missing)} there are no pictures in {part}, so none are {what}.")


def _cut(folder: Path, layout: Layout, names: list[str], label: Mapping[str, int]) -> Files:
    """Each class cut by the names of its pictures below the class, so it is the same wherever the folder is moved to,
    and whatever becomes of other classes."""
    pictures_of = {}
    for classes in layout.classes.values():
        for name, pictures in classes.items():
            pictures_of.setdefault(name, []).extend(pictures)
    folder_of = {place: name for name, place in label.items()}
    # A name that has no folder keeps its place.
    in_order = [folder_of.get(place, f"{place} has no folder") for place in range(len(names))]
    below_class = {}
    for name, pictures in pictures_of.items():
        for path in pictures:
            parts = PurePath(path).relative_to(folder).parts
            below_class[path] = "/".join(parts[parts.index(name) + 1 :])
    classes = {name: pictures_of.get(name, []) for name in in_order}
    parts = cut_classes(classes, "folder", train=0.5, val=0.2, name_of=below_class.get)
    (only,) = layout.classes if len(layout.classes) == 1 else ("",)
    there = f"only {only} has labelled pictures" if only else "has no subfolders train and test"
    _say(
        f"{folder}{':' if only else ''} {there}, so each class is cut, the same way each time: 50 % training, "
        "20 % validation, 30 % test."
    )
    return Files(names, *parts)


# --- names -----------------------------------------------------------------------------------------------------------


def class_order(found: set[str]) -> list[str]:
    """Subfolders sorted by name; by number where all have one after the same letters: class2 before class10."""
    numbered = {name: re.fullmatch(r"(\D*)(\d+)(.*)", name, re.DOTALL) for name in found}
    if all(numbered.values()) and len({match[1] for match in numbered.values()}) == 1:
        return sorted(found, key=lambda name: (int(numbered[name][2]), name))
    return sorted(found)


def _plain(name: str) -> str:
    """A name as it is compared: case, underscores, hyphens, spaces and the form of accents aside."""
    return " ".join(re.sub(r"[_\-\s]+", " ", unicodedata.normalize("NFKC", name)).casefold().split())


def _names(found: list[str], classnames: Names | None, folder: Path) -> tuple[list[str], dict[str, int]]:
    """The class names, and for each subfolder the place of its own.

    Given names that are those of the subfolders belong to them in whatever order; others go with them in order.
    """
    for name in found:
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise ValueError(f"The subfolder {ascii(name)} of {folder} holds bytes that are no letters: rename it.")
    in_order = {name: place for place, name in enumerate(found)}
    own = [name.replace("_", " ") for name in found]
    if classnames is None:
        return own, in_order
    if isinstance(classnames, Mapping):
        classnames = {str(name): title for name, title in classnames.items()}  # folders 0, 1, … may be given as numbers
        if unknown := sorted(set(classnames) - set(found)):
            raise ValueError(f"{folder} has no subfolder {unknown[0]!r}: it has {some(found, SHOWN)}.")
        return [classnames.get(name, title) for name, title in zip(found, own)], in_order
    given = list(classnames)
    place_of = {_plain(name): place for place, name in enumerate(given)}
    if all(_plain(name) in place_of for name in found) and len(place_of) == len(given):
        if len(given) > len(found):
            without = sorted(set(place_of) - {_plain(name) for name in found})
            _say(f"{folder} has no pictures of {some(without)}.")
        return given, {name: place_of[_plain(name)] for name in found}
    if len(given) != len(found):
        raise ValueError(
            f"{len(given)} names for the {len(found)} subfolders of {folder}: give one for each, in the order "
            f"{some(found)}."
        )
    elsewhere = [name for name in found if place_of.get(_plain(name), in_order[name]) != in_order[name]]
    if elsewhere:
        name = elsewhere[0]
        raise ValueError(
            f"The name {given[place_of[_plain(name)]]!r} is that of a subfolder of {folder}, but goes with another: "
            f"give the names in the order {some(found, SHOWN)}, or a dict from subfolders to names."
        )
    pairing = some([f"{name} = {title}" for name, title in zip(found, given)], SHOWN)
    _say(f"{folder}: the names go with its subfolders in order: {pairing}.")
    return given, in_order
