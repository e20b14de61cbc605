"""A learnable context: class names become text features, and the gradient reaches the context alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .vlm import VLM, check_names, encode_prompts, has_causal_text, text_tower, token_ids


class PromptLearner(nn.Module):
    """CoOp (Zhou et al. 2022): context vectors in place of the words around a class name.

    The classes are an argument of ``forward``, not part of the learner, so that a learned context belongs to no class
    list: learn it with base names, apply it to novel ones, or hand it another selection of a dictionary each batch.

    Args:
        vlm: the frozen student; its text tower must be causal and read at the end token, as CLIP's is.
        ctx_init: words whose token embeddings the context starts from.
        n_ctx: start from N(0, 0.02²) instead, with that many vectors.
        classnames: give each of these classes a context of its own (CoOp's CSC); ``forward`` then takes only them.
        position: where the name stands: ``"end"`` (ctx name.), ``"middle"`` (half ctx, name, half ctx.) or ``"front"``.
        seed: of the random start.

    Attributes:
        ctx: (n_ctx, d), or (C, n_ctx, d) with contexts of their own; the only parameter.
    """

    def __init__(
        self,
        vlm: VLM,
        ctx_init: str = "a photo of a",
        n_ctx: int | None = None,
        classnames: Sequence[str] | None = None,
        position: str = "end",
        seed: int = 0,
    ):
        super().__init__()
        if not has_causal_text(vlm.model) or not hasattr(vlm.tokenizer, "encode"):
            raise ValueError(
                f"{vlm.name} has no causal text tower read at the end token, so no context can be learned for it: "
                "use it as a teacher, or choose a CLIP such as ViT-B-32-quickgelu as the student."
            )
        if position not in ("end", "middle", "front"):
            raise ValueError(f"position is {position!r}: choose 'end', 'middle' or 'front'.")
        self.vlm, self.position = vlm, position
        self.own = {name: i for i, name in enumerate(check_names(classnames))} if classnames is not None else None
        embedding = text_tower(vlm.model).token_embedding
        if n_ctx is None:
            ids = token_ids(vlm, ctx_init)
            if not ids:
                raise ValueError("ctx_init has no words: give some, or n_ctx for a random start.")
            ctx = embedding(torch.tensor(ids, device=vlm.device)).detach().clone().float()
        else:
            if n_ctx < 1:
                raise ValueError(f"n_ctx is {n_ctx}: a context has at least one vector.")
            g = torch.Generator().manual_seed(seed)
            ctx = 0.02 * torch.randn(n_ctx, embedding.embedding_dim, generator=g)
        self.ctx = nn.Parameter((ctx if self.own is None else ctx.repeat(len(self.own), 1, 1)).to(vlm.device))
        self._rows: dict[str, tuple[list[int], list[int]]] = {}

    def forward(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) unit text features of ``classnames`` behind the context."""
        names = check_names(classnames)
        ids, places, eot = self._layout(names)
        prompts = splice_context(text_tower(self.vlm.model).token_embedding(ids), self._context(names), places)
        return F.normalize(encode_prompts(self.vlm.model, prompts, eot).float(), dim=-1)

    def _context(self, names: list[str]) -> Tensor:
        if self.own is None:
            return self.ctx
        if strange := [n for n in names if n not in self.own]:
            raise ValueError(
                f"{strange[0]!r} has no context of its own: class-specific contexts know only their classes."
            )
        return self.ctx[[self.own[n] for n in names]]

    def _layout(self, names: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids (C, L) with zeros where the context goes, the context's places (C, n_ctx), end positions (C,)."""
        rows = [self._row(name) for name in names]
        length = max(len(ids) for ids, _ in rows)
        device = self.ctx.device
        ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows], device=device)
        eot = torch.tensor([len(ids) - 1 for ids, _ in rows], device=device)
        return ids, torch.tensor([places for _, places in rows], device=device), eot

    def _row(self, name: str) -> tuple[list[int], list[int]]:
        """One name's token ids, zeros where the context goes, and the places of the context."""
        if name in self._rows:
            return self._rows[name]
        vlm, n, word = self.vlm, self.ctx.shape[-2], name.replace("_", " ")
        if self.position == "end":  # the name with its full stop, as in "a photo of a {}.": "OK!." has one token "!."
            first, named, stop = n, token_ids(vlm, f"{word}."), []
        else:
            first, named, stop = (n // 2 if self.position == "middle" else 0), token_ids(vlm, word), token_ids(vlm, ".")
        body = [0] * first + named + [0] * (n - first) + stop
        ids = [vlm.tokenizer.sot_token_id, *body, vlm.tokenizer.eot_token_id]
        if len(ids) > vlm.tokenizer.context_length:
            raise ValueError(
                f"The class name {name!r} and {n} context vectors are {len(ids)} tokens, and {vlm.name} reads at most "
                f"{vlm.tokenizer.context_length}: shorten the name or the context."
            )
        places = [*range(1, 1 + first), *range(1 + first + len(named), 1 + n + len(named))]
        return self._rows.setdefault(name, (ids, places))


def splice_context(token_embeddings: Tensor, ctx: Tensor, places: Tensor | None = None) -> Tensor:
    """(C, L, d): the token embeddings with ``ctx``, (n, d) or (C, n, d), in places (C, n), by default after SOT."""
    n_classes, _, width = token_embeddings.shape
    n = ctx.shape[-2]
    if places is None:
        places = torch.arange(1, 1 + n, device=ctx.device).expand(n_classes, n)
    index = places[:, :, None].expand(-1, -1, width)
    return token_embeddings.scatter(1, index, ctx.expand(n_classes, n, width).to(token_embeddings.dtype))


def nearest_words(vlm: VLM, ctx: Tensor, k: int = 5) -> list[list[str]]:
    """The ``k`` vocabulary words nearest (Euclidean) to each context vector (n, d); CoOp, section 4.4."""
    table = text_tower(vlm.model).token_embedding.weight
    nearest = torch.cdist(ctx.detach().to(table), table).topk(k, largest=False).indices
    return [[vlm.tokenizer.decode([i]).strip() for i in row] for row in nearest.tolist()]
