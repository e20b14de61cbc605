"""Which subfolders are splits, which are classes, which only wrap others: told from where the pictures lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from .finding import some

PARTS = ("train", "val", "test")
WORDS = {
    "train": ("train", "training", "tr", "trn"),
    "val": ("val", "valid", "validation", "validate", "va", "dev", "development"),
    "test": ("test", "testing", "te", "tst", "holdout", "heldout"),
    "eval": ("eval", "evaluation", "evaluate"),  # the test pictures, or where there are others the validation's
}
PART_OF_WORD = {word: part for part, words in WORDS.items() for word in words}
# What may stand beside such a word, as in "train_images", "test-set", "Val2017", "images.train".
FILLERS = {
    "set",
    "split",
    "data",
    "dataset",
    "images",
    "image",
    "imgs",
    "img",
    "pictures",
    "photos",
    "subset",
    "folder",
}
# And what may stand there besides, as in "train_v2", "test_224x224px", "train-resized".
VERSIONS = {
    "v",
    "x",
    "px",
    "version",
    "resized",
    "cropped",
    "small",
    "full",
    "new",
    "final",
    "clean",
    "augmented",
    "original",
}
# Folders that hold pictures and name no class.
PLAIN = FILLERS | {"pics", "picture", "photo", "jpegimages", "jpg", "jpeg", "png", "all", "raw", "input", "files"}
FEW = 10  # pictures beside subfolders are strays if those hold at least ten times as many


@dataclass
class Folder:
    """Pictures that lie directly in a folder, and the subfolders that have some."""

    own: list[str] = field(default_factory=list)
    below: dict[str, Folder] = field(default_factory=dict)

    @property
    def every(self) -> list[str]:
        """All pictures at any depth."""
        return [*self.own, *(picture for folder in self.below.values() for picture in folder.every)]

    @property
    def has_strays(self) -> bool:
        """Whether its own pictures are few beside those of its subfolders; true also if there are none."""
        return bool(self.below) and len(self.own) * (FEW + 1) <= len(self.every)


@dataclass
class Layout:
    """How the pictures of a folder are ordered.

    Attributes:
        classes: for each part, or for ``""`` where nothing is split, class → its pictures.
        unlabelled: for each part, or for ``""``, pictures without a class.
        said: sentences about what is not self-evident, and about what is left out.
    """

    classes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    unlabelled: dict[str, list[str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return {name for of_part in self.classes.values() for name in of_part}


def part_of(name: str) -> str | None:
    """The part that a folder's name means, in any case and with numbers or fillers; None if it means none."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).casefold())
    if re.search(r"[^\W\d_a-zA-Z]", name):  # letters of other scripts belong to the name of a class
        return None
    words = [word for word in words if word not in FILLERS | VERSIONS]
    if len(words) != 1:
        return None
    stem = re.sub(r"(set|data|images|imgs|split)$", "", words[0])
    return PART_OF_WORD.get(words[0]) or PART_OF_WORD.get(stem)


def tree_of(places: Mapping[str, Sequence[str]]) -> Folder:
    """The tree of some pictures; ``places`` are the subfolders on the way to each."""
    root = Folder()
    for picture, parts in places.items():
        folder = root
        for part in parts:
            folder = folder.below.setdefault(part, Folder())
        folder.own.append(picture)
    return root


def layout_of(root: Folder) -> Layout:
    """How the pictures are ordered; as ``unlabelled`` if no subfolder is a class.

    Raises:
        ValueError: so many pictures lie beside subfolders that they may be meant.
    """
    layout = Layout()
    if root.own and root.below and not root.has_strays:
        raise ValueError(
            f"{len(root.own)} pictures lie in the folder itself and {len(root.every) - len(root.own)} in subfolders: "
            "move them into one, or say labelled=True (each subfolder is a class, the others are left out) or "
            "labelled=False (kdpl adapt --flat: all pictures, no labels)."
        )
    folder = _look_through_wrappers(root, layout)
    if not folder.below:
        layout.unlabelled[""] = folder.own
        return layout
    _leave_strays(folder, "", layout)
    parts = _parts(folder.below)
    if parts:
        _read_parts(folder, parts, layout)
    elif inner := _inner_parts(folder.below):
        for name, folders in inner.items():
            _leave_strays(folder.below[name], name, layout)
            for part, pictures in folders.items():
                layout.classes.setdefault(part, {})[name] = pictures
    elif len(folder.below) == 1 and _is_plain(next(iter(folder.below))):
        (name,) = folder.below
        layout.said.append(f"All pictures lie in the one subfolder {name}, which names no class: they have no labels.")
        layout.unlabelled[""] = folder.every
    else:
        layout.classes[""] = {name: below.every for name, below in folder.below.items()}
        _say_depth(folder.below, layout)
    return layout


