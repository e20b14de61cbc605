"""Any two vision-language models side by side on anybody's pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..clip.words import TEMPLATE, check_names
from ..support.disk import as_path
from ..vlm import VLM, encode_names, logits
from ..worlds.folders import find_pictures
from ..worlds.world import Split
from .encode import encode_once
from .inspect_page import thumbnail

if TYPE_CHECKING:
    from ..widgets.explorer import Explorer


@torch.no_grad()
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
    """Show what two models predict for each picture, those on which they differ most first.

    Args:
        teacher, student: models of ``load_vlm``, or (model, preprocess, tokenizer) of open_clip, whose model is put in
            evaluation mode.
        images: PIL pictures, paths, a folder of them, or a ``Split``.
        classnames: C names; labels are indices of them (−1: none).
        student_after: a learner, or a prompt (names → (C, D) unit features); or one for each training step.
        templates: sentences with {} for the name.
        teacher_scale: multiplies the teacher's cosines; by default its own ``exp(logit_scale)``. The published KDPL
            uses the student's: ``teacher_scale=student.scale``.

    Raises:
        ValueError: a picture cannot be read, fewer than two names, or the same model twice.
    """
    from ..widgets.distributions import teacher_student

    names = check_names(classnames)
    if len(names) < 2:
        raise ValueError(f"{names[0]!r} is the only name: give at least two.")
    if teacher is student:
        raise ValueError("Teacher and student are the same model: give two different ones.")
    if isinstance(images, Split):
        labels = images.labels if labels is None else labels
        images = images.images
    images = list(find_pictures(as_path(images))) if isinstance(images, str | Path) else images
    prompts = [] if student_after is None else [student_after] if callable(student_after) else list(student_after)
    larger, vlm = _vlm(teacher, "teacher"), _vlm(student, "student")
    seen = encode_once([(larger, None), (vlm, None)], images, lambda picture, _: thumbnail(picture))
    if seen.left_out:  # labels and rows of the caller would mean other pictures
        raise ValueError(seen.left_out[0])
    scale = larger.scale if teacher_scale is None else teacher_scale
    target = logits(seen.features[0], encode_names(larger, names, templates), scale)
    texts = [encode_names(vlm, names, templates), *(getattr(prompt, "text", prompt)(names) for prompt in prompts)]
    own = [logits(seen.features[1], text.to(seen.features[1]), vlm.scale) for text in texts]
    return teacher_student(seen.kept, names, target, own, labels, ["before", "after"] if len(own) == 2 else None, k)


def _vlm(model: VLM | tuple, role: str) -> VLM:
    if isinstance(model, VLM):
        return model
    if not isinstance(model, tuple) or len(model) != 3:
        raise ValueError(f"Give the {role} as load_vlm returns it, or as (model, preprocess, tokenizer) of open_clip.")
    return VLM(model[0].eval(), *model[1:], name=role)
