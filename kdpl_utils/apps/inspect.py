"""Any two vision-language models side by side on anybody's pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..learners import Learner
from ..support.disk import as_path
from ..support.pictures import as_picture
from ..support.tensors import as_labels
from ..support.values import real, whole
from ..vlm import TEMPLATE, VLM, check_names, check_several, encode_images, encode_names, logits
from ..widgets.distributions import teacher_student
from ..widgets.explorer import Explorer
from ..worlds.finding import find_pictures
from ..worlds.photos import open_photo
from ..worlds.world import Lazy, Split

THUMBNAIL = 160  # pixels: what the picture's panel shows


def inspect_pair(
    teacher: VLM | tuple,
    student: VLM | tuple,
    images: Sequence | Split | str | Path,
    classnames: Sequence[str],
    labels: Sequence[int] | Tensor | None = None,
    student_after: Callable | Sequence[Callable] | None = None,
    templates: Sequence[str] = (TEMPLATE,),
    teacher_scale: float | None = None,
    k: int = 6,
) -> Explorer:
    """The signature explorer for any two models: what each says about each picture, those that differ most first.

    Args:
        teacher, student: models of ``load_vlm``, or (model, preprocess, tokenizer) of open_clip.
        images: PIL pictures, a folder of them, or a ``Split``.
        classnames: C names; labels, where there are any, are indices of them (−1: none).
        student_after: the student's learned prompt (names → (C, D) unit features), or one for each training step.
        templates: sentences with {} for the name.
        teacher_scale: multiplies the teacher's cosines; by default its own ``exp(logit_scale)``.  The published KDPL
            uses the student's: ``teacher_scale=student.scale``.

    Raises:
        ValueError: no pictures, an unreadable one, names that are empty or double, or labels that do not fit.
    """
    names, k = check_names(classnames), whole(k, "k", 1)
    if teacher_scale is not None:
        teacher_scale = real(teacher_scale, "teacher_scale", 0, above=True)
    if isinstance(images, Split):
        labels = images.labels if labels is None else labels
        images = images.images
    if not isinstance(images, str | Path):
        check_several(images)
    prompts = student_after if isinstance(student_after, list | tuple) else [student_after]
    if any(isinstance(prompt, Learner) for prompt in prompts):
        raise ValueError("student_after is a learner: give what makes its text features, learner.text, as of a CoOp.")
    pictures = _Remembered(folder_images(images) if isinstance(images, str | Path) else images)
    if not len(pictures):
        raise ValueError("There are no images to inspect: give at least one.")
    if labels is not None:
        labels = as_labels(labels).cpu()
        if labels.shape != (len(pictures),) or labels.min() < -1 or labels.max() >= len(names):
            raise ValueError(f"labels must be {len(pictures)} numbers from -1 to {len(names) - 1}, one for each image.")
    teacher_logits, _ = _scores(_vlm(teacher, "teacher"), pictures, names, templates, teacher_scale)
    student_logits, learned = _scores(_vlm(student, "student"), pictures, names, templates, None, student_after)
    students = [student_logits, *learned]
    steps = ["before", "after"] if len(learned) == 1 else None
    return teacher_student(pictures.thumbnails, names, teacher_logits, students, labels, steps, k)


@torch.no_grad()
def _scores(
    vlm: VLM,
    images: Sequence,
    names: list[str],
    templates: Sequence[str],
    scale: float | None,
    prompts: Callable | Sequence[Callable] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Logits (N, C) with the templates, and with each learned prompt."""
    prompts = [] if prompts is None else [prompts] if callable(prompts) else list(prompts)
    with evaluating(vlm.model):
        features = encode_images(vlm, images)
        texts = [encode_names(vlm, names, templates), *(prompt(names) for prompt in prompts)]
    scale = vlm.scale if scale is None else scale
    first, *rest = (logits(features, text.to(features), scale).cpu() for text in texts)
    return first, rest


def folder_images(folder: str | Path) -> Sequence[Image.Image]:
    """The pictures under a folder, sorted by path, each opened when looked at."""
    paths = find_pictures(as_path(folder))
    return Lazy(len(paths), lambda i: open_photo(paths[i], upright=True))


class _Remembered(Sequence):
    """Pictures that leave a thumbnail behind when they are opened to be encoded: nothing is opened twice for it."""

    def __init__(self, images: Sequence):
        self.images, self.small = images, {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Image.Image:
        image = as_picture(self.images[i], f"Image {i}")
        if i not in self.small:
            self.small[i] = image.copy()
            self.small[i].thumbnail((THUMBNAIL, THUMBNAIL))
        return image

    @property
    def thumbnails(self) -> list[Image.Image]:
        return [self.small[i] for i in range(len(self))]


def _vlm(model: VLM | tuple, role: str) -> VLM:
    if isinstance(model, VLM):
        return model
    if isinstance(model, nn.Module) or not isinstance(model, tuple) or len(model) != 3:
        raise ValueError(f"Give the {role} as load_vlm returns it, or as (model, preprocess, tokenizer) of open_clip.")
    return VLM(*model, name=role)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode for a while; afterwards each of its parts is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
