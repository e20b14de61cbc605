"""Lesson 03: a context in place of words, and one number for base and novel."""

import torch

from ..evaluate import harmonic_mean as right_mean
from .engine import Exercise
from .outcomes import draw


def splice(token_embeddings, ctx, start=1, end=None):
    """(C, L, d) with the vectors (n, d) behind ``start`` tokens, and then what stood at ``end``."""
    vectors = ctx.expand(len(token_embeddings), -1, -1)
    rest = token_embeddings[:, start + len(ctx) if end is None else end :]
    return torch.cat([token_embeddings[:, :start], vectors, rest], dim=1)


splice_context = Exercise(
    "splice_context",
    splice,
    lambda: [(draw(0, 3, 8, 4), draw(1, 2, 4).requires_grad_())],
    {
        "start token overwritten": lambda embeddings, ctx: splice(embeddings, ctx, start=0),
        "end token shifted": lambda embeddings, ctx: splice(embeddings, ctx, end=1)[:, : embeddings.shape[1]],
    },
)

harmonic_mean = Exercise(
    "harmonic_mean",
    right_mean,
    lambda: [(0.8, 0.6), (0.9, 0.1), (0.5, 0.0), (0.0, 0.0)],
    {
        "arithmetic mean": lambda base, novel: (base + novel) / 2,
        "zero division": lambda base, novel: 2 * base * novel / (base + novel),
    },
)
