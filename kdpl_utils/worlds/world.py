"""A *world*: pictures, class names, splits, a dictionary, and models. A picture is drawn or opened when looked at."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import LongTensor

from ..support.disk import digest
from ..support.pictures import as_picture


class LazyList(Sequence):
    """A sequence of ``n`` items; item i is made by ``make(i)`` when it is asked for."""

    def __init__(self, n: int, make: Callable[[int], Image.Image]):
        self.n = n
        self.make = make

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int | slice):
        if isinstance(i, slice):
            return [self.make(k) for k in range(self.n)[i]]
        i = operator.index(i)
        if not -self.n <= i < self.n:
            raise IndexError(f"index {i} is outside 0..{self.n - 1}")
        return self.make(i % self.n)


@dataclass(frozen=True)
class Split:
    """N pictures (PIL, RGB) and their labels."""

    images: Sequence[Image.Image]
    labels: LongTensor  # (N,); -1 where a picture has none
    key: str = ""  # identifies these pictures in this order, for features kept on disk; empty if that is unknown
    unusable_because: str = ""  # why a split without pictures or labels cannot be used, in a sentence

    def __post_init__(self):
        labels = torch.as_tensor(self.labels, dtype=torch.long)
        if len(labels) != len(self.images):
            raise ValueError(f"{len(labels)} labels for {len(self.images)} pictures: give one for each, or -1.")
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int]) -> Split:
        """Return only these pictures, in this order; nothing is opened or drawn yet."""
        rows = torch.as_tensor(indices, dtype=torch.long).tolist()
        images = LazyList(len(rows), lambda i: self.images[rows[i]])
        return replace(self, images=images, labels=self.labels[rows], key=self.key and digest(self.key, rows))

    def of_classes(self, classes: Sequence[int]) -> Split:
        """Return the pictures of these classes; labels are renumbered from 0: label k means ``classes[k]``.

        Raises:
            ValueError: The split has no pictures or no labels; says why.
        """
        if self.unusable_because:
            raise ValueError(self.unusable_because)
        new_label = {int(label): k for k, label in enumerate(classes)}
        kept = self.subset([i for i, label in enumerate(self.labels.tolist()) if label in new_label])
        return replace(kept, labels=torch.tensor([new_label[label] for label in kept.labels.tolist()]).long())

    def crops(self, views: int, seed: int) -> Split:
        """Return ``views`` random crops of each picture (``random_crops``); with 0 the pictures as they are."""
        if views == 0:
            return self
        key = self.key and f"{self.key}/{views} views/seed {seed}"
        return replace(self, images=random_crops(self.images, views, seed), labels=self.labels.repeat(views), key=key)


NO_PICTURES = Split((), torch.empty(0), unusable_because="This world has no validation pictures.")


@dataclass(frozen=True)
class World:
    """Everything that a lesson needs; models are named by the arguments of ``load_vlm``."""

    name: str
    classnames: tuple[str, ...]  # C names; a label is an index into them
    train: Split  # pictures to adapt with
    test: Split  # other pictures of the same kind
    shifts: dict[str, Split]  # the same classes, or some of them, in another style, by style
    templates: tuple[str, ...]  # sentences with {} for the name
    base: range  # the two halves of the classes (``base_novel``)
    novel: range
    dictionary: tuple[str, ...]  # thousands of names for class-agnostic learning, none twice
    students: tuple[tuple[str, str | None], ...]  # (name, pretrained) pairs
    teachers: tuple[tuple[str, str | None], ...]  # by size
    student: tuple[str, str | None]  # the defaults
    teacher: tuple[str, str | None]
    recipes: dict[str, dict[str, float]] = field(default_factory=dict)  # learner → what differs from its own recipe
    views: int = 8  # random crops of each training picture in the paper's comparisons; 0: the pictures as they are
    targets: tuple[str, ...] = ()  # worlds to which the paper takes prompts learned here (cross-dataset)
    shots_as_published: bool = True  # few shots are those that the published code draws (``coop_few_shot``)
    transformer: tuple[str, str | None] | None = None  # the student for learners that need a vision transformer
    val: Split = NO_PICTURES  # for choosing settings; in neither of the others

    @property
    def recipe(self) -> dict[str, float]:
        """What the lessons train CoOp with, as arguments of ``Recipe``."""
        return self.recipes.get("coop", {})


def base_novel(n_classes: int) -> tuple[range, range]:
    """Return the first ⌈C/2⌉ classes and the rest (CoCoOp, arXiv 2203.05557, section 4.1)."""
    half = math.ceil(n_classes / 2)
    return range(half), range(half, n_classes)


def of_classes(split: Split, classes: Sequence[int]) -> Split:
    """Return ``split.of_classes(classes)``."""
    return split.of_classes(classes)


def random_crops(images: Sequence, views: int, seed: int, scale: tuple[float, float] = (0.08, 1.0)) -> Sequence:
    """Draw CoOp's augmentation once, so that features can be cached.

    Item ``v * len(images) + n`` is view v of picture n, a function of (seed, item): a random part of its area (aspect
    3:4 to 4:3), resized to a square of the picture's shorter side, at most 336 px, mirrored half the time.
    """

    def crop(i: int) -> Image.Image:
        image = as_picture(images[i % len(images)], f"Image {i % len(images)}")
        rng = random.Random(f"{seed}/{i}")
        width, height = image.size
        side = min(width, height, 336)
        for _ in range(10):  # as torchvision's RandomResizedCrop: a box that sticks out is drawn again
            area = width * height * rng.uniform(*scale)
            aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            w = round(math.sqrt(area * aspect))
            h = round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                break
        else:
            w = h = min(width, height)
        x = rng.randint(0, width - w)
        y = rng.randint(0, height - h)
        part = image.crop((x, y, x + w, y + h)).resize((side, side), Image.Resampling.BICUBIC)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part

    return LazyList(len(images) * views, crop)
