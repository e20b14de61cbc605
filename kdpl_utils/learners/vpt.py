"""VPT-deep: Jia et al., Visual Prompt Tuning, ECCV 2022 (arXiv 2203.12119), in CLIP's image tower."""

from __future__ import annotations

from torch import Tensor, nn

from ..clip.vectors import random_vectors
from ..clip.visual import check_takes_prompts
from ..train import Recipe
from ..vlm import VLM
from .base import Learner, depth_of


class VPT(Learner):
    """Learned tokens behind the patches, fresh ones in each of the first ``depth`` layers; 73,728 on ViT-B/32.

    The text features are those of "a photo of a name.", frozen.

    Args:
        vlm: the student; its image tower must be a vision transformer.
        n_ctx: tokens in each layer.
        depth: layers with fresh tokens; by default 12, or all of a shallower model.
        seed: of the start, N(0, 0.02²).

    The published code rounds the tokens to half precision when it inserts them; here they stay as they are.
    """

    recipe = Recipe(epochs=5, batch_size=4, lr=2.5e-3)

    def __init__(self, vlm: VLM, n_ctx: int = 8, depth: int | None = None, seed: int = 0):
        super().__init__(vlm, n_ctx=n_ctx, depth=depth, seed=seed)
        self.visual = visual_tokens(vlm, n_ctx, depth, 12, seed, "VPT")

    def visual_prompts(self) -> list[Tensor]:
        return list(self.visual)


def visual_tokens(vlm: VLM, n_ctx: int, depth: int | None, published: int, seed: int, method: str) -> nn.ParameterList:
    """For each of the first ``depth`` layers (n_ctx, d) tokens from N(0, 0.02²)."""
    check_takes_prompts(vlm.model, vlm.name, method)
    depth = depth_of(vlm, depth, published, ("image",))
    width = vlm.model.visual.class_embedding.shape[0]
    return nn.ParameterList(random_vectors(vlm, n_ctx * depth, seed, width).split(n_ctx))
