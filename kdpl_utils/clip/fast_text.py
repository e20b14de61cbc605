"""The fast text path: many prompts that begin alike, each distinct beginning computed once.

The text tower is causal: the state of a token depends on the tokens before it alone. So prompts that begin alike have
equal states as far as they agree, in every layer, learned vectors included. Nothing after the end token matters, and in
the last layer only the end token is read. Sharing these states changes no number beyond rounding and leaves about one
eighteenth of the work. ``prompts.encode_prompts_plainly`` is the same function, to be read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# A prompt holds symbols from the start to the end token: token ids, or ``~k`` for the learned vector k.
Prompt = Sequence[int]
# Larger trees share slightly more and use more memory for attention. GPUs prefer few large trees.
PROMPTS_PER_TREE = {"cpu": 128, "cuda": 1024}
MAX_PROMPTS_IN_MEMORY = 1024  # beyond, activations are dropped and computed again for the gradient


class PromptTree:
    """One node for each distinct beginning of C prompts; the longest has L symbols.

    An example: two names behind one learned vector, "hot dog." and "hot pot.". Let the start token be 1, the end token
    9, "hot" 5, "dog." 6 and "pot." 7; the vector 0 is written ``~0``, which is −1:

        prompts   [1, −1, 5, 6, 9]   start  vector  hot  dog.  end
                  [1, −1, 5, 7, 9]   start  vector  hot  pot.  end
        nodes      0   1  2  3  5    up to "hot" both prompts share their nodes;
                   0   1  2  4  6    behind it each has nodes of its own

    Every layer computes its linear maps for 7 nodes instead of 10 tokens. Only attention runs along each ``path``.

    >>> tree = PromptTree([[1, ~0, 5, 6, 9], [1, ~0, 5, 7, 9]])
    >>> tree.path.tolist(), tree.end.tolist(), tree.symbol.tolist()
    ([[0, 1, 2, 3, 5], [0, 1, 2, 4, 6]], [5, 6], [1, -1, 5, 6, 7, 9, 9])

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
        table = torch.tensor([[*p, *[p[-1]] * (length - len(p))] for p in prompts])
        last_position = torch.tensor([len(p) - 1 for p in prompts])
        n_symbols = int(table.max() - table.min()) + 1
        path = torch.empty_like(table)
        node_of_prompt = torch.zeros(len(table), dtype=torch.long)
        symbols: list[Tensor] = []
        first_positions: list[Tensor] = []
        n_nodes = 0
        for i in range(length):
            rows = (last_position >= i).nonzero().flatten()  # the others have ended: they stay on their last node
            # Two prompts are on one node if they were on one node before and have the same symbol here. Both are
            # packed into one number, so that ``unique`` finds the groups.
            node_and_symbol = node_of_prompt[rows] * n_symbols + table[rows, i] - table.min()
            group = node_and_symbol.unique(return_inverse=True)[1]
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
    model: nn.Module, prompts: tuple[Prompt, ...], ctx: Tensor | None = None, deep: Sequence[Tensor] = ()
) -> Tensor:
    """(C, D) text features, not normalised, of prompts given as symbols.

    Args:
        prompts: a tuple of tuples; the trees of the last lists are kept.
        ctx: (n, d) the vectors that the symbols ``~k`` stand for.
        deep: tensors (n, d); ``deep[i]`` replaces the states of the vectors before layer i + 1 (counted from 0),
            without positional embedding (MaPLe, section 3.2).
    """
    forest = build_trees(prompts, text_tower(model).positional_embedding.device)
    if torch.is_grad_enabled() and len(prompts) > MAX_PROMPTS_IN_MEMORY:
        features = [checkpoint(encode_tree, model, tree, ctx, deep, use_reentrant=False) for _, tree in forest]
    else:
        features = [encode_tree(model, tree, ctx, deep) for _, tree in forest]
    order = torch.tensor([row for rows, _ in forest for row in rows], device=features[0].device)
    return torch.cat(features)[order.argsort()]


# The trees depend on the names alone, not on what the vectors hold: most steps of a training find them here.
@functools.lru_cache(maxsize=8)
def build_trees(prompts: tuple[Prompt, ...], device: torch.device) -> list[tuple[list[int], PromptTree]]:
    """The trees of these prompts, each with the rows it serves: neighbours in alphabetical order share most."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    size = PROMPTS_PER_TREE.get(device.type, 128)
    chunks = [order[i : i + size] for i in range(0, len(order), size)]
    with torch.inference_mode(False):  # they are kept, and a later training needs them
        return [(rows, PromptTree([prompts[r] for r in rows], device)) for rows in chunks]


def encode_tree(model: nn.Module, tree: PromptTree, ctx: Tensor | None, deep: Sequence[Tensor]) -> Tensor:
    """(C, D) text features, not normalised, of one tree's prompts."""
    tower = text_tower(model)
    blocks = tower.transformer.resblocks
    heads = blocks[0].attn.num_heads
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tree.symbol.clamp(min=0)).to(dtype)  # (nodes, d)
    if ctx is not None:
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
    return project(tower, tower.ln_final(x))


def project(tower: nn.Module, x: Tensor) -> Tensor:
    """The last linear map of a text tower, in whichever form open_clip has it."""
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        return projection(x)
    return x if projection is None else x @ projection


def text_tower(model: nn.Module) -> nn.Module:
    """The module that holds the text tower: the model itself (``CLIP``) or its ``text`` (``CustomTextCLIP``)."""
    return getattr(model, "text", model)


def is_clip_tower(model: nn.Module) -> bool:
    """Whether the text tower is CLIP's kind: causal, standard layers, read at the end token, nothing after it."""
    tower = text_tower(model)
    pool = getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)
    has_token_behind = getattr(tower, "cls_emb", None) is not None  # CoCa's
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", ())
    is_causal = getattr(tower, "attn_mask", None) is not None
    read_at_end = pool in ("argmax", "eos") and not has_token_behind
    return is_causal and read_at_end and len(blocks) > 0 and all(is_standard(block) for block in blocks)


def is_standard(block: nn.Module) -> bool:
    """Whether this is open_clip's usual layer, the only one that is opened here and in ``visual``."""
    from open_clip.transformer import ResidualAttentionBlock

    return type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")
