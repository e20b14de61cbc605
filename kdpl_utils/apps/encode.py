"""Open each picture once, for every model that looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..clip.models import model_pair, shipped_models
from ..support.pictures import as_picture
from ..support.progress import progress_bar
from ..vlm import VLM, unit
from ..worlds.emoji import EMOJI_TEACHERS
from ..worlds.photos import STUDENTS, TEACHERS

BATCH = 32

Model = tuple[str, str | None]  # name and weights, as load_vlm takes them
Encode = Callable[[Tensor], Tensor]  # preprocessed images (B, 3, H, W) → features (B, D)


class Encoded(NamedTuple):
    """The R pictures that can be read: indices, (R, D) features of each encoder, values of ``keep``; and problems."""

    rows: list[int]
    features: list[Tensor]
    kept: list
    left_out: list[str]


@torch.no_grad()
def encode_once(
    encoders: Sequence[tuple[VLM, Encode | None]],
    images: Sequence,
    keep: Callable[[Image.Image, Tensor], object] = lambda picture, pixels: None,
) -> Encoded:
    """Encode pictures with several models, and open each picture once; those that cannot be read are left out.

    Args:
        encoders: a model, which preprocesses, and what encodes its pixels; None takes its frozen image tower.
        images: PIL pictures, paths or (picture, label) pairs.
        keep: what to keep of a picture, from itself and the first model's pixels.

    Raises:
        ValueError: no picture can be read, or features are not finite.
    """
    vlms = [vlm for vlm, _ in encoders]

    def look(i: int):
        try:
            picture = as_picture(images[i], f"Image {i}")
        except (ValueError, OSError) as error:
            return str(error)
        pixels = {vlm: vlm.preprocess(picture) for vlm in dict.fromkeys(vlms)}  # lets a large picture go
        return i, pixels, keep(picture, pixels[vlms[0]])

    found = Encoded([], [[] for _ in vlms], [], [])
    chunks = [range(i, min(i + BATCH, len(images))) for i in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looking = pool.map(look, chunks[0] if chunks else ())
        for following in progress_bar([*chunks[1:], ()], unit="batch", desc="encoding"):
            looked = list(looking)
            looking = pool.map(look, following)
            found.left_out.extend(one for one in looked if isinstance(one, str))
            readable = [one for one in looked if not isinstance(one, str)]
            found.rows.extend(i for i, _, _ in readable)
            found.kept.extend(value for _, _, value in readable)
            for (vlm, encode), parts in zip(encoders if readable else (), found.features):
                batch = torch.stack([pixels[vlm] for _, pixels, _ in readable]).to(vlm.device, vlm.dtype)
                parts.append(encode(batch) if encode else unit(vlm.model.encode_image(batch)))
    if not found.rows:
        raise ValueError(f"None of the {len(images)} pictures can be read. {' '.join(found.left_out[:1])}".strip())
    features = [torch.cat(parts) for parts in found.features]
    for vlm, finished in zip(vlms, features):
        if not finished.isfinite().all():
            raise ValueError(f"{vlm.name} gives features that are not finite: load it with precision fp32.")
    return found._replace(features=features)


def default_models(student: Model | str | None, teacher: Model | str | None) -> tuple[Model, Model]:
    """Return student and teacher, by default OpenAI's ViT-B/32 and the teacher that goes with the student."""
    student = model_pair(student or STUDENTS[0])
    return student, model_pair(teacher or (EMOJI_TEACHERS[-1] if student[0] in shipped_models() else TEACHERS[1]))
