"""The drawings of the emoji world: each concept in many styles, and seeded views of them.

A *view* places a drawing on a coloured ground: smaller or larger, turned, moved. The same function draws the views
that the models were pretrained on and those that a lesson learns from and is tested on.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..support.shipped import data_file

# Light grounds only: half of the styles draw in black.
BACKGROUNDS = {
    "white": (1.0, 1.0, 1.0), "grey": (0.85, 0.85, 0.85), "yellow": (1.0, 0.95, 0.70), "pink": (1.0, 0.84, 0.88),
    "blue": (0.79, 0.90, 1.0), "green": (0.82, 0.95, 0.80), "purple": (0.90, 0.85, 1.0), "orange": (1.0, 0.88, 0.74),
}  # fmt: skip


@dataclass(frozen=True)
class Views:
    """How N drawings are shown.

    Attributes:
        scale: (N,) side of the drawing as a part of the picture's side.
        angle: (N,) degrees, counter-clockwise.
        shift: (N, 2) centre of the drawing, x and y in -1..1.
        background: (N,) index into ``BACKGROUNDS``.
    """

    scale: Tensor
    angle: Tensor
    shift: Tensor
    background: Tensor

    def __getitem__(self, rows) -> Views:
        return Views(self.scale[rows], self.angle[rows], self.shift[rows], self.background[rows])


def sample_views(n: int, seed: int) -> Views:
    """``n`` random views: scale 0.6 to 1, turned by up to 25 degrees, inside the picture, three in ten on white."""
    g = torch.Generator().manual_seed(seed)
    scale = 0.6 + 0.4 * torch.rand(n, generator=g)
    angle = 50 * torch.rand(n, generator=g) - 25
    shift = (1 - scale)[:, None] * (2 * torch.rand(n, 2, generator=g) - 1)
    weights = torch.tensor([0.3] + [0.1] * (len(BACKGROUNDS) - 1))
    return Views(scale, angle, shift, torch.multinomial(weights, n, replacement=True, generator=g))


def render(sprites: Tensor, views: Views, size: int = 64) -> Tensor:
    """Draw ``sprites`` (N, 4, S, S), RGBA in 0..1, as ``views`` say: (N, 3, size, size) in 0..1."""
    alpha = sprites[:, 3:]
    premultiplied = torch.cat([sprites[:, :3] * alpha, alpha], dim=1)  # else transparent black bleeds into the edges
    radians = views.angle * (math.pi / 180)
    cos = radians.cos() / views.scale
    sin = radians.sin() / views.scale
    x, y = views.shift.T
    # affine_grid wants the way back: from a place in the picture to the place in the drawing.
    theta = torch.stack([cos, -sin, -cos * x + sin * y, sin, cos, -sin * x - cos * y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(sprites), 4, size, size], align_corners=False)
    drawn = F.grid_sample(premultiplied, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    grounds = torch.tensor(list(BACKGROUNDS.values()))[views.background][:, :, None, None]
    return (drawn[:, :3] + (1 - drawn[:, 3:]) * grounds).clamp(0, 1)


@functools.cache
def metadata() -> dict:
    """``data/emoji/emoji.json``: concepts (name, group, keywords, code point) and styles (source, licence, drawn)."""
    return json.loads(data_file("emoji.json").read_text(encoding="utf-8"))


@functools.cache
def sprites(style: str) -> Tensor:
    """All drawings of one style, (concepts, 4, 64, 64) uint8, in the order of the metadata; empty where not drawn."""
    size = metadata()["sprite_size"]
    columns = metadata()["columns"]
    sheet = np.asarray(Image.open(data_file(f"sheets/{style}.webp")).convert("RGBA"))
    grid = torch.from_numpy(sheet.copy()).view(-1, size, columns, size, 4).permute(0, 2, 4, 1, 3)
    return grid.reshape(-1, 4, size, size)[: len(metadata()["concepts"])].contiguous()
