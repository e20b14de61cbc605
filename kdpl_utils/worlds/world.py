"""A *world*: pictures, class names, splits, a dictionary of names, and the models that go with them.

Pictures are lazy throughout: drawn, opened or cropped when looked at.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import LongTensor

from ..support.disk import digest
from ..support.pictures import as_picture
from ..support.tensors import as_labels, as_rows
from ..support.values import real, seed_of, shown, whole
from ..vlm import check_several


class Lazy(Sequence):
    """A sequence of ``n`` items, item i made by ``make(i)`` when it is asked for."""

    def __init__(self, n: int, make: Callable[[int], Image.Image]):
        self.n, self.make = n, make

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int | slice):
        if isinstance(i, slice):
            return [self.make(k) for k in range(self.n)[i]]
        i = operator.index(i)
        if not -self.n <= i < self.n:
            raise IndexError(f"index {i} is outside 0..{self.n - 1}")
        return self.make(i % self.n)


class Contents(NamedTuple):
    """What tells each picture of a list from any other, so that its features are kept for it alone.

    Attributes:
        place: of the list; it stays where pictures of it change, come or go.
        of: row → a text without spaces that changes with any bit of what is seen there.
    """

    place: str
    of: Callable[[int], str]


@dataclass(frozen=True)
class Split:
    """N pictures (PIL, RGB) and their labels (N,); -1 where a picture has none.

    Attributes:
        unusable_because: of a split without pictures or without labels, the sentence that says so and what to do.
        key: tells these pictures in this order from any others, for features kept on disk; empty if that is unknown.
        contents: the same of each picture, where they lie in files.
    """

    images: Sequence[Image.Image]
    labels: LongTensor
    unusable_because: str = ""
    key: str = ""
    contents: Contents | None = None

    def __post_init__(self):
        check_several(self.images)
        labels = as_labels(self.labels, least=-1)
        if len(labels) != len(self.images):
            raise ValueError(
                f"There are {len(labels)} labels for {len(self.images)} pictures: give one for each, or -1."
            )
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices) -> Split:
        """Only these pictures, in this order, or those of a mask; nothing is opened or drawn yet."""
        indices = as_rows(indices, len(self), "indices")
        rows = [row % len(self) for row in indices.tolist()]
        key = self.key and digest(self.key, rows)
        contents = self.contents
        if contents:
            of = contents.of
            contents = Contents(digest(contents.place, rows), lambda i: of(rows[i]))
        images = Lazy(len(rows), lambda i: self.images[rows[i]])
        return replace(self, images=images, labels=self.labels[indices], key=key, contents=contents)

    def of_classes(self, classes: Sequence[int]) -> Split:
        """The pictures of these classes only, labels renumbered from 0: label k means ``classes[k]``.

        With ``split.labels.unique().tolist()`` a shift that has 200 of 1,000 classes is tested among those 200 names.

        Raises:
            ValueError: the split has no pictures or no labels; says why. Or a class is given twice, or is no number.
        """
        if self.unusable_because:
            raise ValueError(self.unusable_because)
        classes = as_labels(classes, "classes", least=0).tolist()
        new_label = {label: k for k, label in enumerate(classes)}
        if len(new_label) < len(classes):
            raise ValueError(f"classes holds a number twice, of {classes}: label k means the k-th, so give each once.")
        old_labels = self.labels.tolist()
        kept = self.subset([i for i, label in enumerate(old_labels) if label in new_label])
        labels = torch.tensor([new_label[label] for label in kept.labels.tolist()], dtype=torch.long)
        return replace(kept, labels=labels)

    def crops(self, views: int, seed: int) -> Split:
        """``views`` random crops of each picture (``random_crops``), all first views before all second ones.

        With 0 views it is the split as it is.
        """
        views, seed = whole(views, "views", 0), seed_of(seed)
        if views == 0:
            return self
        cropped = f"{views} views/seed {seed}"
        key, contents = self.key and f"{self.key}/{cropped}", self.contents
        if contents:
            of, n = contents.of, len(self)
            contents = Contents(digest(contents.place, cropped), lambda i: f"{of(i % n)}/{seed}/{i}")
        images = random_crops(self.images, views, seed)
        return replace(self, images=images, labels=self.labels.repeat(views), key=key, contents=contents)


def _no_pictures() -> Split:
    return Split(Lazy(0, lambda i: None), torch.empty(0, dtype=torch.long), "This world has no such pictures.")


@dataclass(frozen=True)
class World:
    """Everything that a lesson needs; models are named by the arguments of ``load_vlm``.

    Attributes:
        classnames: C names; a label is an index into them.
        train: pictures to adapt with.
        test: pictures of the same kind, others than those.
        shifts: the same classes in another style, by style; ``labels.unique()`` says which of the classes.
        templates: sentences with ``{}`` for the name, or a dict from names to sentences of their own.
        base, novel: the two halves of the classes (``base_novel``).
        dictionary: thousands of names for class-agnostic learning, none twice.
        students, teachers: (name, pretrained) pairs, teachers by size; ``student`` and ``teacher`` are the defaults.
        recipes: for a learner's name the arguments of ``Recipe`` that differ here from its published recipe.
        views: random crops of each training picture in the paper's comparisons; 0 takes the pictures as they are.
        targets: worlds to which the paper's comparison takes prompts learned here (cross-dataset); may be empty.
        shots_as_published: whether few shots are the very pictures that the published code draws (``coop_few_shot``).
        transformer: the student of comparisons in which all learners take part: it must be a vision transformer.
        val: pictures for choosing settings, of the same kind and in neither of the others; may be empty.  Published
            runs draw min(shots, 4) of a class.
    """

    name: str
    classnames: tuple[str, ...]
    train: Split
    test: Split
    shifts: dict[str, Split]
    templates: tuple[str, ...] | dict[str, list[str]]
    base: range
    novel: range
    dictionary: tuple[str, ...]
    students: tuple[tuple[str, str | None], ...]
    teachers: tuple[tuple[str, str | None], ...]
    student: tuple[str, str | None]
    teacher: tuple[str, str | None]
    recipes: dict[str, dict[str, float]] = field(default_factory=dict)
    views: int = 8
    targets: tuple[str, ...] = ()
    shots_as_published: bool = True
    transformer: tuple[str, str | None] | None = None
    val: Split = field(default_factory=_no_pictures)

    @property
    def recipe(self) -> dict[str, float]:
        """CoOp's of ``recipes``: what the lessons train with, as arguments of ``Recipe``."""
        return self.recipes.get("coop", {})


