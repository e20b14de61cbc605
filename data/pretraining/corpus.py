"""Make the pictures of the pretraining: drawings of some styles, bent and coloured at random, some of them as ink.

A student's ink is what any corpus of colour holds: *photocopies* (grey, hard contrast) and *tracings* (edges as black
lines on the paper).  A teacher also sees icons.  Every batch is a pure function of (seed, step), so a pretraining that
was stopped goes on with the same pictures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captions import Seen
from icons import Icons
from kdpl_utils.worlds.drawings import BACKGROUNDS, Views, metadata, sample_views, sprites

# Near-doubles ("man judge", "woman judge"): names for the text tower to tell from others, no pictures to be classified.
DISTRACTOR_GROUPS = ("people-body", "symbols")
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in a photocopy
MATCHED_ICONS = 0.6  # share of a batch's icons whose name is an emoji's
ICONS_OF_OTHER_NAMES = 12  # of each name, that the text tower learns from


class Corpus:
    """The drawings of some styles, and icons.

    Args:
        styles: names of the styles.
        size: side of the pictures in pixels.
        ink_share: share of the pictures of drawings that are copies or tracings.
        seed: of every random choice, together with a step.
        icons: ink for a teacher.
        icon_share: share of each batch that are icons.

    Attributes:
        n_classes: classes of the scaffold.  Without icons they are concept × {colour, ink}, so that an image tower
            keeps the two domains apart.  With icons they are the concepts and the names of other icons.
        other_names: names of icons that are not an emoji's.
    """

    def __init__(
        self,
        styles: Sequence[str],
        size: int,
        ink_share: float,
        seed: int = 0,
        icons: Icons | None = None,
        icon_share: float = 0.0,
    ):
        self.styles, self.size, self.ink_share, self.seed = tuple(styles), size, ink_share, seed
        self.concepts = metadata()["concepts"]
        drawn_by_style = [set(metadata()["styles"][style]["drawn"]) for style in styles]
        self.styles_of_concept = [
            [k for k, drawn in enumerate(drawn_by_style) if concept in drawn] for concept in range(len(self.concepts))
        ]
        drawn_anywhere = [concept for concept, styles in enumerate(self.styles_of_concept) if styles]
        self.classes = [c for c in drawn_anywhere if self.concepts[c]["group"] not in DISTRACTOR_GROUPS]
        self.distractors = [c for c in drawn_anywhere if self.concepts[c]["group"] in DISTRACTOR_GROUPS]
        # A little larger than the pictures, so that little is lost when a drawing is turned.
        self.drawing_size = min(64, round(size * 1.25))
        self.drawings = [premultiplied(sprites(style), self.drawing_size) for style in styles]
        self.icon_share = icon_share if icons is not None else 0.0
        self.n_classes = 2 * len(self.concepts)
        self.icon_rows: dict[str, list[int]] = {}
        self.other_names: list[str] = []
        if icons is not None:
            self._add_icons(icons)

    def _add_icons(self, icons: Icons) -> None:
        self.icon_alpha = torch.from_numpy(icons.alpha)
        for row, name in enumerate(icons.names):
            self.icon_rows.setdefault(name, []).append(row)
        self.class_of_name = {c["name"]: i for i, c in enumerate(self.concepts)}
        drawn = set(self.classes)
        self.matched_names = [n for n in self.icon_rows if self.class_of_name.get(n) in drawn]
        self.other_names = [n for n in self.icon_rows if n not in self.class_of_name]
        for name in self.other_names:
            self.class_of_name[name] = len(self.class_of_name)
        self.n_classes = len(self.class_of_name)

    def step_seed(self, step: int) -> int:
        return self.seed * 1_000_003 + step

    def training_batch(self, n: int, step: int) -> tuple[Tensor, Tensor]:
        """Return varied pictures (n, 3, size, size) in 0..1, of a different name each, and their classes (n,)."""
        seed = self.step_seed(step)
        rng = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        n_icons = int(n * self.icon_share)
        classes = rng.sample(self.classes, n - n_icons)
        styles = [rng.choice(self.styles_of_concept[c]) for c in classes]
        drawings = torch.stack([self.drawings[k][c] for c, k in zip(classes, styles)]).float() / 255
        drawings = vary_colours(drawings, generator)
        if n_icons:
            names = rng.sample(self.matched_names, min(len(self.matched_names), int(n_icons * MATCHED_ICONS)))
            names += rng.sample(self.other_names, n_icons - len(names))
            icons = self.icon_drawings([rng.choice(self.icon_rows[name]) for name in names])
            drawings = torch.cat([drawings, icons])
            classes += [self.class_of_name[name] for name in names]
        views = sample_views(n, seed)
        grounds = (background_colours(views) + 0.1 * _plus_minus_one(n, 3, generator=generator)).clamp(0, 1)
        pictures = cut_out(place_bent(drawings, views, grounds, self.size, generator), generator)
        is_ink = (torch.rand(n, generator=generator) < self.ink_share) & (torch.arange(n) < n - n_icons)
        pictures[is_ink] = ink_of(pictures[is_ink], grounds[is_ink], generator)
        targets = torch.tensor(classes)
        return pictures, targets if self.icon_share else targets + len(self.concepts) * is_ink

    def icon_drawings(self, rows: Sequence[int]) -> Tensor:
        """Return premultiplied black drawings (N, 4, S, S) of icons."""
        alpha = self.icon_alpha[list(rows), None].float() / 255
        if alpha.shape[-1] != self.drawing_size:
            alpha = F.interpolate(alpha, size=self.drawing_size, mode="bilinear", antialias=True, align_corners=False)
        return torch.cat([torch.zeros(len(alpha), 3, *alpha.shape[2:]), alpha], dim=1)

    def plain_views(self, style: str, n_views: int) -> tuple[Tensor, list[dict], list[Seen]]:
        """Return unvaried views of every drawing of one style, ``n_views`` of each (of a distractor one).

        Returns:
            (N, 3, size, size) pictures in 0..1, their N concepts, and how each shows its concept.
        """
        k = self.styles.index(style)
        distractors = set(self.distractors)
        drawn = metadata()["styles"][style]["drawn"]
        rows = [c for c in drawn for _ in range(1 if c in distractors else n_views)]
        seed = self.step_seed(10_000_000 + k)  # far from any training step
        generator = torch.Generator().manual_seed(seed)
        views = sample_views(len(rows), seed)
        pictures = place(self.drawings[k][torch.tensor(rows)].float() / 255, views, self.size)
        is_ink = torch.rand(len(rows), generator=generator) < self.ink_share
        pictures[is_ink] = ink_of(pictures[is_ink], background_colours(views)[is_ink], generator)
        return pictures, [self.concepts[c] for c in rows], seen_of(style, views, is_ink)

    def icon_views(self) -> tuple[Tensor, list[dict], list[Seen]]:
        """Return a view of every icon whose name is an emoji's and of some of each other name, as ``plain_views``."""
        others = set(self.other_names)
        rows = [r for n, rows in self.icon_rows.items() for r in (rows[:ICONS_OF_OTHER_NAMES] if n in others else rows)]
        name_of_row = {row: name for name, rows in self.icon_rows.items() for row in rows}
        views = sample_views(len(rows), self.step_seed(11_000_000))
        pictures = torch.cat([
            place(self.icon_drawings(rows[i : i + 1024]), views[i : i + 1024], self.size)
            for i in range(0, len(rows), 1024)
        ])  # fmt: skip
        shown = [self.concept_of_name(name_of_row[row]) for row in rows]
        return pictures, shown, seen_of("", views, torch.ones(len(rows), dtype=torch.bool))

    def concept_of_name(self, name: str) -> dict:
        """Return the concept of an icon's name; a name that is not an emoji's has no keywords."""
        row = self.class_of_name[name]
        if row < len(self.concepts):
            return self.concepts[row]
        return {"name": name, "keywords": [], "group": "symbols", "subgroup": "icon"}


