"""The text tower, opened: many prompts that begin alike, each distinct beginning computed once.

With a causal mask the state of a token depends on the tokens before it and on nothing after it. So prompts that begin
alike have equal states as far as they agree, in every layer, learned vectors and vectors written into deeper layers
included; nothing after the end token matters; and in the last layer only the end token is read. Sharing those states
changes no number (but rounding) and leaves about one eighteenth of the work for class names behind a context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..support.memory import again_for_the_gradient, chunk_of, most_at_once

# A prompt is a list of symbols from the start to the end token: token ids, or ``~k`` for the learned vector k.
Prompt = list[int]
# Larger trees share slightly more and use more memory for attention. GPUs prefer few large trees.
PROMPTS_PER_TREE_CPU = 128
PROMPTS_PER_TREE_GPU = 1024
MAX_PROMPTS_IN_MEMORY = 1024  # their activations are kept for the gradient; of more, each tree is computed twice


class PromptTree:
    """One node for each distinct beginning of C prompts; the longest has L symbols.

    An example: two names behind one learned vector, "hot dog." and "hot pot.". Let the start token be 1, the end token
    9, "hot" 5, "dog." 6 and "pot." 7; the vector 0 is written ``~0``, which is −1:

        prompts   [1, −1, 5, 6, 9]   start  vector  hot  dog.  end
                  [1, −1, 5, 7, 9]   start  vector  hot  pot.  end
        nodes      0   1  2  3  5    up to "hot" both prompts share their nodes;
                   0   1  2  4  6    behind it each has nodes of its own
        symbol    [1, −1, 5, 6, 7, 9, 9]   one for each of the 7 nodes
        path      [[0, 1, 2, 3, 5],
                   [0, 1, 2, 4, 6]]
        end       [5, 6]
        slot      [1]                node 1 holds a learned vector …
        vector    [0]                … which is vector 0

    Every layer computes its linear maps for 7 nodes instead of 10 tokens. Only attention runs along each ``path``.

    >>> tree = PromptTree([[1, ~0, 5, 6, 9], [1, ~0, 5, 7, 9]])
    >>> tree.path.tolist(), tree.end.tolist(), tree.symbol.tolist()
    ([[0, 1, 2, 3, 5], [0, 1, 2, 4, 6]], [5, 6], [1, -1, 5, 6, 7, 9, 9])
    >>> tree.slot.tolist(), tree.vector.tolist()
    ([1], [0])

    Attributes:
        path: (C, L) the node of prompt c at position i; shorter prompts repeat their last node, the end token.
        end: (C,) the last nodes.
        symbol: (nodes,) the token id or ``~k`` that stands there.
        depth: (nodes,) its position in the prompts.
        first_position: (nodes,) where in ``path.flatten()`` it stands first.
        slot, vector: the nodes that hold learned vectors, and which vector each holds.
    """

    def __init__(self, prompts: Sequence[Prompt], device: torch.device | str = "cpu"):
        length = max(map(len, prompts))
        table = torch.tensor([p + p[-1:] * (length - len(p)) for p in prompts])
        last_position = torch.tensor([len(p) - 1 for p in prompts])
        n_symbols = int(table.max() - table.min()) + 1
        path = torch.empty_like(table)
        node_of_prompt = torch.zeros(len(table), dtype=torch.long)
        symbols, first_positions, n_nodes = [], [], 0
        for i in range(length):
            rows = (last_position >= i).nonzero().flatten()  # the others have ended: they stay on their last node
            # Two prompts are on one node if they were on one node before and have the same symbol here. Both are
            # packed into one number, so that ``unique`` finds the groups.
            node_and_symbol = node_of_prompt[rows] * n_symbols + table[rows, i] - table.min()
            _, group = node_and_symbol.unique(return_inverse=True)
            n_groups = int(group.max()) + 1
            member = torch.empty(n_groups, dtype=torch.long).scatter_(0, group, rows)  # any row of each group
            node_of_prompt[rows] = n_nodes + group
            path[:, i] = node_of_prompt
            symbols.append(table[member, i])
            first_positions.append(member * length + i)
            n_nodes += n_groups
        symbol = torch.cat(symbols)
        first_position = torch.cat(first_positions)
        slot = (symbol < 0).nonzero().flatten()
        self.path = path.to(device)
        self.end = path[:, -1].to(device)
        self.symbol = symbol.to(device)
        self.depth = (first_position % length).to(device)
        self.first_position = first_position.to(device)
        self.slot = slot.to(device)
        self.vector = (~symbol[slot]).to(device)


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
        at_once = chunk_of(len(prompts)) if torch.is_grad_enabled() else len(prompts)
        size = min(PROMPTS_PER_TREE_CPU, at_once)
        chunks = [prompts[i : i + size] for i in range(0, len(prompts), size)]
        again = at_once < len(prompts)
        return torch.cat([_kept_or_again(again, encode_plainly, model, chunk, ctx, tuple(deep)) for chunk in chunks])
    return encode_forest(model, build_trees(model, prompts), ctx, deep)


def build_trees(model: nn.Module, prompts: Sequence[Prompt]) -> list[tuple[list[int], PromptTree]]:
    """The trees of these prompts, each with the rows it serves: neighbours in alphabetical order share most."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    device = text_tower(model).positional_embedding.device
    size = PROMPTS_PER_TREE_CPU if device.type == "cpu" else PROMPTS_PER_TREE_GPU
    size = min(size, most_at_once() or size)
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    return [(rows, PromptTree([prompts[r] for r in rows], device)) for rows in chunks]


