"""MaPLe: Khattak et al., Multi-modal Prompt Learning, CVPR 2023 (arXiv 2210.03117)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from ..clip.tokens import context_prompts
from ..clip.vectors import random_vectors, unit
from ..clip.visual import check_takes_prompts
from ..clip.words import check_names
from ..prompts import encode_prompts
from ..train import Recipe
from ..vlm import VLM
from .base import Learner, depth_of, seeded, words_to_start_from


class MaPLe(Learner):
    """Context in the first ``depth`` layers of the text tower, and the image tower's as a linear map of it.

    3,555,072 parameters on ViT-B/32, nearly all in the maps. The image tokens of layer i are ``proj_i(ctx_i)`` (section
    3.2); the words of ``ctx_init`` behind the first ``n_ctx`` stay where they are, as frozen words.

    Args:
        vlm: the student; its image tower must be a vision transformer.
        n_ctx: learned vectors in each layer; more than ``ctx_init`` has words start from N(0, 0.02²).
        depth: layers with fresh vectors in both towers; by default 9, or all of a shallower tower.
        ctx_init: words to start from.
        seed: of the deeper vectors, N(0, 0.02²), and of the maps; those of the deeper layers start as copies of one.

    Widths are read from the model, where the published code has those of ViT-B/16 and casts to half precision.
    """

    recipe = Recipe(epochs=5, batch_size=4, lr=3.5e-3)

    def __init__(
        self, vlm: VLM, n_ctx: int = 2, depth: int | None = None, ctx_init: str = "a photo of a", seed: int = 0
    ):
        super().__init__(vlm, n_ctx=n_ctx, depth=depth, ctx_init=ctx_init, seed=seed)
        check_takes_prompts(vlm.model, vlm.name, "MaPLe")
        depth = depth_of(vlm, depth, 9, ("image", "text"))
        deeper = random_vectors(vlm, n_ctx * depth, seed).split(n_ctx)
        words, self.template = words_to_start_from(vlm, ctx_init, n_ctx)
        self.ctx = nn.Parameter(deeper[0].clone() if words is None else words)
        self.deep = nn.ParameterList(deeper[1:])
        width = vlm.model.visual.class_embedding.shape[0]
        with seeded(seed):
            self.proj = nn.Linear(self.ctx.shape[1], width).to(self.ctx)
            deeper_map = nn.Linear(self.ctx.shape[1], width).to(self.ctx)
        self.deep_proj = nn.ModuleList(copy.deepcopy(deeper_map) for _ in self.deep)

    def text(self, classnames: Sequence[str]) -> Tensor:
        prompts = context_prompts(self.vlm, tuple(check_names(classnames)), len(self.ctx), template=self.template)
        return unit(encode_prompts(self.vlm.model, prompts, self.ctx, list(self.deep)))

    def visual_prompts(self) -> list[Tensor]:
        return [self.proj(self.ctx), *(proj(ctx) for proj, ctx in zip(self.deep_proj, self.deep))]
