"""CoCoOp: Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022 (arXiv 2203.05557)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..clip.tokens import context_prompts, with_context
from ..clip.vectors import unit, word_vectors
from ..clip.words import check_names
from ..prompts import encode_prompts
from ..train import Recipe
from ..vlm import VLM
from .base import Learner, seeded

PROMPTS = 4096  # (image, class) pairs encoded at once where no gradient is needed


class CoCoOp(Learner):
    """CoOp's context plus a shift that a network computes from each image (section 3.2); 35,360 parameters on ViT-B/32.

    ``ctx(image) = ctx + meta_net(image feature)``, the shift added to each of the vectors. Every image therefore has
    text features of its own. Cached image features (N, D) serve in place of images.

    Args:
        vlm: the student, of any image tower.
        ctx_init: words whose token embeddings the context starts from.
        seed: of the meta-net's start, PyTorch's default for linear layers.
    """

    recipe = Recipe(epochs=10, batch_size=1, lr=2e-3)

    def __init__(self, vlm: VLM, ctx_init: str = "a photo of a", seed: int = 0):
        super().__init__(vlm, ctx_init=ctx_init, seed=seed)
        ctx = word_vectors(vlm, ctx_init)
        self.ctx = nn.Parameter(ctx)
        features = vlm.model.visual.output_dim
        hidden = max(1, vlm.model.visual.output_dim // 16)
        with seeded(seed):
            self.meta_net = nn.Sequential(
                OrderedDict(
                    linear1=nn.Linear(features, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, ctx.shape[1])
                )
            ).to(ctx)

    def classifier(self, classnames: Sequence[str]) -> Callable[[Tensor], Tensor]:
        names = check_names(classnames)

        def classify(images: Tensor) -> Tensor:
            features = self.image(images)
            # Every image has prompts of its own, so many images at once need much memory; with a gradient it is the
            # caller who chose the batch.
            group = len(features) if torch.is_grad_enabled() else max(1, PROMPTS // len(names))
            return torch.cat([self._logits(part, names) for part in features.split(group)])

        return classify

    def text(self, classnames: Sequence[str]) -> Tensor:
        raise TypeError("CoCoOp has no text features of a class alone: ask for classifier(classnames)(images).")

    def _logits(self, features: Tensor, names: list[str]) -> Tensor:
        ctx = self.ctx + self.meta_net(features.to(self.ctx.dtype))[:, None]  # (B, n_ctx, d)
        # Image 0 with all names, then image 1 with all names, …: each behind the context of its image.
        copies = [image for image in range(len(features)) for _ in names]
        prompts = context_prompts(self.vlm, tuple(names), len(self.ctx)) * len(features)
        prompts = with_context(prompts, len(self.ctx), copies)
        text = unit(encode_prompts(self.vlm.model, prompts, ctx.flatten(0, 1)))  # (B·C, D)
        return self.vlm.scale * torch.einsum("bd,bcd->bc", features, text.view(len(features), len(names), -1))
