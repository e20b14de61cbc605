"""The controls that explorers share, and how they take their arrays."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as W
import torch
from torch import Tensor

from ..evaluate import check_scores
from ..support.tensors import as_labels

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def _pick(n: int, what: str = "picture") -> W.IntSlider:
    return W.IntSlider(1, 1, max(n, 1), description=what)


def _steps(options: Sequence[float], value: float, what: str) -> W.SelectionSlider:
    return W.SelectionSlider(options=[(f"{x:.3g}", x) for x in options], value=value, description=what)


def _choice(options: Sequence, what: str, value=None) -> W.ToggleButtons:
    """All choices in sight, taken with the space bar.  JupyterLab keeps the arrow keys from lists and radio buttons."""
    options = list(options)
    return W.ToggleButtons(options=options, value=options[0] if value is None else value, description=what)


def _how_many(n_names: int, k: int) -> W.IntSlider:
    return W.IntSlider(min(k, n_names), min(2, n_names), min(12, n_names), description="names shown")


def _cached(x: Tensor | Sequence) -> Tensor:
    """On the CPU, in float32, without gradient: what callbacks index."""
    x = torch.stack([_cached(part) for part in x]) if isinstance(x, list | tuple) else torch.as_tensor(x)
    return x.detach().to("cpu", torch.float32)


def _names(names: Sequence[str], what: str = "names") -> list[str]:
    """The names as a list; of one string the letters would be names."""
    if isinstance(names, str):
        raise ValueError(f"{what} is one string, {names!r}: give a list of names.")
    return list(names)


def _label(labels: Tensor | None, i: int) -> int | None:
    return None if labels is None or labels[i] < 0 else int(labels[i])


def _labels(labels: object, images: Sequence, names: Sequence[str], least: int = -1) -> Tensor | None:
    """(N,) indices of names, or -1 for none where ``least`` allows it; None where nobody knows them."""
    if labels is None and least < 0:
        return None
    labels = as_labels(labels, least=least).cpu()
    if len(labels) != len(images):
        raise ValueError(f"{len(images)} images need as many labels, not {len(labels)}.")
    if len(labels) and labels.max() >= len(names):
        raise ValueError(
            f"Labels reach to {int(labels.max())}, and there are {len(names)} names: give indices of them."
        )
    return labels


def _match(images: Sequence, scores: Tensor, names: Sequence[str]) -> None:
    shape = tuple(scores.shape[-2:])
    if shape != (len(images), len(names)):
        raise ValueError(f"{len(images)} images and {len(names)} names need logits of that shape, not {shape}.")
    for step in scores if scores.ndim == 3 else scores[None]:
        check_scores(step, "The logits")
