"""A learnable context: class names become text features, and the gradient reaches the context alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .support.memory import most_at_once
from .support.tensors import as_numbers, check_finite
from .support.values import seed_of, shown, whole
from .towers.text import Prompt, build_trees, encode_forest, encode_prompts, shares_beginnings, text_tower
from .towers.words import check_templates
from .vlm import VLM, as_prompt, check_names, check_vlm, has_clip_tokens, token_ids, unit

MAX_CACHED_FORESTS = 8  # lists of names whose trees are kept; class-agnostic learning brings a new list in every step


class PromptTexts:
    """Class names → prompts of ``n_ctx`` learned vectors and the name → unit text features.

    Args:
        template: what stands behind the vectors, ``{}`` for the name; with position ``"end"`` only.
        position: ``"end"`` (ctx name.), ``"middle"`` (half ctx, name, half ctx.) or ``"front"`` (name ctx.).

    Raises:
        ValueError: the model's tokens are not CLIP's.
    """

    def __init__(self, vlm: VLM, n_ctx: int, position: str = "end", template: str = "{}."):
        if not has_clip_tokens(vlm):
            raise ValueError(
                f"The tokenizer of {vlm.name} is not CLIP's, so no context can be learned for it: "
                "use it as a teacher, or choose a CLIP such as ViT-B-32-quickgelu as the student."
            )
        if position not in ("end", "middle", "front"):
            raise ValueError(f"position is {position!r}: choose 'end', 'middle' or 'front'.")
        (template,) = check_templates([template])
        self.vlm, self.n_ctx, self.position, self.template = vlm, n_ctx, position, template
        self.shares = shares_beginnings(vlm.model)
        self._layouts: dict[str, tuple[list[int], list[int]]] = {}
        self._forests: OrderedDict = OrderedDict()

    def encode(
        self, names: Sequence[str], ctx: Tensor, deep: Sequence[Tensor] = (), copies: Sequence[int] | None = None
    ) -> Tensor:
        """(C, D) unit text features.

        Args:
            ctx: (n_ctx, d), or (copies, n_ctx, d) when prompts differ in their vectors.
            deep: tensors (n_ctx, d) that replace the vectors' states before layers 1, 2, …
            copies: which of those contexts each name is behind; ``names`` may then repeat.
        """
        names = check_names(names) if copies is None else names
        model, ctx = self.vlm.model, ctx.reshape(-1, ctx.shape[-1])
        if not self.shares:
            return unit(encode_prompts(model, self.prompts(names, copies), ctx, deep))
        # The trees depend on the names alone, not on what the vectors hold: most steps of a training find them here.
        key = tuple(names), None if copies is None else tuple(copies), most_at_once()
        if key not in self._forests:
            self._forests[key] = build_trees(model, self.prompts(names, copies))
            if len(self._forests) > MAX_CACHED_FORESTS:
                self._forests.popitem(last=False)
        return unit(encode_forest(model, self._forests[key], ctx, deep))

    def prompts(self, names: Sequence[str], copies: Sequence[int] | None = None) -> list[Prompt]:
        """The prompts as symbols: token ids, and ``~k`` for vector k (of all contexts, counted through)."""
        prompts = []
        for name, copy in zip(names, copies or [0] * len(names)):
            # ~k = −k − 1 is negative, so a vector is never taken for a token id.
            vectors = [~k for k in range(copy * self.n_ctx, (copy + 1) * self.n_ctx)]
            n_before, name_ids, end_ids = self._layout(name)
            symbols = [*vectors[:n_before], *name_ids, *vectors[n_before:], *end_ids]
            prompts.append(as_prompt(self.vlm, symbols))
        return prompts

    def _layout(self, name: str) -> tuple[int, list[int], list[int]]:
        """How many vectors stand before the name, the name's tokens, and those that end the sentence."""
        if name in self._layouts:
            return self._layouts[name]
        vlm = self.vlm
        if self.position == "end":
            # The name with its full stop, as in "a photo of a {}.": "OK!." has one token "!.".
            n_before, end_ids = self.n_ctx, []
            name_ids = token_ids(vlm, self.template.format(name))
        else:
            n_before = self.n_ctx // 2 if self.position == "middle" else 0
            name_ids, end_ids = token_ids(vlm, name), token_ids(vlm, ".")
        length = len(name_ids) + len(end_ids) + self.n_ctx + 2  # with start and end
        if length > vlm.tokenizer.context_length:
            raise ValueError(
                f"The class name {shown(name)} and {self.n_ctx} context vectors are {length} tokens, and {vlm.name} "
                f"reads at most {vlm.tokenizer.context_length}: shorten the name or the context."
            )
        self._layouts[name] = (n_before, name_ids, end_ids)
        return self._layouts[name]


