"""A frozen CLIP: pictures and names become unit vectors, unit vectors become logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .support.disk import digest
from .support.memory import Halving
from .support.pictures import as_picture, middle_of_strip
from .support.prefetch import ahead, openers
from .support.progress import progress_bar
from .support.tensors import as_rows, check_tensor
from .support.values import shown, whole
from .towers.sentences import Templates, as_templates, sentences_of
from .towers.text import encode_prompts
from .towers.words import check_names

TEMPLATE = "a photo of a {}."  # the one sentence of the zero-shot baseline, as in the paper
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


@dataclass(frozen=True)
class VLM:
    """A vision-language model in evaluation mode, none of whose tensors wants a gradient.

    Attributes:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``.
        preprocess: PIL picture → (3, H, W), this model's own size, mean and standard deviation.
        tokenizer: list of strings → token ids (N, L).
        name, pretrained: what ``load_vlm`` was asked for; of a file of weights, its name without the folder.
        weights: tells the weights from others of that name (``weights_identity``); empty if it was made by hand.
    """

    model: nn.Module
    preprocess: Callable
    tokenizer: Callable
    name: str
    pretrained: str | None = None
    weights: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Name, weights and precision: what tells its features from those of any other model."""
        return self.name, self.weights or _digest(self.model), PRECISIONS[self.dtype]

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


def check_vlm(vlm: object) -> None:
    """Refuse what is no model, such as the name of one.

    Raises:
        ValueError: says what it is.
    """
    if not isinstance(vlm, VLM):
        raise ValueError(f"The model is a {type(vlm).__name__}: give what load_vlm returns.")


def _digest(model: nn.Module) -> str:
    sums = [(name, tuple(t.shape), t.double().sum().item()) for name, t in model.state_dict().items()]
    return digest(sums)


def drop_text_tower(vlm: VLM) -> None:
    """Free the memory of a teacher's text tower, once its text features are kept; its image tower stays as it is."""
    for name in ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection", "text"):
        if hasattr(vlm.model, name):
            setattr(vlm.model, name, None)


def encode_images(vlm: VLM, images: Sequence, batch_size: int = 64) -> Tensor:
    """(N, D) unit image features of N PIL pictures, through the model's own preprocessing, without gradient."""
    pixels, features, batch_size = Pixels(vlm, images), [], whole(batch_size, "batch_size", 1)
    if len(images) == 0:
        raise ValueError("There are no images to encode.")
    starts = range(0, len(images), batch_size)
    batches = ahead(lambda start: pixels[start : start + batch_size], starts)
    encode = Halving(lambda batch: unit(vlm.model.encode_image(batch)), f"{vlm.name}'s pictures")
    bar = {"total": len(starts), "desc": vlm.name, "unit": "batch", "leave": False, "disable": len(starts) < 100}
    for batch in progress_bar(batches, **bar):
        with torch.no_grad():
            features.append(encode(batch))
        if not features[-1].isfinite().all():
            first = batch_size * (len(features) - 1)
            raise ValueError(
                f"{vlm.name} gives features that are not finite for one of the images {first} to "
                f"{first + len(batch) - 1}: load it with precision='fp32', or look at its weights."
            )
    return torch.cat(features)


def check_several(images: object) -> None:
    """Refuse what is no list of pictures, such as one of them.

    Raises:
        ValueError: says what it is.
    """
    is_one = isinstance(images, str | bytes | Path | Image.Image | Mapping)
    if is_one or not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise ValueError(f"images is one {type(images).__name__}: give a list of pictures.")


def _on_device(vlm: VLM, pixels: list[Tensor]) -> Tensor:
    return torch.stack(pixels).to(vlm.device, vlm.dtype, non_blocking=True)


class Pixels:
    """Pictures as batches of tensors: ``pixels[indices]`` is (B, 3, H, W) on the model's device.

    Args:
        images: PIL pictures of any mode, or paths; each is opened, or drawn, when it is looked at.
        keep: remember what was preprocessed, in main memory: for pictures looked at again and again, such as shots.
    """

    def __init__(self, vlm: VLM, images: Sequence, keep: bool = False):
        check_several(images)
        check_vlm(vlm)
        self.vlm, self.images, self.kept = vlm, images, {} if keep else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor | slice | Sequence[int]) -> Tensor:
        every = range(len(self))
        rows = every[indices] if isinstance(indices, slice) else as_rows(indices, len(self), "indices").tolist()
        if not len(rows):
            raise ValueError("No picture is asked for: give the number of at least one.")
        if self.kept is not None and all(i in self.kept for i in rows):
            return _on_device(self.vlm, [self.kept[i] for i in rows])  # no thread is needed to look something up
        return _on_device(self.vlm, list(openers().map(self._one, rows)))

    def _one(self, i: int) -> Tensor:
        if self.kept is None:
            return preprocessed(self.vlm, self.images[i], f"Image {i}")
        if i not in self.kept:
            self.kept[i] = preprocessed(self.vlm, self.images[i], f"Image {i}")
        return self.kept[i]


