"""Test on pixels whether two sets of drawings are by one artist: a redrawn set traces the outlines of its original."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 32  # pixels of a compared drawing
MANY = 100  # concepts in common, from which on the nearest one is asked for
MOST_NEAREST = 0.25  # share of an ink style's drawings whose nearest of all concepts is the right one
MOST_CORRELATION = 0.5  # median over concepts
MOST_CORRELATION_OF_FEW = 0.6


@dataclass(frozen=True)
class Likeness:
    """How alike the drawings of two styles are, concept by concept.

    Attributes:
        concepts: how many concepts both have drawn.
        correlation: median over concepts between their two drawings.
        nearest: share of concepts whose nearest drawing in the other style shows the same concept.
    """

    concepts: int
    correlation: float
    nearest: float

    @property
    def is_by_others(self) -> bool:
        """Whether the drawings are too different to be one artist's work in two renditions."""
        if self.concepts < MANY:
            return self.correlation <= MOST_CORRELATION_OF_FEW
        return self.correlation <= MOST_CORRELATION and self.nearest <= MOST_NEAREST


def likeness(ink: Tensor, other: Tensor) -> Likeness:
    """Compare ink drawings with the edges and with the grey of another style's drawings of the same concepts.

    Args:
        ink, other: (N, 4, S, S) RGBA in 0..1, row i of both showing one concept.

    Returns:
        The greater of the two correlations and of the two shares.
    """
    ink, other = on_white(ink), on_white(other)
    own, of_edges, of_grey = outline_vectors(ink), outline_vectors(edges(other)), outline_vectors(other)
    correlations, shares = [], []
    for theirs in (of_edges, of_grey):
        products = own @ theirs.T
        correlations.append(products.diag().median().item())
        shares.append((products.argmax(dim=1) == torch.arange(len(ink))).float().mean().item())
    return Likeness(len(ink), max(correlations), max(shares))


def on_white(drawings: Tensor) -> Tensor:
    """Grey drawings (N, 1, S, S) on white paper."""
    alpha = drawings[:, 3:]
    return (drawings[:, :3] * alpha + 1 - alpha).mean(dim=1, keepdim=True)


def edges(grey: Tensor) -> Tensor:
    """Black lines where neighbouring pixels differ."""
    x = F.pad((grey[..., 1:] - grey[..., :-1]).abs(), (0, 1))
    y = F.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1))
    return 1 - ((x + y - 0.1) * 8).clamp(0, 1)


def outline_vectors(grey: Tensor) -> Tensor:
    """(N, SIDE * SIDE) unit vectors of drawings cropped to their ink, blurred a little and centred."""
    cropped = []
    for picture in 1 - grey:
        rows, columns = (picture[0] > 0.12).any(dim=1).nonzero(), (picture[0] > 0.12).any(dim=0).nonzero()
        if len(rows):
            picture = picture[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        resized = F.interpolate(picture[None], size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        cropped.append(resized)
    vectors = F.avg_pool2d(torch.cat(cropped), 3, 1, 1).flatten(1)
    return F.normalize(vectors - vectors.mean(dim=1, keepdim=True), dim=1)
