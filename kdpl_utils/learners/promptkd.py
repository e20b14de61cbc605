"""PromptKD: Li et al., Unsupervised Prompt Distillation, CVPR 2024 (arXiv 2403.02781): its student, its objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..clip.words import TEMPLATE, check_names
from ..distill import forward_kl
from ..supervision import check_same_pictures
from ..train import Recipe
from ..vlm import VLM, unit
from .base import Learner, TextFeatureCache, prompted_features, seeded
from .vpt import visual_tokens

if TYPE_CHECKING:
    from ..supervision import Inputs, Loss


class PromptKD(Learner):
    """The student's image features, mapped onto the teacher's text features; the student needs no text tower.

    Deep visual tokens as in VPT, and a network of two layers D_student → D_teacher → D_teacher (section 3.3). Logits
    are the student's ``exp(logit_scale)``, as published, times cosines with the teacher's text features, stored once
    for each name.

    Args:
        vlm: the student; its image tower must be a vision transformer.
        teacher: whose text features are the classes; needed again when the learner is loaded from a file.
        n_ctx, depth, seed: as in ``VPT``, by default 4 tokens in 9 layers.
        template: the teacher's sentence.

    Any supervision trains it; the published objective is ``from_promptkd``. The paper's teacher is itself a learned
    PromptSRC of ViT-L/14; here it is any zero-shot CLIP. The paper learns from all unlabelled pictures and all names of
    the data set that it is tested on (it is transductive). The network has layer normalisation where the published one
    has batch normalisation, so that an answer does not depend on the other images of its batch; without either, the
    weighted loss can leave it with no unit that is ever above zero, and it learns nothing more.
    """

    recipe = Recipe(epochs=20, batch_size=8, lr=5e-3)

    def __init__(
        self,
        vlm: VLM,
        teacher: VLM,
        n_ctx: int = 4,
        depth: int | None = None,
        template: str = TEMPLATE,
        seed: int = 0,
    ):
        super().__init__(vlm, n_ctx=n_ctx, depth=depth, template=template, seed=seed)
        self.visual = visual_tokens(vlm, n_ctx, depth, 9, seed, "PromptKD")
        self.teacher = teacher
        self.teacher_text = TextFeatureCache(teacher, (template,))
        d_student = vlm.model.visual.output_dim
        d_teacher = teacher.model.visual.output_dim
        with seeded(seed):
            project = nn.Sequential(
                nn.Linear(d_student, d_teacher),
                nn.LayerNorm(d_teacher),
                nn.ReLU(),
                nn.Linear(d_teacher, d_teacher),
            )
        self.project = project.to(self.visual[0])

    def text(self, classnames: Sequence[str]) -> Tensor:
        return self.teacher_text(classnames).to(self.visual[0])

    def visual_prompts(self) -> list[Tensor]:
        return list(self.visual)

    def image(self, images: Tensor) -> Tensor:
        features = prompted_features(self.vlm, images, self.visual_prompts(), raw=True)
        return unit(self.project(features.to(self.visual[0].dtype)))


WEIGHT = 1000.0  # of the published settings, and of base-to-novel …
SMALLER_WEIGHTS = {"fgvc_aircraft": 200.0, "flowers102": 200.0, "dtd": 200.0}  # … on these data sets


def from_promptkd(inputs: Inputs, teacher_logits: Tensor, names: Sequence[str], weight: float = WEIGHT) -> Loss:
    """PromptKD's objective: weight · Σ KL(t‖s) / (B·C), a sum over B pictures; teacher's logits (N, C), no labels.

    The published code divides by the number of logits, not of pictures, so the loss is weight/C times the mean over
    the batch (``forward_kl``): ten times it for 100 classes, and once for 1,000. The temperature is 1, as published.
    """
    names = check_names(names)
    check_same_pictures(inputs, teacher_logits)
    factor = weight / len(names)
    return lambda learner, batch: learner.loss(
        inputs[batch], names, lambda z: factor * forward_kl(teacher_logits[batch], z)
    )
