"""A frozen CLIP: pictures and names become unit vectors, and these become logits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .clip.batches import ImageBatches
from .clip.fast_text import is_clip_tower
from .clip.tokens import encode_texts
from .clip.vectors import unit
from .clip.words import TEMPLATE, check_names, check_templates
from .support.disk import digest
from .support.progress import progress_bar


@dataclass(frozen=True, eq=False)
class VLM:
    """A vision-language model in evaluation mode, none of whose tensors requires a gradient.

    Attributes:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``.
        preprocess: PIL picture → (3, H, W), with this model's own size, mean and standard deviation.
        tokenizer: list of strings → token ids (N, L).
        name, pretrained: the arguments of ``load_vlm``; of a file of weights, its name without the folder.
        weights: identifies the weights (``clip.models.weights_identity``); empty for a model that was made by hand.
    """

    model: nn.Module
    preprocess: Any
    tokenizer: Any
    name: str
    pretrained: str | None = None
    weights: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Name, weights and precision: features belong to these."""
        weights = self.weights or digest([(k, t.double().sum().item()) for k, t in self.model.state_dict().items()])
        return self.name, weights, str(self.dtype)

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), a scalar: what cosines are multiplied with to become logits (100 in OpenAI's CLIP)."""
        return self.model.logit_scale.exp()

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the image tower. Features and learned parameters stay at least float32."""
        return next(p.dtype for p in self.model.visual.parameters() if p.ndim == 4)  # of its first convolution

    @functools.cached_property
    def has_clip_text(self) -> bool:
        """Whether tokenizer and text tower are CLIP's, so that prompts can be learned and encoded the fast way."""
        has_clip_tokens = all(hasattr(self.tokenizer, name) for name in ("encode", "sot_token_id", "eot_token_id"))
        return has_clip_tokens and is_clip_tower(self.model)


@torch.no_grad()
def encode_images(vlm: VLM, images: Sequence, batch_size: int = 64, progress: bool = True) -> Tensor:
    """(N, D) unit image features, without gradient.

    Args:
        images: PIL pictures, paths, or (picture, label) pairs, as torch's data sets have them.

    Raises:
        ValueError: a picture that cannot be read, or features that are not finite.
    """
    batches = ImageBatches(vlm, images).in_order(batch_size)
    n_batches = -(-len(images) // batch_size)
    bar = progress_bar(batches, total=n_batches, desc=vlm.name, unit="batch", disable=not progress)
    features = torch.cat([unit(vlm.model.encode_image(batch)) for batch in bar])
    if not features.isfinite().all():
        first = int((~features.isfinite()).any(-1).nonzero()[0])
        raise ValueError(
            f"{vlm.name} gives features that are not finite, first for image {first}: load it with precision='fp32', "
            "or look at its weights."
        )
    return features


def encode_names(vlm: VLM, classnames: Sequence[str], templates: Sequence[str] = (TEMPLATE,)) -> Tensor:
    """(C, D) unit text features, without gradient: the mean over templates of unit features, made unit again."""
    names = check_names(classnames, dictionary=True)
    return unit(sum(unit(encode_texts(vlm, [t.format(name) for name in names])) for t in check_templates(templates)))


def logits(image_features: Tensor, text_features: Tensor, scale: Tensor | float) -> Tensor:
    """(N, C) = scale · cosine, from unit features (N, D) and (C, D)."""
    return scale * image_features @ text_features.T
