"""Vectors: of length 1, as the start of a context, and which words a learned context is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .fast_text import text_tower

if TYPE_CHECKING:
    from ..vlm import VLM


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1, in float32 or better: half precision would round the cosines."""
    return F.normalize(at_least_float32(x), dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def word_vectors(vlm: VLM, words: str) -> Tensor:
    """(n, d) token embeddings of some words, as a start for context vectors."""
    check_takes_context(vlm)
    ids = vlm.tokenizer.encode(words)
    if not ids or "{" in words:
        raise ValueError(f"ctx_init is {words!r}: give some words without {{}}; the name follows them by itself.")
    return at_least_float32(text_tower(vlm.model).token_embedding.weight.detach()[ids])


def random_vectors(vlm: VLM, n: int, seed: int, width: int | None = None) -> Tensor:
    """(n, d) from N(0, 0.02²), d the text tower's width unless ``width`` says otherwise; the same on every device."""
    if width is None:  # of the text tower
        check_takes_context(vlm)
        width = text_tower(vlm.model).token_embedding.weight.shape[1]
    # Drawn on the CPU, whose numbers are the same everywhere; other devices have generators of their own.
    draw = 0.02 * torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return draw.to(vlm.device, torch.promote_types(vlm.dtype, torch.float32))


def check_takes_context(vlm: VLM) -> None:
    """Refuse text towers that see later tokens, or are read elsewhere than at the end token."""
    if not vlm.has_clip_text:
        raise ValueError(
            f"The tokenizer or the text tower of {vlm.name} is not CLIP's, so no context can be learned for it: "
            "use it as a teacher, or choose a CLIP such as ViT-B-32-quickgelu as the student."
        )


@torch.no_grad()
def nearest_words(vlm: VLM, ctx: Tensor, k: int = 5) -> list[list[str]]:
    """The ``k`` vocabulary words nearest (Euclidean) to each context vector (n, d); CoOp, section 4.4."""
    nearest = distances_to_words(vlm, ctx).topk(k, largest=False).indices
    return [[vlm.tokenizer.decode([i]).strip() for i in row] for row in nearest.tolist()]


@torch.no_grad()
def distances_to_words(vlm: VLM, ctx: Tensor) -> Tensor:
    """(n, vocabulary) Euclidean distances of context vectors (n, d) to the words' embeddings."""
    table = text_tower(vlm.model).token_embedding.weight
    return torch.cdist(ctx.to(table), table)