def preprocessed(vlm: VLM, image: Image.Image | str | Path, name: str) -> Tensor:
    """One picture as the model sees it, (3, H, W); ``name`` is what errors call it."""
    picture = as_picture(image, name)
    steps = getattr(vlm.preprocess, "transforms", ())
    crops = any(type(step).__name__ == "CenterCrop" for step in steps)
    return vlm.preprocess(middle_of_strip(picture) if crops else picture)


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1, in float32 or better: half precision would round the cosines."""
    return F.normalize(x.to(at_least_float32(x.dtype)), dim=-1)


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def encode_names(vlm: VLM, classnames: Sequence[str], templates: Templates = (TEMPLATE,)) -> Tensor:
    """(C, D) unit text features, without gradient: the mean over templates of unit features, made unit again.

    Args:
        templates: sentences with ``{}`` for all names; or a dict from names to sentences of their own, or the path of a
            JSON file with one. Names outside it get "a photo of a {}.", with a warning.
    """
    names = check_names(classnames, dictionary=True)
    sentences = as_templates(templates)
    if isinstance(sentences, dict):
        texts = sentences_of(names, sentences, TEMPLATE)
        features = unit(encode_texts(vlm, [text for own in texts for text in own]))
        return unit(torch.stack([own.mean(0) for own in features.split([len(own) for own in texts])]))
    features = [unit(encode_texts(vlm, [sentence.format(name) for name in names])) for sentence in sentences]
    return unit(sum(features))


@torch.no_grad()
def encode_texts(vlm: VLM, texts: Sequence[str]) -> Tensor:
    """(N, D) text features as the model gives them, not of unit length, in float32 or better, without gradient."""
    check_vlm(vlm)
    check_lengths(vlm, texts)
    if has_clip_tokens(vlm):  # then beginnings that texts share are computed once
        encode = Halving(lambda prompts: encode_prompts(vlm.model, prompts), f"{vlm.name}'s names")
        features = encode([as_prompt(vlm, token_ids(vlm, text)) for text in texts])
    else:
        chunks = [list(texts[i : i + 256]) for i in range(0, len(texts), 256)]
        features = torch.cat([vlm.model.encode_text(vlm.tokenizer(chunk).to(vlm.device)) for chunk in chunks])
    if not features.isfinite().all():
        raise ValueError(f"{vlm.name} gives text features that are not finite: load it with precision='fp32'.")
    return features.to(at_least_float32(features.dtype))


def logits(image_features: Tensor, text_features: Tensor, scale: Tensor | float) -> Tensor:
    """(N, C) = scale · cosine, from unit features (N, D) and (C, D)."""
    check_tensor(image_features, "The features of pictures")
    check_tensor(text_features, "The features of names")
    if image_features.shape[-1] != text_features.shape[-1]:
        sizes = f"{image_features.shape[-1]} numbers and names {text_features.shape[-1]}"
        raise ValueError(f"Pictures have {sizes}: encode both with the same model.")
    return scale * image_features @ text_features.T


# --- texts as tokens -----------------------------------------------------------------------------------------------


def has_clip_tokens(vlm: VLM) -> bool:
    """Whether the tokenizer is CLIP's, whose start and end tokens and word pieces are known."""
    return all(hasattr(vlm.tokenizer, name) for name in ("encode", "sot_token_id", "eot_token_id"))


def as_prompt(vlm: VLM, symbols: Sequence[int]) -> list[int]:
    """Token ids, or symbols of learned vectors, between the start and the end token."""
    return [vlm.tokenizer.sot_token_id, *symbols, vlm.tokenizer.eot_token_id]


def token_ids(vlm: VLM, text: str) -> list[int]:
    """The tokens of a text without start and end."""
    return vlm.tokenizer.encode(text)


def check_lengths(vlm: VLM, texts: Sequence[str]) -> None:
    """Refuse texts that the tokenizer would cut off in silence."""
    if not has_clip_tokens(vlm):  # other tokenizers (Hugging Face's) cut by rules of their own
        return
    for text in texts:
        if len(token_ids(vlm, text)) + 2 > vlm.tokenizer.context_length:
            raise ValueError(
                f"{shown(text)} has {len(token_ids(vlm, text))} tokens, and {vlm.name} reads at most "
                f"{vlm.tokenizer.context_length - 2}: shorten the class name."
            )
