"""What a command may write: files that are not there yet, or that it wrote itself."""

from __future__ import annotations

from pathlib import Path

from ..learners.saving import holds
from .card import HEADING

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
        "README.md": _holds(out / "README.md", f"\n{HEADING}"),
        ".gitignore": _holds(out / ".gitignore", f"\n{IGNORED}"),
        "learned.safetensors": holds(out / "learned.safetensors", "learner"),
        "classifier.safetensors": has_classifier,
        "classifier.onnx": has_classifier,  # they are written together
    }
    for name, is_ours in ours.items():
        if (out / name).exists() and not is_ours:
            raise ValueError(
                f"{out / name} is there and was not written by this command: move it away, or give another folder."
            )


def _holds(path: Path, line: str) -> bool:
    return path.is_file() and line.encode() in b"\n" + path.read_bytes()
