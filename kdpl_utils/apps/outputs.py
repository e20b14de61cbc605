"""What a command may write: files that are not there yet, or that it wrote itself."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ..learners.saving import holds
from .card import is_untouched

IGNORED = "cache/\n"  # all of the .gitignore beside the prompts


def check_replaceable(out: Path) -> None:
    """Refuse a folder in which somebody else's file has the name of one that is to be written.

    Raises:
        ValueError: names the file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give the path of a folder, which may be new.")
    has_classifier = holds(out / "classifier.safetensors", "classifier")
    ours = {
        "README.md": is_untouched(_text_of(out / "README.md")),
        ".gitignore": _text_of(out / ".gitignore") == IGNORED,
        "learned.safetensors": holds(out / "learned.safetensors", "learner"),
        "classifier.safetensors": has_classifier,
        "classifier.onnx": has_classifier,  # they are written together
    }
    for name, is_ours in ours.items():
        if (out / name).exists() and not is_ours:
            raise ValueError(
                f"{out / name} is there and was not written by this command, or was changed since: move it away, or "
                "give another folder."
            )


def _text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""


def remove_earlier(out: Path, written: Collection[str]) -> list[Path]:
    """Remove the classifiers of an earlier run that this one does not write: they would be taken for its own.

    Args:
        written: the names of the files that this run writes.
    """
    earlier = [out / name for name in ("classifier.safetensors", "classifier.onnx") if name not in written]
    there = [path for path in earlier if path.is_file()]
    for path in there:
        path.unlink()
    return there
