"""A world by its name: ``load_world``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .datasets import WORLDS, real_world
from .dictionaries import load_dictionary
from .emoji import emoji_names, emoji_world
from .folders import folder_world
from .world import World


def world_names() -> tuple[str, ...]:
    """Return the names that ``load_world`` knows."""
    return (*emoji_names(), *WORLDS)


def load_world(
    name: str | Path = "emoji",
    root: str | Path | None = None,
    dictionary: str | Path | Iterable[str] | None = None,
) -> World:
    """Load a world by its name (``world_names()``), or by the path of a folder of pictures (``folder_world``).

    Args:
        name: ``"emoji"`` is ink for a student of colour, ``"emoji-colour"`` the contrast for which the student was
            pretrained; both show food and drink unless a group is named, as in ``"emoji/activities"``.
        root: The folder of the real data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``.
        dictionary: Other names for class-agnostic learning (``load_dictionary``); None takes the world's own.
    """
    text = str(name)
    if text in emoji_names():
        world = emoji_world(text)
    elif text in WORLDS:
        world = real_world(text, root)
        dictionary = dictionary or "imagenet21k"
    elif isinstance(name, Path) or text.startswith(("/", ".", "~")) or Path(text).exists():
        return folder_world(name, dictionary=dictionary or "imagenet21k")
    else:
        near = difflib.get_close_matches(text, world_names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else f"choose from {', '.join(world_names())}; "
        raise ValueError(f"There is no world {text!r}: {hint}or give the path of a folder of pictures.")
    return world if dictionary is None else replace(world, dictionary=load_dictionary(dictionary, root))
