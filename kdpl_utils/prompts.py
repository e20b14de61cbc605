"""A learnable context (CoOp): class names become text features, and the gradient reaches the context alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .clip import fast_text
from .clip.fast_text import Prompt, project, text_tower
from .clip.tokens import context_prompts, with_context
from .clip.vectors import random_vectors, unit, word_vectors
from .clip.words import check_names
from .train import Recipe
from .vlm import VLM, logits


def encode_prompts_plainly(
    model: nn.Module, prompts: tuple[Prompt, ...], ctx: Tensor | None = None, deep: Sequence[Tensor] = ()
) -> Tensor:
    """(C, D) text features, not normalised: what ``fast_text.encode_prompts`` computes, to be read.

    A prompt holds the token ids from <start> to <end>, and ``~k`` where the learned vector ``ctx[k]`` stands. The mask
    is causal and the feature is read at <end>, so nothing behind the longest prompt matters: the tower runs over that
    length, not over CLIP's 77. ``deep[i]`` replaces the vectors' states before layer i + 1 (MaPLe).
    """
    tower = text_tower(model)
    length = max(map(len, prompts))
    symbols = torch.tensor([[*p, *[0] * (length - len(p))] for p in prompts], device=tower.positional_embedding.device)
    end = torch.tensor([len(p) - 1 for p in prompts])
    is_vector = (symbols < 0)[..., None]  # (C, L, 1)
    k = (~symbols).clamp(min=0)
    x = tower.token_embedding(symbols.clamp(min=0))  # (C, L, d)
    x = x if ctx is None else torch.where(is_vector, ctx[k], x)
    x = x + tower.positional_embedding[:length]
    for i, block in enumerate(tower.transformer.resblocks):
        x = torch.where(is_vector, deep[i - 1][k], x) if 0 < i <= len(deep) else x
        x = block(x, attn_mask=tower.attn_mask[:length, :length])
    return project(tower, tower.ln_final(x)[torch.arange(len(x)), end])


encode_prompts = fast_text.encode_prompts  # the same numbers, 18 times as fast; or encode_prompts_plainly


class PromptLearner(nn.Module):
    """CoOp (Zhou et al. 2022): context vectors in place of the words around a class name.

    The names are an argument of ``forward``, so that a learned context belongs to no list of classes: learn it with
    base names, use it with novel ones, or with another selection of a dictionary in each batch.

    Args:
        vlm: the frozen student; its text tower must be CLIP's.
        ctx_init: words whose token embeddings the context starts from; "a photo of a" where there is no ``n_ctx``.
        n_ctx: start from N(0, 0.02²) instead, with that many vectors.
        classnames: give each of these classes a context of its own (CoOp's CSC); ``forward`` then takes only them.
        position: where the name stands: ``"end"`` (ctx name.), ``"middle"`` or ``"front"`` (name ctx.).
        seed: of the random start.

    Attributes:
        ctx: (n_ctx, d), or (C, n_ctx, d) with contexts of their own; the only parameter.
    """

    recipe = Recipe()

    def __init__(
        self,
        vlm: VLM,
        ctx_init: str | None = None,
        n_ctx: int | None = None,
        classnames: Sequence[str] | None = None,
        position: str = "end",
        seed: int = 0,
    ):
        super().__init__()
        if ctx_init is not None and n_ctx is not None:
            raise ValueError(f"ctx_init is {ctx_init!r} and n_ctx is {n_ctx}: give the words or the number of vectors.")
        names = None if classnames is None else check_names(classnames)
        copies = 1 if names is None else len(names)
        if n_ctx is None:
            ctx = word_vectors(vlm, "a photo of a" if ctx_init is None else ctx_init).repeat(copies, 1, 1)
        else:
            ctx = random_vectors(vlm, copies * n_ctx, seed).unflatten(0, (copies, n_ctx))
        self.vlm = vlm
        self.position = position
        self.context_of_class = None if names is None else {name: i for i, name in enumerate(names)}
        self.ctx = nn.Parameter(ctx[0].clone() if names is None else ctx)

    def forward(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) unit text features of ``classnames`` behind the context."""
        names = check_names(classnames)
        n_ctx = self.ctx.shape[-2]
        prompts = context_prompts(self.vlm, tuple(names), n_ctx, self.position)
        if self.context_of_class is not None:
            prompts = with_context(prompts, n_ctx, [self.context_of_class[name] for name in names])
        return unit(encode_prompts(self.vlm.model, prompts, self.ctx.flatten(0, -2)))

    def loss(self, features: Tensor, classnames: Sequence[str], of_logits: Callable[[Tensor], Tensor]) -> Tensor:
        """``of_logits`` of the logits (B, C) of unit image features (B, D); the same call as ``Learner.loss``."""
        return of_logits(logits(features, self(classnames), self.vlm.scale))