class PromptLearner(nn.Module):
    """CoOp (Zhou et al. 2022): context vectors in place of the words around a class name.

    The classes are an argument of ``forward``, not part of the learner, so that a learned context belongs to no class
    list: learn it with base names, apply it to novel ones, or hand it another selection of a dictionary each batch.

    Args:
        vlm: the frozen student; its tokens must be CLIP's.
        ctx_init: words whose token embeddings the context starts from; "a photo of a" where there is no ``n_ctx``.
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
        ctx_init: str | None = None,
        n_ctx: int | None = None,
        classnames: Sequence[str] | None = None,
        position: str = "end",
        seed: int = 0,
    ):
        super().__init__()
        check_vlm(vlm)
        if n_ctx is not None and ctx_init is not None:
            raise ValueError(
                f"ctx_init is {ctx_init!r} and n_ctx is {n_ctx}: give the words to start from, or the number of "
                "vectors for a random start."
            )
        self.context_of_class = None
        if classnames is not None:
            self.context_of_class = {name: i for i, name in enumerate(check_names(classnames))}
        contexts = 1 if self.context_of_class is None else len(self.context_of_class)
        if n_ctx is None:
            ctx = word_vectors(vlm, "a photo of a" if ctx_init is None else ctx_init).repeat(contexts, 1, 1)
        else:
            n_ctx = whole(n_ctx, "n_ctx", 1)
            ctx = random_vectors(vlm, contexts * n_ctx, seed).unflatten(0, (contexts, n_ctx))
        self.texts = PromptTexts(vlm, ctx.shape[1], position)
        self.ctx = nn.Parameter(ctx[0].clone() if self.context_of_class is None else ctx)

    def forward(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) unit text features of ``classnames`` behind the context."""
        if self.context_of_class is None:
            return self.texts.encode(classnames, self.ctx)
        names = check_names(classnames)
        unknown_names = [name for name in names if name not in self.context_of_class]
        if unknown_names:
            raise ValueError(
                f"{unknown_names[0]!r} has no context of its own: class-specific contexts know only their classes."
            )
        copies = [self.context_of_class[name] for name in names]
        return self.texts.encode(names, self.ctx, copies=copies)


def word_vectors(vlm: VLM, words: str) -> Tensor:
    """(n, d) token embeddings of some words, as a start for context vectors.

    Raises:
        ValueError: no words, or a place for the name among them.
    """
    if not isinstance(words, str):
        raise ValueError(f"ctx_init is {words!r}: give one text, such as 'a photo of a'.")
    if "{" in words or "}" in words:
        raise ValueError(f"ctx_init is {words!r}: leave {{}} out, the name follows the words by itself.")
    ids = token_ids(vlm, words) if has_clip_tokens(vlm) else []
    if has_clip_tokens(vlm) and not ids:
        raise ValueError("ctx_init has no words: give some, or n_ctx for a random start.")
    table = text_tower(vlm.model).token_embedding.weight
    return _at_least_float32(table[torch.tensor(ids, dtype=torch.long, device=table.device)].detach())


def random_vectors(vlm: VLM, n: int, seed: int, width: int | None = None) -> Tensor:
    """(n, d) from N(0, 0.02²), d the text tower's width unless ``width`` says otherwise; the same on every device."""
    n, generator = whole(n, "n_ctx", 1), torch.Generator().manual_seed(seed_of(seed))
    table = text_tower(vlm.model).token_embedding.weight
    # Drawn on the CPU, whose numbers are the same everywhere; other devices have generators of their own.
    draw = 0.02 * torch.randn(n, width or table.shape[1], generator=generator)
    return _at_least_float32(draw.to(table))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))  # half precision rounds small steps away


def nearest_words(vlm: VLM, ctx: Tensor, k: int = 5) -> list[list[str]]:
    """The ``k`` vocabulary words nearest (Euclidean) to each context vector (n, d); CoOp, section 4.4."""
    check_vlm(vlm)
    ctx = as_numbers(ctx, "ctx", "vectors (n, d)")
    check_finite({"ctx": ctx}, "The context")
    table = text_tower(vlm.model).token_embedding.weight
    if ctx.ndim != 2 or ctx.shape[1] != table.shape[1]:
        raise ValueError(f"ctx is {tuple(ctx.shape)}, and the words of {vlm.name} are vectors of {table.shape[1]}.")
    k = whole(k, "k", 1, len(table))
    nearest = torch.cdist(ctx.detach().to(table), table).topk(k, largest=False).indices
    return [[vlm.tokenizer.decode([i]).strip() for i in row] for row in nearest.tolist()]


@torch.no_grad()
def read_contexts(vlm: VLM, contexts: Sequence[Tensor], k: int = 5) -> tuple[list, Tensor]:
    """What S contexts (n_ctx, d), recorded over training, read like: words S × n_ctx × k, distances (S, n_ctx, k).

    The nearest words of the vocabulary come first; distances are Euclidean (CoOp, section 4.4).
    """
    table = text_tower(vlm.model).token_embedding.weight
    words = [nearest_words(vlm, ctx, k) for ctx in contexts]
    distances = [torch.cdist(ctx.to(table), table).topk(k, largest=False).values for ctx in contexts]
    return words, torch.stack(distances).cpu()
