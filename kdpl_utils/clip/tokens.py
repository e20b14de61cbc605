"""Texts and contexts as prompts: token ids, and symbols in place of learned vectors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .fast_text import Prompt, encode_prompts
from .vectors import at_least_float32

if TYPE_CHECKING:
    from ..vlm import VLM


@torch.no_grad()
def encode_texts(vlm: VLM, texts: Sequence[str]) -> Tensor:
    """(N, D) text features as the model gives them, not of unit length, in float32 or better, without gradient."""
    if vlm.has_clip_text:
        features = encode_prompts(vlm.model, tuple(text_prompt(vlm, text) for text in texts))
    else:
        chunks = [list(texts[i : i + 256]) for i in range(0, len(texts), 256)]
        features = torch.cat([vlm.model.encode_text(vlm.tokenizer(chunk).to(vlm.device)) for chunk in chunks])
    if not features.isfinite().all():
        raise ValueError(f"{vlm.name} gives text features that are not finite: load it with precision='fp32'.")
    return at_least_float32(features)


def text_prompt(vlm: VLM, text: str) -> tuple[int, ...]:
    """The token ids of a text, from the start to the end token.

    Raises:
        ValueError: the text is too long; the tokenizer would cut it off without a word.
    """
    ids = vlm.tokenizer.encode(text)
    if len(ids) + 2 > vlm.tokenizer.context_length:
        raise ValueError(
            f"{text[:80]!r} has {len(ids)} tokens, and {vlm.name} reads at most {vlm.tokenizer.context_length - 2}: "
            "shorten the class name."
        )
    return (vlm.tokenizer.sot_token_id, *ids, vlm.tokenizer.eot_token_id)


def context_prompts(
    vlm: VLM, names: tuple[str, ...], n_ctx: int, position: str = "end", template: str = "{}."
) -> tuple[Prompt, ...]:
    """Prompts of ``n_ctx`` learned vectors, the symbols ``~0``, ``~1``, …, and each name.

    Args:
        position: ``"end"`` (ctx name.), ``"middle"`` (half ctx, name, half ctx.) or ``"front"`` (name ctx.).
        template: what stands behind the vectors, ``{}`` for the name; with position ``"end"`` only.
    """
    return _context_prompts(vlm.tokenizer, vlm.name, names, n_ctx, position, template)


@functools.lru_cache(maxsize=8)  # class-agnostic learning brings a new list in every step
def _context_prompts(
    tokenizer: Any, model: str, names: tuple[str, ...], n_ctx: int, position: str, template: str
) -> tuple[Prompt, ...]:
    vectors = [~k for k in range(n_ctx)]  # ~k = −k − 1 is negative, so a vector is never taken for a token id
    n_before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    prompts = []
    for name in names:
        # The name with its full stop, as in "a photo of a {}.": "OK!." has one token "!.".
        ids = tokenizer.encode(template.format(name) if position == "end" else name)
        tail = [] if position == "end" else tokenizer.encode(".")
        prompt = [tokenizer.sot_token_id, *vectors[:n_before], *ids, *vectors[n_before:], *tail, tokenizer.eot_token_id]
        if len(prompt) > tokenizer.context_length:
            raise ValueError(
                f"The class name {name!r} and {n_ctx} context vectors are {len(prompt)} tokens, and {model} reads "
                f"at most {tokenizer.context_length}: shorten the name or the context."
            )
        prompts.append(tuple(prompt))
    return tuple(prompts)


def with_context(prompts: Sequence[Prompt], n_ctx: int, copies: Sequence[int]) -> tuple[Prompt, ...]:
    """Each prompt behind a context of its own: number ``copies[i]`` of several contexts of ``n_ctx`` vectors."""
    shifted = [[s - copy * n_ctx if s < 0 else s for s in prompt] for prompt, copy in zip(prompts, copies)]
    return tuple(map(tuple, shifted))
