"""A *world*: pictures, class names, splits, a dictionary of names, and the models that go with them.

``load_world("emoji")`` ships with the suite; ``load_world("oxford_pets")`` gives the same fields over real photos.
Pictures are lazy throughout: drawn, opened or cropped when looked at.
"""

from __future__ import annotations

import math
import operator
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import LongTensor, Tensor

from . import emoji
from .datasets import DATASETS, imagenet21k_names, open_photo, read_dataset, unique_names

# Which hands drew what.  No model was trained on any of these five (the other seven made the models).
ADAPTATION_STYLES = ("emojione", "noto-v1")  # train split and in-domain test: different views of these
SHIFT_STYLES = ("fluent-emoji", "emojione-v1", "emojione-monotone")  # shifted tests
DEFAULT_GROUP = "food-drink"
TRAIN_VIEWS = 16  # for each of the two styles: 32 pictures a class, of which a seed draws its 16 shots
TEST_PICTURES = 1000  # at least, behind every reported number

# Chosen for CoOp alone, on training pictures left out of its shots (notebook 03 shows how), before KDPL was ever run.
EMOJI_RECIPE = {"epochs": 10, "lr": 0.05}
EMOJI_STUDENTS = (("emoji-student-rn", None), ("emoji-student-vit", None))
EMOJI_TEACHERS = (("emoji-teacher-small", None), ("emoji-teacher-medium", None), ("emoji-teacher-large", None))
STUDENTS = (("ViT-B-32-quickgelu", "openai"), ("RN50-quickgelu", "openai"))
# The last one is the paper's teacher: 986 million parameters, and a licence of its own.
TEACHERS = (("ViT-B-16-quickgelu", "openai"), ("ViT-L-14-quickgelu", "openai"), ("ViT-H-14-quickgelu", "dfn5b"))


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


