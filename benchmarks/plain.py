"""The plain published way, as the reference of the ratios: every prompt at full length, every token in every layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdpl_utils.learners import CoCoOp, CoOp, Learner
from kdpl_utils.towers.text import encode_plainly
from kdpl_utils.vlm import logits, unit


def plain_image(model: nn.Module, pixels: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """``vision.encode_image`` as published: the learned tokens are part of the sequence, image by image, throughout."""
    tower = model.visual
    x = tower._embeds(pixels)
    patches = x.shape[1]
    for i, block in enumerate(tower.transformer.resblocks):
        if i < len(prompts):
            tokens = tower.ln_pre(prompts[i]) if i == 0 else prompts[i]
            x = torch.cat([x[:, :patches], tokens.expand(len(x), -1, -1)], dim=1)
        x = block(x)
    return tower.ln_post(x)[:, 0] @ tower.proj


def plain_logits(learner: Learner, pixels: Tensor, names: Sequence[str]) -> Tensor:
    """A learner's logits (N, C) the plain way, with the same learned tensors."""
    model, scale = learner.vlm.model, learner.vlm.scale
    if isinstance(learner, CoCoOp):
        with torch.no_grad():
            features = unit(model.encode_image(pixels))
        contexts = learner.ctx + learner.meta_net(features)[:, None]
        prompts = learner.texts.prompts(names)
        rows = [f[None] @ unit(encode_plainly(model, prompts, ctx)).T for f, ctx in zip(features, contexts)]
        return scale * torch.cat(rows)
    tokens = learner.tokens()
    if tokens:
        image = unit(plain_image(model, pixels, tokens))
    else:
        with torch.no_grad():
            image = unit(model.encode_image(pixels))
    return logits(image, plain_text(learner, names), scale)


def plain_text(learner: Learner, names: Sequence[str]) -> Tensor:
    part = learner.prompt if isinstance(learner, CoOp) else learner
    if not hasattr(part, "texts"):  # VPT: frozen sentences, encoded once there too
        return learner.text(names)
    return unit(encode_plainly(learner.vlm.model, part.texts.prompts(names), part.ctx, list(getattr(part, "deep", ()))))