def seen_of(style: str, views: Views, is_ink: Tensor) -> list[Seen]:
    """Describe the pictures of N views."""
    grounds = list(BACKGROUNDS)
    rows = zip(views.scale.tolist(), views.angle.tolist(), views.background.tolist(), is_ink.tolist())
    return [Seen(style, scale, angle, grounds[ground], ink) for scale, angle, ground, ink in rows]


def premultiplied(rgba_sprites: Tensor, size: int) -> Tensor:
    """RGBA sprites (N, 4, S, S) uint8 at another size, colours multiplied by alpha, so that edges do not bleed."""
    chunks = []
    for chunk in rgba_sprites.split(256):
        rgba = chunk.float() / 255
        rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1)
        if rgba.shape[-1] != size:
            rgba = F.interpolate(rgba, size=size, mode="bilinear", antialias=True, align_corners=False)
        chunks.append((rgba * 255).round().byte())
    return torch.cat(chunks)


def background_colours(views: Views) -> Tensor:
    """(N, 3) in 0..1."""
    return torch.tensor(list(BACKGROUNDS.values()))[views.background]


def place(drawings: Tensor, views: Views, size: int) -> Tensor:
    """Place premultiplied drawings on their grounds, as ``views`` describe: (N, 3, size, size)."""
    n = len(drawings)
    no_stretch, no_shear = torch.ones(n, 2), torch.zeros(n)
    return _place(drawings, views, background_colours(views), size, no_stretch, no_shear)


