"""A linear head: Silva-Rodríguez et al., A Closer Look at the Few-Shot Adaptation of Large VLMs, CVPR 2024
(arXiv 2312.12730), its linear probe that starts at the zero-shot text features (ZS-LP, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..clip.words import TEMPLATE, check_names, check_templates
from ..train import Recipe
from ..vlm import VLM, unit
from .base import Learner, TextFeatureCache


class LinearProbe(Learner):
    """The text features of each class plus a learned residual (D,) of its own: C·D parameters, and no prompt at all.

    The control of prompt learning: as easy as adapting CLIP can be. The residual starts at zero, so step 0 is zero-shot
    CLIP to the bit. Text features and residual are added as the model gives them, before they are made unit, and the
    recipe is the published one, the same for every data set and every supervision. Cached image features (N, D) serve
    in place of images.

    A row belongs to a class, so the head cannot name classes that it was not trained on.

    Args:
        vlm: the student, of any image tower.
        classnames: C names; ``forward`` takes them or some of them.
        templates: what the rows start from, as in ``encode_names``.

    The published code also starts from several sentences on ImageNet; here it is one, as in all tables.
    """

    recipe = Recipe(epochs=300, batch_size=256, lr=0.1, weight_decay=0.0)
    open_vocabulary = False

    def __init__(self, vlm: VLM, classnames: Sequence[str], templates: Sequence[str] = (TEMPLATE,)):
        names = check_names(classnames)
        templates = check_templates(templates)
        super().__init__(vlm, classnames=list(names), templates=templates)
        self.row_of = {name: row for row, name in enumerate(names)}
        start = TextFeatureCache(vlm, templates).mean(names)
        self.register_buffer("start", start, persistent=False)  # of the frozen model: computed again, not saved
        self.residual = nn.Parameter(torch.zeros_like(start))

    def text(self, classnames: Sequence[str]) -> Tensor:
        names = check_names(classnames)
        if unknown := [name for name in names if name not in self.row_of]:
            raise ValueError(
                f"This linear head has no row for {unknown[0]!r}: it names only the {len(self.row_of)} classes it was "
                "trained on; use a prompt learner such as CoOp for others."
            )
        rows = [self.row_of[name] for name in names]
        return unit(self.start[rows] + self.residual[rows])