def _look_through_wrappers(folder: Folder, layout: Layout) -> Folder:
    """The folder itself, or where all lies in one subfolder that has subfolders again, that one, and so on."""
    passed = []
    while len(folder.below) == 1 and (not folder.own or folder.has_strays):
        ((name, only),) = folder.below.items()
        if not only.has_strays:
            break
        _leave_strays(folder, "/".join(passed), layout)
        folder = only
        passed.append(name)
    if passed:
        layout.said.append(f"All pictures lie in {'/'.join(passed)}, so the subfolders there are read.")
    return folder


def _leave_strays(folder: Folder, name: str, layout: Layout) -> None:
    if folder.own:
        where = f"in {name} " if name else ""
        names = some([PurePath(picture).name for picture in folder.own])
        layout.said.append(f"{len(folder.own)} pictures lie {where}beside the subfolders and are left out: {names}.")


def _parts(below: Mapping[str, Folder]) -> dict[str, list[str]]:
    """Part → the subfolders that mean it; empty if they are classes.

    They are parts if all of them are called so, or ``train`` and another part are among them.
    """
    meant = {name: part_of(name) for name in below}
    known = {part for part in meant.values() if part}
    if not known or (None in meant.values() and ("train" not in known or len(known) < 2)):
        return {}
    eval_means = "val" if "test" in known else "test"
    parts = {}
    for name, part in meant.items():
        if part:
            parts.setdefault(eval_means if part == "eval" else part, []).append(name)
    return parts


def _inner_parts(below: Mapping[str, Folder]) -> dict[str, dict[str, list[str]]]:
    """Class → part → pictures where the parts lie in the classes (``cat/train``, ``cat/test``); empty if not."""
    inner = {name: _parts(folder.below) for name, folder in below.items()}
    if not all(inner.values()) or not any("train" in parts and len(parts) > 1 for parts in inner.values()):
        return {}
    return {
        name: {part: [p for sub in subs for p in below[name].below[sub].every] for part, subs in parts.items()}
        for name, parts in inner.items()
    }


def _read_parts(folder: Folder, parts: Mapping[str, Sequence[str]], layout: Layout) -> None:
    others = sorted(set(folder.below) - {name for names in parts.values() for name in names})
    if others:
        layout.said.append(f"Beside train, val and test there is {some(others)}, which is left out.")
    every_class: dict[str, Folder] = {}
    for part, names in parts.items():
        for name in names:
            inside = _look_through_wrappers(folder.below[name], Layout())
            plain = len(inside.below) == 1 and not inside.own and _is_plain(next(iter(inside.below)))
            if not inside.below or plain:
                layout.unlabelled.setdefault(part, []).extend(inside.every)
                continue
            _leave_strays(inside, name, layout)
            classes = layout.classes.setdefault(part, {})
            for label, below in inside.below.items():
                classes.setdefault(label, []).extend(below.every)
                whole_class = every_class.setdefault(label, Folder())
                whole_class.own.extend(below.own)
                whole_class.below.update(below.below)
    _say_depth(every_class, layout)


def _is_plain(name: str) -> bool:
    """Whether a folder's name says only that there are pictures in it, or for which part."""
    return name.casefold() in PLAIN or part_of(name) is not None


def _say_depth(below: Mapping[str, Folder], layout: Layout) -> None:
    """The subfolders of a class do not count; it is said where they look like classes themselves."""
    deep = {name: sorted(folder.below) for name, folder in below.items() if len(folder.below) > 1 and not folder.own}
    if deep:
        name = min(deep)
        layout.said.append(
            f"{len(deep)} of {len(below)} classes have their pictures in subfolders ({name}: {some(deep[name])}), "
            "which are taken together: the first level names the class."
        )
    for name in below:
        if part_of(name):
            layout.said.append(f"The subfolder {name} is taken for a class, as those beside it are.")
