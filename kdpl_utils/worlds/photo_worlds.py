"""Worlds of photographs: the published data sets, and one's own folders and shards."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from ..support.disk import as_path, digest
from ..vlm import TEMPLATE, Templates, as_templates, check_names
from .datasets import DATASETS, data_folder, is_there, read_dataset
from .dictionaries import load_dictionary
from .folders import Names, read_folder
from .photos import Files, Labelled, Photo, content_of, open_photo
from .shards import is_shards, tar_pictures
from .world import Contents, Lazy, Split, World, base_novel

STUDENTS = (("ViT-B-32-quickgelu", "openai"), ("RN50-quickgelu", "openai"))
# The last one is the paper's teacher: 986 million parameters, and a licence of its own.
TEACHERS = (("ViT-B-16-quickgelu", "openai"), ("ViT-L-14-quickgelu", "openai"), ("ViT-H-14-quickgelu", "dfn5b"))


def folder_world(
    path: str | Path,
    classnames: Names | None = None,
    *,
    labelled: bool | None = None,
    templates: Templates = (TEMPLATE,),
    dictionary: str | Path | Iterable[str] = "imagenet21k",
    root: str | Path | None = None,
) -> World:
    """One's own pictures, in a folder or in tar files, as a world; opened when looked at.

    * ``path/<class>/…``: labelled; each class is cut into 50 % training, 20 % validation, 30 % test (seeded).
      With ``path/train/<class>/…`` and ``path/test/<class>/…`` (and ``val``) nothing is cut; other usual names of
      these parts are known, in any case, and may lie in the classes as well.  Without ``test`` it is tested on ``val``.
      Folders that only wrap others are looked through.
    * ``path/…`` with ``classnames``: no labels (-1), all for training, all classes are ``base``: for KDPL.
    * ``path/…`` alone: no names either, C = 0: for class-agnostic KDPL.  Neither of the two can be scored.
    * ``train-{000..146}.tar`` or ``train-*.tar``: as the last two; the pictures stay in the webdataset shards.

    What is left out (broken pictures, files of other kinds, strays, links in a circle) is said in a warning.

    Args:
        classnames: names of the classes; of a labelled folder one for each subfolder, in the order of their names,
            or a dict from subfolders to names.  Names that are the subfolders' own may come in any order.  By default
            the subfolders' own; those that begin with a number are in the order of these numbers.
        labelled: whether subfolders are classes; by default, if the pictures lie in subfolders.
        templates, dictionary, root: as in ``World`` and ``load_world``.

    Raises:
        FileNotFoundError, ValueError: no such folder, no picture in it, or names that do not fit.
    """
    if classnames is not None and not isinstance(classnames, Mapping):
        classnames = check_names(classnames)
    folder = as_path(path).resolve()
    path = os.fsdecode(path)
    files = _in_shards(path, classnames, labelled) if is_shards(path) else read_folder(folder, classnames, labelled)
    classes = tuple(check_names(files.classnames)) if files.classnames else ()
    files = files._replace(classnames=classes)
    world = _photo_world(folder.name, files, as_templates(templates), upright=True)
    world = replace(world, dictionary=load_dictionary(dictionary, functools.partial(data_folder, root)))
    if (world.train.labels >= 0).all():
        return world
    none = f"The pictures of {folder} have no labels: "
    unscored = none + "nothing can be scored on them; put some into a folder with a subfolder for each class."
    return replace(
        world,
        base=range(len(classes)),
        novel=range(len(classes), len(classes)),
        train=replace(world.train, unusable_because=none + "learn from world.train as it is, with KDPL."),
        val=replace(world.val, unusable_because=unscored),
        test=world.test if len(world.test) else replace(world.test, unusable_because=unscored),
    )


def _in_shards(shards: str | Path, classnames: Names | None, labelled: bool | None) -> Files:
    if labelled or isinstance(classnames, Mapping):
        raise ValueError(f"Pictures in shards have no labels here: give {shards} a list of names, or none.")
    return Files(list(classnames or ()), [(picture, -1) for picture in tar_pictures(shards)], [], [])


def real_world(name: str, root: str | Path | None) -> World:
    data, files = DATASETS[name], read_dataset(name, root)
    world = _photo_world(name, files, (data.template,))
    there = [shift for shift in data.shifts if is_there(shift, root)]
    shifts = {shift: _shift(shift, read_dataset(shift, root), files.classnames) for shift in there}
    return replace(world, shifts=shifts, targets=data.targets)


def _shift(name: str, files: Files, classnames: Sequence[str]) -> Split:
    """The test pictures of another set, labelled by these class names; of other classes, none."""
    label = {name: y for y, name in enumerate(classnames)}
    known = [label.get(name) for name in files.classnames]
    return _photos([(photo, known[y]) for photo, y in files.test if known[y] is not None], name)


def _photo_world(
    name: str, files: Files, templates: tuple[str, ...] | dict[str, list[str]], upright: bool = False
) -> World:
    """A world of photographs with the usual models, without shifts and dictionary."""
    base, novel = base_novel(len(files.classnames))
    why = "{} has no {} pictures: learn from another world with these classes, or test on another one."
    train, val, test = (
        _photos(pairs, f"{name} {part}", upright, unusable_because="" if pairs else why.format(name, part))
        for part, pairs in (("training", files.train), ("validation", files.val), ("test", files.test))
    )
    return World(
        name=name,
        classnames=tuple(files.classnames),
        train=train,
        test=test,
        shifts={},
        templates=templates,
        base=base,
        novel=novel,
        dictionary=(),
        students=STUDENTS,
        teachers=TEACHERS,
        student=STUDENTS[0],
        teacher=TEACHERS[1],
        val=val,
    )


def _photos(pairs: Labelled, place: str, upright: bool = False, unusable_because: str = "") -> Split:
    labels = torch.tensor([label for _, label in pairs], dtype=torch.long)
    make = functools.partial(open_photo, upright=True) if upright else _open_published
    seen = "upright" if upright else "as-it-lies"
    contents = Contents(digest("photos", place), lambda i: f"{content_of(pairs[i][0])}/{seen}")
    return Split(Lazy(len(pairs), lambda i: make(pairs[i][0])), labels, unusable_because, _key(pairs), contents)


def _open_published(photo: Photo) -> Image.Image:
    """A picture of a published list, as it lies there."""
    try:
        return open_photo(photo)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{photo} is missing: unpack its archive again, it was cut short.") from error


def _key(pairs: Labelled) -> str:
    """By name, size and date of every file (of very many by name alone): a picture that is replaced is another one."""
    files = {getattr(photo, "file", str(photo)) for photo, _ in pairs[:50_000]}  # arrays and tar files hold many
    stats = {file: (os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files if os.path.exists(file)}
    return digest("photos", [str(photo) for photo, _ in pairs], sorted(stats.items()))
