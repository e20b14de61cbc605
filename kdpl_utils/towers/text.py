"""The text tower, opened: many prompts that begin alike, each distinct beginning computed once.

With a causal mask the state of a token depends on the tokens before it and on nothing after it. So prompts that begin
alike have equal states as far as they agree, in every layer, learned vectors and vectors written into deeper layers
included; nothing after the end token matters; and in the last layer only the end token is read. Sharing those states
changes no number (but rounding) and leaves about one eighteenth of the work for class names behind a context.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# A prompt is a list of symbols from the start to the end token: token ids, or ``~k`` for the learned vector k.
Prompt = list[int]
# Prompts in one tree: more share a little more and need more memory for their attention, and fewer trees are fewer and
# larger operations, which a GPU wants.
TREE, TREE_GPU = 128, 1024
KEPT = 1024  # with gradient, the activations of so many prompts are kept; beyond, each tree is computed again


class PromptTree:
    """One node for each distinct beginning of C prompts; the longest has L symbols.

    Attributes:
        path: (C, L) the node of prompt c at position i; shorter prompts repeat their last node, the end token.
        end: (C,) the last nodes.
        symbol, depth, first: (nodes,) what stands there, at which position, and where in ``path.flatten()``.
        slot, vector: the nodes that hold learned vectors, and which vector each holds.
    """

    def __init__(self, prompts: Sequence[Prompt], device: torch.device | str = "cpu"):
        length = max(map(len, prompts))
        table = torch.tensor([p + p[-1:] * (length - len(p)) for p in prompts])
        last = torch.tensor([len(p) - 1 for p in prompts])
        path, symbol, first, nodes = torch.empty_like(table), [], [], 0
        node, span = torch.zeros(len(table), dtype=torch.long), int(table.max() - table.min()) + 1
        for i in range(length):
            rows = (last >= i).nonzero().flatten()  # the others have ended: they stay on their last node
            # Two prompts are on one node if they were on one node before and have the same symbol here.
            _, group = (node[rows] * span + table[rows, i] - table.min()).unique(return_inverse=True)
            count = int(group.max()) + 1
            member = torch.empty(count, dtype=torch.long).scatter_(0, group, rows)  # any row of each group
            node[rows] = nodes + group
            path[:, i] = node
            symbol.append(table[member, i])
            first.append(member * length + i)
            nodes += count
        symbol, first = torch.cat(symbol), torch.cat(first)
        slot = (symbol < 0).nonzero().flatten()
        self.path, self.end, self.symbol, self.first = (t.to(device) for t in (path, path[:, -1], symbol, first))
        self.depth, self.slot, self.vector = (t.to(device) for t in (first % length, slot, ~symbol[slot]))


def encode_prompts(
    model: nn.Module, prompts: Sequence[Prompt], ctx: Tensor | None = None, deep: Sequence[Tensor] = ()
) -> Tensor:
    """(C, D) text features, not normalised, of prompts given as symbols, by the fastest exact way the model allows.

    Args:
        ctx: (n, d) the learned vectors that the symbols ``~k`` stand for.
        deep: tensors (n, d); ``deep[i]`` replaces the states of the learned vectors before layer i + 1 (counted from
            0), without positional embedding (MaPLe, section 3.2).
    """
    if not shares_beginnings(model):
        chunks = [prompts[i : i + TREE] for i in range(0, len(prompts), TREE)]
        return torch.cat([encode_plainly(model, chunk, ctx, deep) for chunk in chunks])
    return encode_forest(model, plant(model, prompts), ctx, deep)


def plant(model: nn.Module, prompts: Sequence[Prompt]) -> list[tuple[list[int], PromptTree]]:
    """The trees of these prompts, each with the rows it serves: neighbours in alphabetical order share most."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    device = text_tower(model).positional_embedding.device
    size = TREE if device.type == "cpu" else TREE_GPU
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    return [(rows, PromptTree([prompts[r] for r in rows], device)) for rows in chunks]


def encode_forest(
    model: nn.Module,
    forest: Sequence[tuple[list[int], PromptTree]],
    ctx: Tensor | None = None,
    deep: Sequence[Tensor] = (),
) -> Tensor:
    """``encode_prompts`` for trees that are already there.

    Memory stays bounded for any number of prompts: beyond ``KEPT``, each tree's activations are dropped and computed
    again when its gradient is due. The gradient is exact: dL/dctx = Σ_trees (∂features/∂ctx)ᵀ ∂L/∂features.
    """
    size = sum(len(rows) for rows, _ in forest)
    again = size > KEPT and torch.is_grad_enabled()
    features = []
    for _, tree in forest:
        if again:
            features.append(
                checkpoint(_encode_tree, model, tree, ctx, tuple(deep), use_reentrant=False, preserve_rng_state=False)
            )
        else:
            features.append(_encode_tree(model, tree, ctx, deep))
    order = torch.tensor([row for rows, _ in forest for row in rows], device=features[0].device)
    return torch.cat(features)[order.argsort()]


