"""Tensors in files that are checked when they are read: safetensors with a checksum in the header."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .disk import Damaged, write_whole

EMPTY = "0" * 64  # stands in the place of the checksum while it is computed
CHECKSUM = re.compile("[0-9a-f]{64}")
MARK = re.compile(rb'"sha256":"([0-9a-f]{64})"')


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Path:
    """Write safetensors, whole, with the SHA-256 of all of the file in its header; nothing in it is pickled."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(ready, {**header, "sha256": EMPTY})
    content = _with_checksum(content, hashlib.sha256(content).hexdigest())
    return write_whole(path, lambda partial: partial.write_bytes(content))


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header and the tensors of a file.

    Raises:
        Damaged: it is cut short, changed, or no such file at all.
    """
    content = path.read_bytes()
    found = MARK.search(content)
    try:
        if found and hashlib.sha256(_with_checksum(content, EMPTY)).hexdigest() != found[1].decode():
            raise Damaged(f"{path} is damaged: its checksum is another.")
        tensors = load(content)
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged or not safetensors ({error}).") from error
    header_length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_length]).get("__metadata__", {})
    # Files of earlier versions have no checksum. One whose name or digits were changed is not such a file.
    if not found and ("sha256" in header or any(CHECKSUM.fullmatch(text) for text in header.values())):
        raise Damaged(f"{path} is damaged: its checksum was changed.")
    return {name: text for name, text in header.items() if name != "sha256"}, tensors


def _with_checksum(content: bytes, checksum: str) -> bytes:
    """The file with this checksum in its header, which comes first."""
    return MARK.sub(b'"sha256":"' + checksum.encode() + b'"', content, count=1)


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that hold NaN or infinity; ``what`` holds them, in the sentence.

    Raises:
        ValueError: names the first of them.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"{what} has {bad} of {tensor.numel()} numbers in {name} that are not finite (nan or infinity), and "
                "nothing can be computed with them: train again, with a lower learning rate."
            )


def as_rows(given: object, n: int, what: str) -> Tensor:
    """The rows (K,) that are meant among n, from their numbers or from a mask (n,) of booleans.

    Raises:
        ValueError: names, parts of numbers, a mask of another length, or rows that are not there.
    """
    rows = as_numbers(given, what)
    if rows.dtype == torch.bool:
        if rows.shape != (n,):
            raise ValueError(f"{what} is a mask of shape {tuple(rows.shape)} over {n} rows: give {n} booleans.")
        return rows.nonzero().flatten()
    if rows.numel() and rows.is_floating_point():
        raise ValueError(f"{what} holds {rows.dtype}: give whole numbers, or a mask of booleans.")
    if rows.numel() and (rows.min() < -n or rows.max() >= n):
        raise ValueError(f"{what} reaches from {int(rows.min())} to {int(rows.max())}, and there are {n} rows.")
    return rows.long()


def as_numbers(given: object, what: str) -> Tensor:
    """A tensor of what is given, be it a list, an array or a tensor; names are refused, with one of them.

    Raises:
        ValueError: it holds names, or something else that is no number.
    """
    if isinstance(given, Tensor):
        return given
    if isinstance(given, str):
        raise ValueError(f"{what} is one text, {given!r}: give numbers.")
    values = given if hasattr(given, "__array__") else list(given)
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        first = next(iter(values), None)
        raise ValueError(f"{what} holds {first!r}: give numbers, the index of each.") from error