def base_novel(n_classes: int) -> tuple[range, range]:
    """The first ⌈C/2⌉ classes and the rest (CoCoOp's rule; arXiv 2203.05557, section 4.1)."""
    n_classes = whole(n_classes, "n_classes", 0)
    half = math.ceil(n_classes / 2)
    return range(half), range(half, n_classes)


def of_classes(split: Split, classes: Sequence[int]) -> Split:
    """``split.of_classes(classes)``."""
    if not isinstance(split, Split):
        raise ValueError(f"{shown(split)} is no split: give pictures with labels, such as world.train.")
    return split.of_classes(classes)


def random_crops(images: Sequence, views: int, seed: int, scale: tuple[float, float] = (0.08, 1.0)) -> Sequence:
    """CoOp's augmentation, drawn once: ``views`` crops of each picture, so that features can be cached.

    Item ``v * len(images) + n`` is view v of picture n, a pure function of (seed, item): a random part of its area
    (aspect 3:4 to 4:3), resized to a square of the picture's shorter side, at most 336 px, mirrored half the time.
    """
    views, seed = whole(views, "views", 0), seed_of(seed)
    smallest = real(scale[0], "the smallest part", 0, 1, above=True)
    largest = real(scale[1], "the largest part", smallest, 1)

    def crop(i: int) -> Image.Image:
        image = as_picture(images[i % len(images)], f"Image {i % len(images)}")
        rng = random.Random(f"{seed}/{i}")
        width, height = image.size
        side = min(width, height, 336)
        for _ in range(10):  # as torchvision's RandomResizedCrop: a box that sticks out is drawn again
            area = width * height * rng.uniform(smallest, largest)
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

    return Lazy(len(images) * views, crop)
