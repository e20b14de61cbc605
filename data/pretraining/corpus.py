"""What the emoji models look at: pictures of some hands, bent and coloured at random, a few of them photocopied.

Every batch is a pure function of (seed, step), so a pretraining that was killed goes on with the very same pictures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from captions import Seen
from kdpl_utils.worlds.drawings import BACKGROUNDS, Views, metadata, sample_views, sprites

# Near-doubles ("man judge", "woman judge"): names for the text tower to tell from others, no pictures to be classified.
DISTRACTOR_GROUPS = ("people-body", "symbols")
DISTRACTOR_SHARE = 1 / 8  # of the captions
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in a photocopy


class Corpus:
    """The drawings of some hands.

    Args:
        styles: names of the hands.
        size: side of the pictures in pixels.
        photocopies: part of the pictures that are shown in grey and hard contrast.
        seed: of every random choice, together with a step.
    """

    def __init__(self, styles: Sequence[str], size: int, photocopies: float, seed: int = 0):
        self.styles, self.size, self.photocopies, self.seed = tuple(styles), size, photocopies, seed
        self.concepts = metadata()["concepts"]
        drawn_by_style = [set(metadata()["styles"][style]["drawn"]) for style in styles]
        self.styles_of_concept = [
            [k for k, drawn in enumerate(drawn_by_style) if concept in drawn] for concept in range(len(self.concepts))
        ]
        drawn_anywhere = [concept for concept, styles in enumerate(self.styles_of_concept) if styles]
        self.classes = [c for c in drawn_anywhere if self.concepts[c]["group"] not in DISTRACTOR_GROUPS]
        self.distractors = [c for c in drawn_anywhere if self.concepts[c]["group"] in DISTRACTOR_GROUPS]
        # A little larger than the pictures, so that little is lost when a drawing is turned.
        self.drawings = [premultiplied(sprites(style), min(64, round(size * 1.25))) for style in styles]

    def step_seed(self, step: int) -> int:
        return self.seed * 1_000_003 + step

    def training_batch(self, n: int, step: int) -> tuple[Tensor, Tensor]:
        """Varied pictures (n, 3, size, size) in 0..1 of n different concepts, and these concepts (n,)."""
        seed = self.step_seed(step)
        rng = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        concepts = rng.sample(self.classes, n)
        styles = [rng.choice(self.styles_of_concept[c]) for c in concepts]
        drawings = torch.stack([self.drawings[k][c] for c, k in zip(concepts, styles)]).float() / 255
        drawings = vary_colours(drawings, generator)
        views = sample_views(n, seed)
        grounds = background_colours(views) + 0.1 * _plus_minus_one(n, 3, generator=generator)
        pictures = place_bent(drawings, views, grounds.clamp(0, 1), self.size, generator)
        pictures = cut_out(pictures, generator)
        is_copy = torch.rand(n, generator=generator) < self.photocopies
        pictures = torch.where(is_copy[:, None, None, None], photocopy(pictures, generator), pictures)
        return pictures, torch.tensor(concepts)

    def plain_views(self, style: str, n_views: int) -> tuple[Tensor, list[int], list[Seen]]:
        """Unvaried views of every drawing of one hand, ``n_views`` of each (of a distractor one).

        Returns:
            (N, 3, size, size) pictures in 0..1, their N concepts, and what there is to say of each.
        """
        k = self.styles.index(style)
        drawn = metadata()["styles"][style]["drawn"]
        distractors = set(self.distractors)
        concepts = [c for c in drawn for _ in range(1 if c in distractors else n_views)]
        seed = self.step_seed(10_000_000 + k)  # far from any training step
        generator = torch.Generator().manual_seed(seed)
        views = sample_views(len(concepts), seed)
        drawings = self.drawings[k][torch.tensor(concepts)].float() / 255
        pictures = place(drawings, views, self.size)
        is_copy = torch.rand(len(concepts), generator=generator) < self.photocopies
        pictures = torch.where(is_copy[:, None, None, None], photocopy(pictures, generator), pictures)
        grounds = list(BACKGROUNDS)
        seen = [
            Seen(style, views.scale[i].item(), views.angle[i].item(), grounds[views.background[i]], is_copy[i].item())
            for i in range(len(concepts))
        ]
        return pictures, concepts, seen


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
    """Premultiplied drawings on their grounds, as ``views`` say: (N, 3, size, size)."""
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
    """Colours that a hand might have chosen: less saturated half the time, stronger or weaker in each channel."""
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


def _plus_minus_one(*shape: int, generator) -> Tensor:
    return 2 * torch.rand(*shape, generator=generator) - 1
