"""A world by its name: ``load_world``."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .datasets import DATASETS, data_folder
from .dictionaries import load_dictionary
from .emoji import emoji_names, emoji_world
from .photo_worlds import folder_world, real_world
from .shards import is_shards
from .world import World


def world_names() -> tuple[str, ...]:
    """What ``load_world`` knows."""
    return (*emoji_names(), *DATASETS)


def load_world(
    name: str | Path = "emoji",
    root: str | Path | None = None,
    dictionary: str | Path | Iterable[str] | None = None,
) -> World:
    """A world by its name (``world_names()``), or by the path of a folder of pictures (``folder_world``).

    Args:
        name: ``"emoji"`` is ink for a student of colour, ``"emoji-colour"`` the contrast in which the student is at
            home; both show food and drink unless a group is named, as in ``"emoji/activities"``.
        root: the folder of the real data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``.
        dictionary: other names for class-agnostic learning: ``"imagenet21k"``, ``"open_images"``, the path of a file
            with a name a line, or a list.  None takes the emoji world's own, and ImageNet-21k's for photographs.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"A world is {name!r}: give its name, or the path of a folder of pictures.")
    folder = functools.partial(data_folder, root)
    if name in emoji_names():
        world = emoji_world(name)
        if dictionary is None:
            return world
        return replace(world, dictionary=load_dictionary(dictionary, folder))
    dictionary = "imagenet21k" if dictionary is None else dictionary
    if name in DATASETS:
        return replace(real_world(name, root), dictionary=load_dictionary(dictionary, folder))
    a_path = isinstance(name, Path) or name.startswith(("/", ".", "~")) or Path(name).exists() or is_shards(name)
    if not a_path:
        near = difflib.get_close_matches(str(name), world_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"There is no world {name!r}, and no folder of this name in {Path.cwd()}: {hint}choose from "
            f"{', '.join(world_names())}, or give the path of a folder of pictures."
        )
    return folder_world(name, dictionary=dictionary, root=root)
