"""The published text path, the reference of all ratios: each prompt has 77 tokens, and all pass through all layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kdpl_utils.clip.fast_text import project, text_tower

CHUNK = 100  # 1,000 plain prompts need some 20 GB; the gradient is that of their parts, and the time is the same


def encode_prompts(model: nn.Module, prompts: Sequence[Sequence[int]], ctx: Tensor) -> Tensor:
    """(C, D) text features, not normalised; ``~k`` in a prompt stands for the learned vector ``ctx[k]``."""
    tower = text_tower(model)
    symbols = torch.zeros(len(prompts), tower.context_length, dtype=torch.long)
    for row, prompt in zip(symbols, prompts):
        row[: len(prompt)] = torch.tensor(prompt)
    symbols = symbols.to(ctx.device)
    end = torch.tensor([len(prompt) - 1 for prompt in prompts], device=ctx.device)
    words = tower.token_embedding(symbols.clamp(min=0))
    x = torch.where((symbols < 0)[..., None], ctx[(~symbols).clamp(min=0)].to(words.dtype), words)
    x = tower.transformer(x + tower.positional_embedding, attn_mask=tower.attn_mask)
    return project(tower, tower.ln_final(x)[torch.arange(len(x), device=x.device), end])


def backward_in_parts(
    encode: Callable[[Sequence], Tensor], prompts: Sequence, loss_of_part: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """Add the gradients of a loss that is a sum over prompts, ``CHUNK`` prompts at a time; return all features."""
    features = []
    for start in range(0, len(prompts), CHUNK):
        part = slice(start, start + CHUNK)
        features.append(encode(prompts[part]))
        loss_of_part(features[-1], part).backward()
    return torch.cat([f.detach() for f in features])
