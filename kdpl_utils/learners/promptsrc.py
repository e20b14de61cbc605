"""PromptSRC: Khattak et al., Self-regulating Prompts, ICCV 2023 (arXiv 2307.06948)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..clip.tokens import context_prompts
from ..clip.vectors import random_vectors, unit
from ..clip.words import check_names
from ..prompts import encode_prompts
from ..train import Recipe
from ..vlm import VLM, logits
from .base import Learner, TextFeatureCache, depth_of, words_to_start_from
from .vpt import visual_tokens

TEXT_WEIGHT = 25.0  # section 3.2; the logits' term has weight 1
IMAGE_WEIGHT = 10.0


def templates() -> tuple[str, ...]:
    """The 60 sentences of the frozen reference: the first 60 of OpenAI's 80 for ImageNet, as the published code has."""
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES[:60])


class PromptSRC(Learner):
    """Independent context in both towers, held near the frozen model: 46,080 parameters on ViT-B/32, 15,360 at depth 3.

    Three terms are added to the loss of the logits (section 3.2), with t, i, z the learned text features, image
    features and logits, and t0, i0, z0 the frozen ones, t0 averaged over 60 sentences for each name:
    25·mean|t − t0| + 10·mean|i − i0| + KL(softmax z0 ‖ softmax z) / C. The learned tensors are averaged over the epochs
    with Gaussian weights (section 3.3), see ``Recipe.average``.

    Args:
        vlm: the student; its image tower must be a vision transformer.
        n_ctx: learned vectors in each layer of either tower; with fewer than ``ctx_init`` has words, the words behind
            them stay as frozen words.
        depth, depth_text: layers with fresh vectors; by default 9 (``depth_text``: as ``depth``), or all of a
            shallower tower. ``CROSS_DATASET`` holds the settings published for transfer between data sets.
        ctx_init: words to start the first text layer from; the rest starts from N(0, 0.02²).

    The published code averages the frozen half-precision weights too, which moves them; here only what is learned.
    """

    recipe = Recipe(epochs=20, batch_size=4, lr=2.5e-3, average=(15, 1))

    def __init__(
        self,
        vlm: VLM,
        n_ctx: int = 4,
        depth: int | None = None,
        depth_text: int | None = None,
        ctx_init: str = "a photo of a",
        seed: int = 0,
    ):
        super().__init__(vlm, n_ctx=n_ctx, depth=depth, depth_text=depth_text, ctx_init=ctx_init, seed=seed)
        self.visual = visual_tokens(vlm, n_ctx, depth, 9, seed, "PromptSRC")
        layers = depth_of(vlm, depth if depth_text is None else depth_text, 9, ("text",))
        drawn = random_vectors(vlm, n_ctx * layers, seed + 1).split(n_ctx)
        words, self.template = words_to_start_from(vlm, ctx_init, n_ctx)
        self.ctx = nn.Parameter(drawn[0].clone() if words is None else words)
        self.deep = nn.ParameterList(drawn[1:])
        self.reference = TextFeatureCache(vlm, templates())

    def text(self, classnames: Sequence[str]) -> Tensor:
        prompts = context_prompts(self.vlm, tuple(check_names(classnames)), len(self.ctx), template=self.template)
        return unit(encode_prompts(self.vlm.model, prompts, self.ctx, list(self.deep)))

    def visual_prompts(self) -> list[Tensor]:
        return list(self.visual)

    def loss(self, images: Tensor, classnames: Sequence[str], of_logits: Callable[[Tensor], Tensor]) -> Tensor:
        scale = self.vlm.scale
        t = self.text(classnames)
        i = self.image(images)
        t0 = self.reference(classnames)
        i0 = self.frozen_image(images)
        z = logits(i, t, scale)
        z0 = logits(i0, t0, scale)
        near_text = TEXT_WEIGHT * (t - t0).abs().mean()
        near_image = IMAGE_WEIGHT * (i - i0).abs().mean()
        kl = F.kl_div(z.log_softmax(-1), z0.log_softmax(-1), reduction="sum", log_target=True)
        near_logits = kl / z.numel()  # a mean over images and classes
        return of_logits(z) + near_text + near_image + near_logits


CROSS_DATASET: dict[str, Any] = {
    "settings": {"depth": 3},
    "recipe": Recipe(epochs=20, batch_size=4, lr=2.5e-3, average=(6, 10)),
}