def _encode_tree(model: nn.Module, tree: PromptTree, ctx: Tensor | None, deep: Sequence[Tensor]) -> Tensor:
    tower = text_tower(model)
    blocks = tower.transformer.resblocks
    heads, dtype = blocks[0].attn.num_heads, tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tree.symbol.clamp(min=0)).to(dtype)  # (nodes, d)
    if len(tree.slot):
        x = x.index_copy(0, tree.slot, ctx[tree.vector].to(dtype))
    x = x + tower.positional_embedding.to(dtype)[tree.depth]
    first = tree.first
    for i, block in enumerate(blocks):
        if 0 < i <= len(deep):
            x = x.index_copy(0, tree.slot, deep[i - 1][tree.vector].to(dtype))
        qkv = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)  # once for each node
        qkv = F.embedding(tree.path, qkv).unflatten(-1, (3, heads, -1))  # (C, L, 3, heads, d / heads)
        a = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), is_causal=True)  # along each prompt
        a = a.transpose(1, 2).flatten(2).flatten(0, 1)  # (C·L, d)
        if i + 1 == len(blocks):  # from here on only the end tokens are read
            x, first = x[tree.end], first[tree.end]
        x = x + block.ls_1(block.attn.out_proj(a[first]))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    x, projection = tower.ln_final(x), tower.text_projection
    if isinstance(projection, nn.Linear):
        return projection(x)
    return x if projection is None else x @ projection


# --- the plain way: the model's own code, every prompt at full length ------------------------------------------------


def encode_plainly(
    model: nn.Module, prompts: Sequence[Prompt], ctx: Tensor | None = None, deep: Sequence[Tensor] = ()
) -> Tensor:
    """``encode_prompts`` through the model's own ``encode_text``, as published code does: each prompt at full length.

    For towers whose tokens also see later ones, or whose feature is read elsewhere than at the end token; and the
    reference that the fast way is measured against.
    """
    tower = text_tower(model)
    table = torch.zeros(len(prompts), tower.context_length, dtype=torch.long)
    for row, prompt in zip(table, prompts):
        row[: len(prompt)] = torch.tensor(prompt)
    table = table.to(tower.positional_embedding.device)
    rows, places = (table < 0).nonzero(as_tuple=True)
    vector = ~table[rows, places]
    with _writing(tower, rows, places, [ctx, *deep], vector):
        # A word to the tower, not padding: some towers mask what has the padding's id.
        return model.encode_text(table.where(table >= 0, prompts[0][0]))


@contextmanager
def _writing(tower: nn.Module, rows: Tensor, places: Tensor, vectors: Sequence[Tensor | None], vector: Tensor):
    """While this lasts, the learned vectors stand in their places after the embedding and before the deeper layers."""

    def written(x: Tensor, values: Tensor) -> Tensor:
        return x.index_put((rows, places), values[vector].to(x.dtype))

    hooks = []
    if len(rows):
        hooks.append(tower.token_embedding.register_forward_hook(lambda _, args, out: written(out, vectors[0])))
        for block, values in zip(tower.transformer.resblocks[1:], vectors[1:]):
            write = lambda _, args, values=values: (written(args[0], values), *args[1:])  # noqa: E731
            hooks.append(block.register_forward_pre_hook(write))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# --- what kind of tower it is --------------------------------------------------------------------------------------


def text_tower(model: nn.Module) -> nn.Module:
    """The module that holds the text tower: the model itself (``CLIP``) or its ``text`` (``CustomTextCLIP``)."""
    return getattr(model, "text", model)


def shares_beginnings(model: nn.Module) -> bool:
    """Whether the tower is CLIP's kind: causal, standard layers, read at the end token, nothing appended after it."""
    tower = text_tower(model)
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
    appended = getattr(tower, "cls_emb", None) is not None  # CoCa: a learned token after the end
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", ())
    return (
        getattr(tower, "attn_mask", None) is not None
        and pool in ("argmax", "eos")
        and not appended
        and len(blocks) > 0
        and all(is_standard(block) for block in blocks)
    )


def is_standard(block: nn.Module) -> bool:
    """Whether this is open_clip's usual layer, the only one that is opened here and in ``image``."""
    from open_clip.transformer import ResidualAttentionBlock

    return type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")
