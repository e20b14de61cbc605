"""CoOp: Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022 (arXiv 2109.01134)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..prompts import PromptLearner
from ..train import Recipe
from ..vlm import VLM
from .base import Learner


class CoOp(Learner):
    """Context vectors before the class name, shared by all classes (section 3.2): 2,048 parameters on ViT-B/32.

    Nothing is learned in the image tower, so cached image features (N, D) serve in place of images.

    Args:
        vlm: the student, of any image tower.
        prompt: arguments of ``PromptLearner``: ctx_init, n_ctx, classnames, position, seed.
    """

    recipe = Recipe(epochs=50, batch_size=32, lr=2e-3)

    def __init__(self, vlm: VLM, **prompt):
        super().__init__(vlm, **prompt)
        self.prompt = PromptLearner(vlm, **prompt)

    def text(self, classnames: Sequence[str]) -> Tensor:
        return self.prompt(classnames)
