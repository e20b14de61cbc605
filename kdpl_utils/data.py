"""A *world*: pictures, class names, splits, a dictionary of names, and the models that go with them.

``load_world("emoji")`` ships with the suite; ``load_world("oxford_pets")`` gives the same fields over real photos, and
``load_world("/my/pictures")`` over your own.  Pictures are lazy throughout: drawn, opened or cropped when looked at.
"""

from __future__ import annotations

import hashlib
import math
import operator
import os
import random
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import LongTensor, Tensor

from . import emoji
from .datasets import DATASETS, data_folder, is_there, read_dataset
from .dictionaries import load_dictionary, unique_names
from .folders import Names, read_folder
from .photos import Files, Labelled, open_photo
from .streams import is_shards, tar_pictures

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
    """N pictures (PIL, RGB) and their labels (N,); -1 where a picture has none.

    Attributes:
        why: of a split without pictures or without labels, the sentence that says so and what to do.
        key: tells these pictures in this order from any others, for features kept on disk; empty if that is unknown.
    """

    images: Sequence[Image.Image]
    labels: LongTensor
    why: str = ""
    key: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices) -> Split:
        """Only these pictures, in this order; nothing is opened or drawn yet."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        rows = indices.tolist()
        key = self.key and _digest(self.key, rows)
        return Split(Lazy(len(rows), lambda i: self.images[rows[i]]), self.labels[indices], self.why, key)


def _digest(*values) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:24]


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
        templates: sentences with ``{}`` for the name.
        base, novel: the two halves of the classes (``base_novel``).
        dictionary: thousands of names for class-agnostic learning, none twice.
        students, teachers: (name, pretrained) pairs, teachers by size; ``student`` and ``teacher`` are the defaults.
        recipe: where training differs from the published recipe, as arguments of ``Recipe``.
        val: pictures for choosing settings, of the same kind and in neither of the others; may be empty.  Published
            runs draw min(shots, 4) of a class.
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
    val: Split = field(default_factory=_no_pictures)


def world_names() -> tuple[str, ...]:
    """What ``load_world`` knows."""
    groups = sorted({concept["group"] for concept in emoji.metadata()["concepts"]})
    return ("emoji", *(f"emoji/{group}" for group in groups), *DATASETS)


def load_world(
    name: str | Path = "emoji",
    root: str | Path | None = None,
    dictionary: str | Path | Iterable[str] | None = None,
) -> World:
    """A world by its name (``world_names()``), or by the path of a folder of pictures (``folder_world``).

    Args:
        name: ``"emoji"`` is its group of food and drink.
        root: the folder of the real data sets; by default ``$KDPL_DATA``, or else ``~/.cache/kdpl``.
        dictionary: other names for class-agnostic learning: ``"imagenet21k"``, ``"open_images"``, the path of a file
            with a name a line, or a list.  None takes the emoji world's own, and ImageNet-21k's for photographs.
    """
    kind, _, group = name.partition("/") if name in world_names() else ("folder", "", "")
    a_path = isinstance(name, Path) or name.startswith(("/", ".", "~")) or Path(name).is_dir() or is_shards(name)
    if kind == "folder" and not a_path:
        raise ValueError(
            f"There is no world {name!r}: choose from {', '.join(world_names())}, or give the path of a folder of "
            "pictures."
        )
    if kind == "emoji":
        world = _emoji_world(group or DEFAULT_GROUP)
        return (
            world if dictionary is None else replace(world, dictionary=load_dictionary(dictionary, data_folder(root)))
        )
    dictionary = "imagenet21k" if dictionary is None else dictionary
    if kind == "folder":
        return folder_world(name, dictionary=dictionary, root=root)
    return replace(_real_world(name, root), dictionary=load_dictionary(dictionary, data_folder(root)))


def folder_world(
    path: str | Path,
    classnames: Names | None = None,
    *,
    labelled: bool | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    dictionary: str | Path | Iterable[str] = "imagenet21k",
    root: str | Path | None = None,
) -> World:
    """One's own pictures, in a folder or in tar files, as a world; opened when looked at.

    * ``path/<class>/…``: labelled; each class is cut into 50 % training, 20 % validation, 30 % test (seeded).
      With ``path/train/<class>/…`` and ``path/test/<class>/…`` (and ``val``) nothing is cut.
    * ``path/…`` with ``classnames``: no labels (-1), all for training, all classes are ``base``: for KDPL.
    * ``path/…`` alone: no names either, C = 0: for class-agnostic KDPL.  Neither of the two can be scored.
    * ``train-{000..146}.tar`` or ``train-*.tar``: as the last two; the pictures stay in the webdataset shards.

    Args:
        classnames: names of the classes; of a labelled folder one for each subfolder, in the order of their names,
            or a dict from subfolders to names.  By default the subfolders' own.
        labelled: whether subfolders are classes; by default, if the pictures lie in subfolders.
        templates, dictionary, root: as in ``World`` and ``load_world``.

    Raises:
        FileNotFoundError, ValueError: no such folder, no picture in it, or names that do not fit.
    """
    from .vlm import check_names  # vlm comes after data

    folder = Path(path).expanduser().resolve()
    files = _in_shards(path, classnames, labelled) if is_shards(path) else read_folder(folder, classnames, labelled)
    classes = tuple(check_names(files.classnames)) if files.classnames else ()
    world = _photo_world(folder.name, files._replace(classnames=classes), tuple(templates), upright=True)
    world = replace(world, dictionary=load_dictionary(dictionary, data_folder(root)))
    if (world.train.labels >= 0).all():
        return world
    none = f"The pictures of {folder} have no labels: "
    unscored = none + "nothing can be scored on them; put some into a folder with a subfolder for each class."
    why = {"train": none + "learn from world.train as it is, with KDPL.", "val": unscored, "test": unscored}
    parts = {part: replace(getattr(world, part), why=sentence) for part, sentence in why.items()}
    return replace(world, base=range(len(classes)), novel=range(len(classes), len(classes)), **parts)


def _in_shards(shards: str | Path, classnames: Names | None, labelled: bool | None) -> Files:
    if labelled or isinstance(classnames, Mapping):
        raise ValueError(f"Pictures in shards have no labels here: give {shards} a list of names, or none.")
    return Files(list(classnames or ()), [(picture, -1) for picture in tar_pictures(shards)], [], [])


def base_novel(n_classes: int) -> tuple[range, range]:
    """The first ⌈C/2⌉ classes and the rest (CoCoOp's rule; arXiv 2203.05557, section 4.1)."""
    half = math.ceil(n_classes / 2)
    return range(half), range(half, n_classes)


def of_classes(split: Split, classes: Sequence[int]) -> Split:
    """The pictures of these classes only, labels renumbered from 0: label k means ``classes[k]``.

    With ``split.labels.unique().tolist()`` a shift that has 200 of 1,000 classes is tested among those 200 names.

    Raises:
        ValueError: the split has no pictures or no labels; says why.
    """
    if split.why:
        raise ValueError(split.why)
    kept = split.subset([i for i, label in enumerate(split.labels.tolist()) if label in classes])
    labels = torch.tensor([classes.index(label) for label in kept.labels.tolist()], dtype=torch.long)
    return replace(kept, labels=labels)


def few_shot(labels: Tensor, shots: int, seed: int) -> LongTensor:
    """Indices of ``shots`` pictures a class, class by class, without replacement; all where there are fewer.

    A pure function of its arguments.  With one seed, few shots are among the many, and a class's pictures are
    the same whether or not the classes after it are there (so base-to-novel and all-class runs share them).
    """
    if shots < 1:
        raise ValueError(f"shots = {shots}, but a class needs at least one picture.")
    labels, generator = torch.as_tensor(labels), torch.Generator().manual_seed(seed)
    if len(labels) == 0 or labels.min() < 0:
        raise ValueError("Shots are drawn class by class, and these pictures have no labels: use random_subset.")
    members = [(labels == label).nonzero().flatten() for label in labels.unique()]
    return torch.cat([m[torch.randperm(len(m), generator=generator)[:shots]] for m in members])


def coop_few_shot(train_labels: Tensor, val_labels: Tensor, shots: int, seed: int) -> tuple[LongTensor, LongTensor]:
    """The few shots that CoOp's and KDPL's published code draws: indices of training and of validation pictures.

    From lists in the order of ``split_zhou_*.json`` these are the very pictures of the papers (Dassl's
    ``generate_fewshot_dataset``): Python's ``random``, seeded once, samples each class in the order in which labels
    first appear, training pictures first, then min(shots, 4) for validation; smaller classes are taken whole.
    ImageNet is the exception: there the published order is that of a file system.
    """
    rng = random.Random(seed)

    def sample(labels: Tensor, n: int) -> LongTensor:
        members = {}
        for i, label in enumerate(torch.as_tensor(labels).tolist()):
            members.setdefault(label, []).append(i)
        drawn = [rng.sample(m, n) if len(m) >= n else m for m in members.values()]
        return torch.tensor([i for chosen in drawn for i in chosen], dtype=torch.long)

    return sample(train_labels, shots), sample(val_labels, min(shots, 4))


def random_subset(n: int, size: int, seed: int) -> LongTensor:
    """Indices of ``size`` of n pictures, or of all where there are fewer, without a look at any label."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:size]


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
        self.rendering = threading.Lock()  # pictures are opened in several threads, each chunk drawn by one

    def __getitem__(self, i: int) -> Image.Image:
        chunk, row = divmod(i, self.CHUNK)
        with self.rendering:
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
    key = _digest("emoji", group, part, styles, concepts.tolist(), views)
    return Split(Lazy(size * len(styles), lambda i: drawings[i // size][i % size]), labels, key=key)


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
    data, files = DATASETS[name], read_dataset(name, root)
    world = _photo_world(name, files, (data.template,))
    there = [shift for shift in data.shifts if is_there(shift, root)]
    return replace(world, shifts={shift: _shift(read_dataset(shift, root), files.classnames) for shift in there})


def _shift(files: Files, classnames: Sequence[str]) -> Split:
    """The test pictures of another set, labelled by these class names; of other classes, none."""
    label = {name: y for y, name in enumerate(classnames)}
    known = [label.get(name) for name in files.classnames]
    return _photos([(photo, known[y]) for photo, y in files.test if known[y] is not None])


def _photo_world(name: str, files: Files, templates: tuple[str, ...], upright: bool = False) -> World:
    """A world of photographs with the usual models, without shifts and dictionary."""
    base, novel = base_novel(len(files.classnames))
    why = "{} has no {} pictures: learn from another world with these classes, or test on another one."
    train, val, test = (
        _photos(pairs, upright, why="" if pairs else why.format(name, part))
        for part, pairs in (("training", files.train), ("validation", files.val), ("test", files.test))
    )
    return World(
        name=name,
        classnames=tuple(files.classnames),
        train=train,
        test=test,
        shifts={},
        templates=templates,
        base=base,
        novel=novel,
        dictionary=(),
        students=STUDENTS,
        teachers=TEACHERS,
        student=STUDENTS[0],
        teacher=TEACHERS[1],
        val=val,
    )


def _photos(pairs: Labelled, upright: bool = False, why: str = "") -> Split:
    labels = torch.tensor([label for _, label in pairs], dtype=torch.long)
    return Split(Lazy(len(pairs), lambda i: open_photo(pairs[i][0], upright)), labels, why, _key(pairs))


def _key(pairs: Labelled) -> str:
    """By name, size and date of every file (of very many by name alone): a picture that is replaced is another one."""
    files = {getattr(photo, "file", str(photo)) for photo, _ in pairs[:50_000]}  # arrays and tar files hold many
    stats = {file: (os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files if os.path.exists(file)}
    return _digest("photos", [str(photo) for photo, _ in pairs], sorted(stats.items()))
