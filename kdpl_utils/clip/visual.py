"""The image tower, opened: a vision transformer with learned tokens, and nothing computed that is thrown away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fast_text import is_standard


def encode_image(model: nn.Module, pixels: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """(N, D) image features, not normalised, of pixels (N, 3, H, W) with learned tokens (VPT-deep, section 3.2).

    In layer i, ``prompts[i]`` (n, d) stands behind the patches. The first passes ``ln_pre`` like the patches, without
    positional embedding. From layer 1 on, fresh tokens overwrite the previous layer's outputs at their places, as they
    are. After the last set, the outputs are kept. The feature is read at the class token.

    Exact, and cheaper than the published way: tokens about to be replaced give keys and values only, the same for
    every image, hence once; in the last layer only the class token asks.
    """
    tower = model.visual
    blocks = tower.transformer.resblocks
    x = tower._embeds(pixels)  # (N, 1 + patches, d), behind ln_pre
    for i, block in enumerate(blocks):
        last = i + 1 == len(blocks)
        tokens = prompts[i].to(x.dtype) if i < len(prompts) else None
        if i == 0 and tokens is not None:
            tokens = tower.ln_pre(tokens)
        if i + 1 == len(prompts) and not last:  # no fresh tokens in the next layer: these go on, image by image
            x = torch.cat([x, tokens.expand(x.shape[0], -1, -1)], dim=1)
            tokens = None
        x = _layer(block, x, tokens, queries=1 if last else x.shape[1])
    return tower.ln_post(x[:, 0]) @ tower.proj


def _layer(block: nn.Module, x: Tensor, tokens: Tensor | None, queries: int) -> Tensor:
    """One layer for the first ``queries`` of x (N, T, d), which all see x and the shared ``tokens`` (n, d)."""
    heads = block.attn.num_heads
    d = x.shape[-1]
    weight = block.attn.in_proj_weight
    bias = block.attn.in_proj_bias
    h = block.ln_1(x)
    q = F.linear(h[:, :queries], weight[:d], bias[:d])
    kv = F.linear(h, weight[d:], bias[d:])
    if tokens is not None:
        shared = F.linear(block.ln_1(tokens), weight[d:], bias[d:])
        kv = torch.cat([kv, shared.expand(x.shape[0], -1, -1)], dim=1)
    q = q.unflatten(-1, (heads, -1)).transpose(1, 2)  # (N, heads, queries, d / heads)
    k, v = kv.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x[:, :queries] + block.ls_1(block.attn.out_proj(a))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def check_takes_prompts(model: nn.Module, name: str, method: str) -> None:
    """Refuse image towers that have no place for learned tokens."""
    tower = model.visual
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", ())
    if not len(blocks) or not hasattr(tower, "_embeds"):
        raise ValueError(
            f"{method} puts learned tokens into a vision transformer, and the image tower of {name} is a "
            f"{type(tower).__name__}: use CoOp or CoCoOp with it, or a student such as ViT-B-32-quickgelu."
        )
    read_at_class = getattr(tower, "pool_type", None) == "tok" and getattr(tower, "attn_pool", None) is None
    if not read_at_class or not all(is_standard(block) for block in blocks):
        raise ValueError(
            f"{method} needs a vision transformer of standard layers that is read at its class token, and {name} is "
            "built otherwise: choose a student such as ViT-B-32-quickgelu."
        )
