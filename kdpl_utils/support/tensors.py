"""Tensors in files that are checked when they are read: safetensors with a checksum in the header."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .disk import Damaged, write_whole
from .values import shown

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


def may_be_tensors(path: Path) -> bool:
    """Whether a file begins as those of ``write_tensors`` do, however it goes on; true also if it is empty."""
    with path.open("rb") as file:
        beginning = file.read(9)
    return not beginning or beginning[8:] == b"{"


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
    if rows.ndim != 1:
        raise ValueError(f"{what} is of shape {tuple(rows.shape)}: give a list of row numbers, or a mask.")
    if rows.dtype == torch.bool:
        if rows.shape != (n,):
            raise ValueError(f"{what} is a mask of shape {tuple(rows.shape)} over {n} rows: give {n} booleans.")
        return rows.nonzero().flatten()
    if rows.numel() and rows.is_floating_point():
        raise ValueError(f"{what} holds {rows.dtype}: give whole numbers, or a mask of booleans.")
    if rows.numel() and (rows.min() < -n or rows.max() >= n):
        raise ValueError(f"{what} reaches from {int(rows.min())} to {int(rows.max())}, and there are {n} rows.")
    return rows.long()


def as_labels(given: object, what: str = "labels", least: int | None = None) -> Tensor:
    """Whole numbers (N,), an index for each of N things, whichever library or type they come from.

    Raises:
        ValueError: names, a mask, parts of numbers, more than one axis, or a number below ``least``.
    """
    labels = as_numbers(given, what)
    is_whole = labels.dtype != torch.bool and not labels.is_complex()
    if is_whole and labels.is_floating_point():  # 3.0 is whole, too, as pandas writes it beside a missing one
        is_whole = bool((labels == labels.floor()).all() and labels.isfinite().all())
    if labels.ndim != 1 or not is_whole:
        shape = tuple(labels.shape)
        raise ValueError(
            f"{what.capitalize()} are {shape} of {labels.dtype}: give whole numbers (N,), an index for each."
        )
    labels = labels.long()
    if least is not None and len(labels) and labels.min() < least:
        raise ValueError(f"{what.capitalize()} hold {int(labels.min())}: give numbers from {least} on.")
    return labels


def as_numbers(given: object, what: str, meant: str = "numbers, the index of each") -> Tensor:
    """A tensor of what is given, be it a list, an array or a tensor; names are refused, with one of them.

    Raises:
        ValueError: it holds names, or something else that is no number; or it has no order.
    """
    if isinstance(given, Tensor):
        return given
    if isinstance(given, str | bytes):
        raise ValueError(f"{what} is one text, {shown(given)}: give numbers.")
    if isinstance(given, Mapping | set | frozenset):
        raise ValueError(f"{what} is a {type(given).__name__}, which has no order: give a list.")
    if not hasattr(given, "__array__") and not isinstance(given, Iterable):
        raise ValueError(f"{what} is {shown(given)}: give a list of {meant}.")
    # In the order in which they stand: PyTorch itself would take the rows of a pandas Series by their labels.
    values = np.asarray(given) if hasattr(given, "__array__") else list(given)
    try:
        if isinstance(values, np.ndarray):
            is_unsigned = values.dtype.kind == "u"  # PyTorch has such types, and no arithmetic for them
            return torch.from_numpy(values.astype(np.int64) if is_unsigned else values.copy())
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        first = next(iter(np.ravel(np.asarray(values, dtype=object))), None)
        raise ValueError(f"{what} holds {shown(first)}: give {meant}.") from error


def check_tensor(given: object, what: str) -> Tensor:
    """Refuse what is no tensor, where a loss or a measure wants one.

    Raises:
        ValueError: says what it is.
    """
    if not isinstance(given, Tensor):
        raise ValueError(f"{what} are a {type(given).__name__}: give a tensor, as torch.as_tensor makes it.")
    if given.is_complex() or given.layout != torch.strided:
        raise ValueError(f"{what} are {given.dtype} in the layout {given.layout}: give a dense tensor of real numbers.")
    return given