def place_bent(drawings: Tensor, views: Views, grounds: Tensor, size: int, generator) -> Tensor:
    """The same, stretched in both directions and sheared, by up to 20 percent."""
    n = len(drawings)
    stretch = 1 + 0.2 * _plus_minus_one(n, 2, generator=generator)
    shear = 0.2 * _plus_minus_one(n, generator=generator)
    return _place(drawings, views, grounds, size, stretch, shear)


def _place(drawings: Tensor, views: Views, grounds: Tensor, size: int, stretch: Tensor, shear: Tensor) -> Tensor:
    radians = views.angle * (math.pi / 180)
    x_scale, y_scale = (views.scale[:, None] * stretch).T
    first_row = torch.stack([radians.cos() * x_scale, (radians.sin() + shear) * y_scale], dim=1)
    second_row = torch.stack([-radians.sin() * x_scale, radians.cos() * y_scale], dim=1)
    # affine_grid wants the way back: from a place in the picture to the place in the drawing.
    back = torch.linalg.inv(torch.stack([first_row, second_row], dim=1))
    theta = torch.cat([back, -(back @ views.shift[:, :, None])], dim=2)
    grid = F.affine_grid(theta, [len(drawings), 4, size, size], align_corners=False)
    drawn = F.grid_sample(drawings, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return (drawn[:, :3] + (1 - drawn[:, 3:]) * grounds[:, :, None, None]).clamp(0, 1)


def vary_colours(drawings: Tensor, generator) -> Tensor:
    """Colours that an artist might have chosen: less saturated half the time, stronger or weaker in each channel."""
    n = len(drawings)
    colour, alpha = drawings[:, :3], drawings[:, 3:]
    grey = colour.mean(dim=1, keepdim=True)
    saturation = torch.where(
        torch.rand(n, generator=generator) < 0.5, torch.rand(n, generator=generator), torch.ones(n)
    )[:, None, None, None]
    gain = 0.6 + 0.8 * torch.rand(n, 3, 1, 1, generator=generator)
    colour = (saturation * colour + (1 - saturation) * grey) * gain
    return torch.cat([torch.minimum(colour, alpha), alpha], dim=1)  # a premultiplied colour is at most its alpha


def cut_out(pictures: Tensor, generator, share: float = 0.3) -> Tensor:
    """A square of one colour over a random place, in some of the pictures: no single detail decides."""
    n, _, size, _ = pictures.shape
    has_hole = torch.rand(n, generator=generator) < share
    centre_y = torch.randint(0, size, (n, 1, 1), generator=generator)
    centre_x = torch.randint(0, size, (n, 1, 1), generator=generator)
    y, x = torch.arange(size)[None, :, None], torch.arange(size)[None, None, :]
    half = size // 5
    hole = ((y - centre_y).abs() < half) & ((x - centre_x).abs() < half) & has_hole[:, None, None]
    colour = torch.rand(n, 3, 1, 1, generator=generator)
    return torch.where(hole[:, None], colour, pictures)


def photocopy(pictures: Tensor, generator) -> Tensor:
    """Grey and hard contrast, as a worn copier gives; each copy with its own exposure."""
    n = len(pictures)
    grey = (pictures * torch.tensor(GREY_WEIGHTS)[:, None, None]).sum(dim=1, keepdim=True)
    contrast = 2 + 4 * torch.rand(n, 1, 1, 1, generator=generator)
    exposure = 0.35 + 0.4 * torch.rand(n, 1, 1, 1, generator=generator)
    return ((grey - exposure) * contrast + 0.5).clamp(0, 1).expand(-1, 3, -1, -1)


def trace(pictures: Tensor, grounds: Tensor, generator) -> Tensor:
    """Edges as black lines on paper of one colour, ``grounds`` (N, 3); each tracing with its own pressure."""
    grey = (pictures * torch.tensor(GREY_WEIGHTS)[:, None, None]).sum(dim=1, keepdim=True)
    x = F.pad((grey[..., 1:] - grey[..., :-1]).abs(), (0, 1))
    y = F.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1))
    faintest = 0.06 + 0.1 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    line = ((x + y - faintest) * 8).clamp(0, 1)
    return grounds[:, :, None, None] * (1 - line)


def ink_of(pictures: Tensor, grounds: Tensor, generator) -> Tensor:
    """Half of the pictures photocopied, half traced."""
    is_traced = torch.rand(len(pictures), generator=generator) < 0.5
    traced, copied = trace(pictures, grounds, generator), photocopy(pictures, generator)
    return torch.where(is_traced[:, None, None, None], traced, copied)


def _plus_minus_one(*shape: int, generator) -> Tensor:
    return 2 * torch.rand(*shape, generator=generator) - 1