def encode_forest(
    model: nn.Module,
    forest: Sequence[tuple[list[int], PromptTree]],
    ctx: Tensor | None = None,
    deep: Sequence[Tensor] = (),
) -> Tensor:
    """``encode_prompts`` for trees that are already there.

    Memory stays bounded for any number of prompts: beyond ``MAX_PROMPTS_IN_MEMORY``, or what a training step has room
    for, each tree's activations are dropped and computed again when its gradient is due. The gradient is exact:
    dL/dctx = Σ_trees (∂features/∂ctx)ᵀ ∂L/∂features.
    """
    size = sum(len(rows) for rows, _ in forest)
    again = torch.is_grad_enabled() and size > chunk_of(min(size, MAX_PROMPTS_IN_MEMORY))
    features = [_kept_or_again(again, _encode_tree, model, tree, ctx, tuple(deep)) for _, tree in forest]
    order = torch.tensor([row for rows, _ in forest for row in rows], device=features[0].device)
    return torch.cat(features)[order.argsort()]


def _kept_or_again(again: bool, encode: Callable[..., Tensor], *given: object) -> Tensor:
    return again_for_the_gradient(encode, *given) if again else encode(*given)


def _encode_tree(model: nn.Module, tree: PromptTree, ctx: Tensor | None, deep: Sequence[Tensor]) -> Tensor:
    tower = text_tower(model)
    blocks = tower.transformer.resblocks
    heads, dtype = blocks[0].attn.num_heads, tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tree.symbol.clamp(min=0)).to(dtype)  # (nodes, d)
    if len(tree.slot):
        x = x.index_copy(0, tree.slot, ctx[tree.vector].to(dtype))
    x = x + tower.positional_embedding.to(dtype)[tree.depth]
    position = tree.first_position
    for i, block in enumerate(blocks):
        if 0 < i <= len(deep):
            x = x.index_copy(0, tree.slot, deep[i - 1][tree.vector].to(dtype))
        qkv = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)  # once for each node
        qkv = F.embedding(tree.path, qkv).unflatten(-1, (3, heads, -1))  # (C, L, 3, heads, d / heads)
        a = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), is_causal=True)  # along each prompt
        a = a.transpose(1, 2).flatten(2).flatten(0, 1)  # (C·L, d)
        if i + 1 == len(blocks):  # from here on only the end tokens are read
            x = x[tree.end]
            position = position[tree.end]
        x = x + block.ls_1(block.attn.out_proj(a[position]))
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
    vector_index = ~table[rows, places]
    with _inserted(tower, rows, places, [ctx, *deep], vector_index):
        # A word to the tower, not padding: some towers mask what has the padding's id.
        return model.encode_text(table.where(table >= 0, prompts[0][0]))


@contextmanager
def _inserted(tower: nn.Module, rows: Tensor, places: Tensor, layers: Sequence[Tensor | None], vector_index: Tensor):
    """While this lasts, the learned vectors stand in their places after the embedding and before the deeper layers.

    Args:
        layers: the vectors (n, d) behind the embedding, then those before layers 1, 2, …
        vector_index: which vector stands at each of the (row, place) pairs.
    """

    def with_vectors(states: Tensor, vectors: Tensor) -> Tensor:
        return states.index_put((rows, places), vectors[vector_index].to(states.dtype))

    hooks = []
    if len(rows):
        replace_output = lambda module, args, output: with_vectors(output, layers[0])  # noqa: E731
        hooks.append(tower.token_embedding.register_forward_hook(replace_output))
        for block, vectors in zip(tower.transformer.resblocks[1:], layers[1:]):
            replace_input = lambda module, args, v=vectors: (with_vectors(args[0], v), *args[1:])  # noqa: E731
            hooks.append(block.register_forward_pre_hook(replace_input))
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