@dataclass(frozen=True)
class Split:
    """N pictures (PIL, RGB) and their labels (N,)."""

    images: Sequence[Image.Image]
    labels: LongTensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices) -> Split:
        """Only these pictures, in this order; nothing is opened or drawn yet."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        rows = indices.tolist()
        return Split(Lazy(len(rows), lambda i: self.images[rows[i]]), self.labels[indices])


@dataclass(frozen=True)
class World:
    """Everything that a lesson needs; models are named by the arguments of ``load_vlm``.

    Attributes:
        classnames: C names; a label is an index into them.
        train: pictures to adapt with.
        test: pictures of the same kind, others than those.
        shifts: the same classes in another style, by style.
        templates: sentences with ``{}`` for the name.
        base, novel: the two halves of the classes (``base_novel``).
        dictionary: thousands of names for class-agnostic learning, none twice.
        students, teachers: (name, pretrained) pairs, teachers by size; ``student`` and ``teacher`` are the defaults.
        recipe: where training differs from the published recipe, as arguments of ``Recipe``.
    """

    name: str
    classnames: tuple[str, ...]
    train: Split
    test: Split
    shifts: dict[str, Split]
    templates: tuple[str, ...]
    base: range
    novel: range
    dictionary: tuple[str, ...]
    students: tuple[tuple[str, str | None], ...]
    teachers: tuple[tuple[str, str | None], ...]
    student: tuple[str, str | None]
    teacher: tuple[str, str | None]
    recipe: dict[str, float] = field(default_factory=dict)


def world_names() -> tuple[str, ...]:
    """What ``load_world`` knows."""
    groups = sorted({concept["group"] for concept in emoji.metadata()["concepts"]})
    return ("emoji", *(f"emoji/{group}" for group in groups), *DATASETS)


def load_world(name: str = "emoji", root: str | Path | None = None) -> World:
    """A world by its name (``world_names()``); ``"emoji"`` is its group of food and drink.

    Args:
        root: the folder of the real data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``.
    """
    if name not in world_names():
        raise ValueError(f"There is no world {name!r}: choose from {', '.join(world_names())}.")
    kind, _, group = name.partition("/")
    return _emoji_world(group or DEFAULT_GROUP) if kind == "emoji" else _real_world(name, root)


def base_novel(n_classes: int) -> tuple[range, range]:
    """The first ⌈C/2⌉ classes and the rest (CoCoOp's rule; arXiv 2203.05557, section 4.1)."""
    half = math.ceil(n_classes / 2)
    return range(half), range(half, n_classes)


def of_classes(split: Split, classes: range) -> Split:
    """The pictures of these classes only, labels renumbered from 0: label k means ``classes[k]``."""
    kept = split.subset([i for i, label in enumerate(split.labels.tolist()) if label in classes])
    return Split(kept.images, torch.tensor([classes.index(label) for label in kept.labels.tolist()], dtype=torch.long))


def few_shot(labels: Tensor, shots: int, seed: int) -> LongTensor:
    """Indices of ``shots`` pictures a class, class by class, without replacement; all where there are fewer.

    A pure function of its arguments.  With one seed, few shots are among the many, and a class's pictures are
    the same whether or not the classes after it are there (so base-to-novel and all-class runs share them).
    """
    if shots < 1:
        raise ValueError(f"shots = {shots}, but a class needs at least one picture.")
    labels, generator = torch.as_tensor(labels), torch.Generator().manual_seed(seed)
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    return torch.cat([m[torch.randperm(len(m), generator=generator)[:shots]] for m in members])


def random_crops(images: Sequence, views: int, seed: int, scale: tuple[float, float] = (0.08, 1.0)) -> Sequence:
    """CoOp's augmentation, drawn once: ``views`` crops of each picture, so that features can be cached.

    Item ``v * len(images) + n`` is view v of picture n, a pure function of (seed, item): a random part of its area
    (aspect 3:4 to 4:3), resized to a square of the picture's shorter side, at most 336 px, mirrored half the time.
    """

    def crop(i: int) -> Image.Image:
        image, rng = images[i % len(images)], random.Random(f"{seed}/{i}")
        (width, height), side = image.size, min(*image.size, 336)
        for _ in range(10):  # as torchvision's RandomResizedCrop: a box that sticks out is drawn again
            area = width * height * rng.uniform(*scale)
            aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                break
        else:
            w = h = min(width, height)
        x, y = rng.randint(0, width - w), rng.randint(0, height - h)
        part = image.crop((x, y, x + w, y + h)).resize((side, side), Image.Resampling.BICUBIC)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part

    return Lazy(len(images) * views, crop)


class Drawings:
    """Seeded views of one style's drawings, 64 by 64 pixels; rendered a chunk at a time when first looked at."""

    CHUNK = 256

    def __init__(self, style: str, concepts: Tensor, seed: int):
        self.style, self.concepts, self.views = style, concepts, emoji.sample_views(len(concepts), seed)
        self.chunks: dict[int, np.ndarray] = {}

    def __getitem__(self, i: int) -> Image.Image:
        chunk, row = divmod(i, self.CHUNK)
        if chunk not in self.chunks:
            rows = slice(chunk * self.CHUNK, (chunk + 1) * self.CHUNK)
            sprites = emoji.sprites(self.style)[self.concepts[rows]].float() / 255
            pictures = emoji.render(sprites, self.views[rows])  # (n, 3, 64, 64)
            self.chunks[chunk] = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return Image.fromarray(self.chunks[chunk][row])


def _emoji_split(group: str, part: str, styles: Sequence[str], concepts: Tensor, views: int) -> Split:
    """``views`` pictures of each concept in each style; seeded by where they belong, so no two splits share a view."""
    size = views * len(concepts)
    drawings = [Drawings(s, concepts.repeat(views), zlib.crc32(f"{group}/{part}/{s}".encode())) for s in styles]
    labels = torch.arange(len(concepts)).repeat(views * len(styles))
    return Split(Lazy(size * len(styles), lambda i: drawings[i // size][i % size]), labels)


def _emoji_world(group: str) -> World:
    concepts, styles = emoji.metadata()["concepts"], emoji.metadata()["styles"]
    everywhere = set.intersection(*(set(styles[s]["drawn"]) for s in (*ADAPTATION_STYLES, *SHIFT_STYLES)))
    members = [i for i in everywhere if concepts[i]["group"] == group]
    # Alphabetical, as in CoOp's data sets: Unicode's order would put fruit in one half and dishes in the other.
    members.sort(key=lambda i: concepts[i]["name"].casefold())
    drawn, (base, novel) = torch.tensor(members), base_novel(len(members))
    test_views = math.ceil(TEST_PICTURES / (len(ADAPTATION_STYLES) * len(novel)))  # either half has enough
    shift_views = math.ceil(TEST_PICTURES / len(members))  # each style has enough
    return World(
        name=f"emoji/{group}",
        classnames=tuple(concepts[i]["name"] for i in members),
        train=_emoji_split(group, "train", ADAPTATION_STYLES, drawn, TRAIN_VIEWS),
        test=_emoji_split(group, "test", ADAPTATION_STYLES, drawn, test_views),
        shifts={style: _emoji_split(group, "shift", (style,), drawn, shift_views) for style in SHIFT_STYLES},
        templates=("a photo of a {}.",),
        base=base,
        novel=novel,
        dictionary=unique_names([c["name"] for c in concepts] + [k for c in concepts for k in c["keywords"]]),
        students=EMOJI_STUDENTS,
        teachers=EMOJI_TEACHERS,
        student=EMOJI_STUDENTS[0],
        teacher=EMOJI_TEACHERS[-1],
        recipe=EMOJI_RECIPE,
    )


def _real_world(name: str, root: str | Path | None) -> World:
    files = read_dataset(name, root)
    base, novel = base_novel(len(files.classnames))
    return World(
        name=name,
        classnames=tuple(files.classnames),
        train=_photos(files.train),
        test=_photos(files.test),
        shifts={},
        templates=(DATASETS[name].template,),
        base=base,
        novel=novel,
        dictionary=imagenet21k_names(),
        students=STUDENTS,
        teachers=TEACHERS,
        student=STUDENTS[0],
        teacher=TEACHERS[1],
    )


def _photos(pairs: Sequence[tuple[Path, int]]) -> Split:
    labels = torch.tensor([label for _, label in pairs], dtype=torch.long)
    return Split(Lazy(len(pairs), lambda i: open_photo(pairs[i][0])), labels)
