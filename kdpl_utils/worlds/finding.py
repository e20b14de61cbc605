"""What lies in a folder: its pictures at any depth, and everything that is none, which is counted and not forgotten."""

from __future__ import annotations

import difflib
import os
import stat
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..support.pictures import is_picture

# Beside pictures everywhere, and never missed: notes, lists, and what file managers leave behind.
NOTES = (
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".html", ".htm",
    ".log", ".ini", ".cfg", ".db", ".py", ".ipynb", ".sh", ".url", ".lnk", ".cls", ".sha256", ".md5", ".part",
    ".safetensors", ".onnx", ".pt", ".pth", ".npy", ".npz", ".pkl", ".lock", ".holder", ".begun",
)  # fmt: skip
NOTE_NAMES = (
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "changelog",
    "authors",
    "version",
    "makefile",
    "todo",
)
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "__pycache__", "lost+found", "$RECYCLE.BIN", "System Volume Information")
SHOWN = 5


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        pictures: sorted paths of the files that are called as pictures are, below the folder as it was given.
        others: for each subfolder, as a path below the folder, how many other files of each suffix it holds itself.
        problems: a sentence for each link that is not followed and each folder that cannot be opened.
    """

    pictures: list[str] = field(default_factory=list)
    others: dict[str, Counter] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def suffixes_in(self, folder: str = "") -> Counter:
        """How many other files of each suffix lie at any depth below a subfolder; notes and lists do not count."""
        total = Counter()
        for home, count in self.others.items():
            if not folder or home == folder or home.startswith(f"{folder}/"):
                total += count
        return total


def find_pictures(folder: Path) -> list[str]:
    """Sorted paths of the pictures in a folder, at any depth; what lies there and is not opened is said in a warning.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder.
        ValueError: it has no picture; says what it has instead.
    """
    check_folder(folder)
    found = look_through(folder)
    if not found.pictures:
        raise ValueError(no_pictures(folder, found))
    for sentence in [*problems_of(folder, found), *not_opened(folder, found)]:
        warnings.warn(sentence, stacklevel=3)
    return found.pictures


def problems_of(folder: Path, found: Found) -> list[str]:
    """A sentence for each link that is not followed and each folder that cannot be opened."""
    return [f"{folder}: {problem}" for problem in found.problems]


def not_opened(folder: Path, found: Found) -> list[str]:
    """The sentence about files that may be pictures and are not opened; none where there are no such files."""
    others = found.suffixes_in()
    if not others:
        return []
    files = f"{others.total()} files are not opened: {in_words(others)}"
    return [f"{folder}: {files}; if these are pictures, convert them to JPEG or PNG."]


def check_folder(folder: Path) -> None:
    """Refuse what is no folder, with the nearest name beside it."""
    if folder.is_dir():
        return
    if folder.exists():
        raise NotADirectoryError(f"{folder} is a file: give the folder of pictures, unpacked if this is an archive.")
    raise FileNotFoundError(f"There is no folder {folder}: give the path of a folder of pictures{_nearest(folder)}.")


def no_pictures(folder: Path, found: Found, unreadable: int = 0) -> str:
    """The sentence about a folder without pictures, of which ``unreadable`` are called so and are broken."""
    instead = found.suffixes_in()
    what = f" It holds {in_words(instead)} instead, which are not opened here: convert them." if instead else ""
    what += f" The {unreadable} that are called so are broken." if unreadable else ""
    problems = "".join(f" {problem}" for problem in found.problems[:SHOWN])
    return f"{folder} has no pictures that can be read: put JPEG or PNG files there, or in subfolders.{what}{problems}"


def in_words(suffixes: Counter) -> str:
    """``12 .heic, 3 .tga`` files, the most frequent first."""
    counted = sorted(suffixes.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{number} {suffix or 'without a suffix'}" for suffix, number in counted]
    return some(words, 8)


def some(items: Sequence[str], most: int = SHOWN) -> str:
    """The first few, and how many more."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def look_through(folder: Path) -> Found:
    """Everything below a folder; hidden files and folders are passed.

    Links to folders are followed after all real folders, each real folder is read once, and none that holds the link
    itself: so loops end, and no picture is met twice.
    """
    found, links = Found(), []
    seen: set[str] = set()
    _walk(folder, "", found, links, seen)
    while links:
        links.sort()
        below, target = links.pop(0)
        here = os.path.realpath(folder / os.path.dirname(below))
        if target == here or here.startswith(target.rstrip(os.sep) + os.sep):
            found.problems.append(f"{below} is a link to a folder around it and is not followed.")
        elif target in seen:
            found.problems.append(f"{below} is a link to {target}, which is read already, and is not followed.")
        else:
            _walk(folder, below, found, links, seen)
    found.pictures.sort()
    return found


def _walk(root: Path, start: str, found: Found, links: list[tuple[str, str]], seen: set[str]) -> None:
    """Note everything below ``root/start``; links to folders are put aside."""
    waiting = [start]
    while waiting:
        below = waiting.pop()
        home = root / below
        try:
            entries = sorted(os.scandir(home), key=lambda entry: entry.name)
        except OSError as error:
            found.problems.append(f"{home} cannot be opened ({error.strerror}).")
            continue
        seen.add(os.path.realpath(home))
        found.others.setdefault(below, Counter())
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append((path, os.path.realpath(entry.path)))
            else:
                _note_file(entry, path, below, root, found)


def _note_file(entry: os.DirEntry, path: str, below: str, root: Path, found: Found) -> None:
    try:
        kind = os.stat(entry.path).st_mode
    except OSError:
        found.problems.append(f"{path} is a link to what is not there.")
        return
    if not stat.S_ISREG(kind):  # a pipe would be waited for without end
        found.problems.append(f"{path} is no regular file and is left out.")
    elif is_picture(entry.name):
        found.pictures.append(f"{root}/{path}")
    elif not _is_note(entry.name):
        found.others[below][os.path.splitext(entry.name)[1].lower()] += 1


def _is_note(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in NOTES or (not suffix and stem.lower() in NOTE_NAMES)


def without_pictures(found: Found, folder: Path) -> list[str]:
    """The subfolders that have no picture at any depth and lie in no other one of them, as paths below the folder."""
    filled = {""}
    for picture in found.pictures:
        below = os.path.dirname(os.path.relpath(picture, folder))
        while below not in filled:
            filled.add(below)
            below = os.path.dirname(below)
    empty = [below for below in found.others if below not in filled]
    return sorted(below for below in empty if os.path.dirname(below) in filled)


def _nearest(folder: Path) -> str:
    """The names beside a mistyped one that are most like it."""
    parent = folder.parent
    if not parent.is_dir():
        return ""
    try:
        names = [path.name for path in parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(folder.name, names, n=2)
    return f"; beside it there is {' and '.join(close)}" if close else ""
