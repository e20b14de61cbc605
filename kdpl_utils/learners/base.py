"""What all prompt learners are: images and class names → logits, with a gradient to the learned tensors only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..clip.fast_text import text_tower
from ..clip.tokens import encode_texts
from ..clip.vectors import word_vectors
from ..clip.visual import encode_image
from ..clip.words import TEMPLATE, check_names, check_templates
from ..protocol import all_logits
from ..train import Recipe
from ..vlm import VLM, ImageBatches, logits, unit


class Learner(nn.Module):
    """Images (N, 3, H, W), or their features, and C class names → logits (N, C).

    This class is zero-shot CLIP itself: the baseline of every table. A method overrides ``text`` or ``visual_prompts``
    or both, or ``classifier`` where the two depend on each other; and ``loss`` if it adds a term of its own:

        learner.loss(images, names, lambda z: F.cross_entropy(z, labels))        # supervised
        learner.loss(images, names, lambda z: symmetric_kl(teacher_logits, z))   # KDPL

    Attributes:
        vlm: the frozen student; ``learner.parameters()`` yields nothing of it.
        settings: the arguments that make this learner again, kept in its file.
        recipe: the published schedule.
        open_vocabulary: whether it can classify among classes that it was not trained on.
    """

    recipe = Recipe()
    open_vocabulary = True

    def __init__(self, vlm: VLM, **settings):
        super().__init__()
        self.vlm = vlm
        self.settings = settings
        self.frozen_text = TextFeatureCache(vlm)

    def text(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) unit text features; by default of "a photo of a name.", each name encoded once."""
        return self.frozen_text(classnames)

    def image(self, images: Tensor) -> Tensor:
        """(N, D) unit image features of preprocessed images (N, 3, H, W), with the visual prompts where there are any.

        A learner without visual prompts passes cached unit features (N, D) through.
        """
        prompts = self.visual_prompts()
        return prompted_features(self.vlm, images, prompts) if prompts else self.frozen_image(images)

    def visual_prompts(self) -> list[Tensor]:
        """The learned tokens (n, d) of the image tower's first layers; none by default."""
        return []

    def frozen_image(self, images: Tensor) -> Tensor:
        """(N, D) unit image features of the frozen model."""
        if images.ndim == 2:
            return images
        with torch.no_grad():
            return unit(self.vlm.model.encode_image(images))

    def classifier(self, classnames: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """Images → logits (N, C) for one list of names, which is encoded once for any number of images."""
        text = self.text(classnames)
        return lambda images: logits(self.image(images), text, self.vlm.scale)

    def forward(self, images: Tensor, classnames: Sequence[str]) -> Tensor:
        return self.classifier(classnames)(images)

    def loss(self, images: Tensor, classnames: Sequence[str], of_logits: Callable[[Tensor], Tensor]) -> Tensor:
        """What to minimise: ``of_logits`` maps logits (N, C) to a scalar; the method's own term, if any, is added."""
        return of_logits(self(images, classnames))

    def predict(self, images: Sequence, classnames: Sequence[str], k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most probable names of each picture, with their probabilities, most probable first."""
        return predict(self.vlm, self.classifier(classnames), images, classnames, k)

    def n_parameters(self) -> int:
        """How many parameters are learned."""
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def predict(
    vlm: VLM, classify: Callable[[Tensor], Tensor], images: Sequence, classnames: Sequence[str], k: int
) -> list[list[tuple[str, float]]]:
    """The k most probable names of each picture, with probabilities; ``classify``: preprocessed → logits (N, C)."""
    if not len(images):
        return []
    probabilities = all_logits(classify, ImageBatches(vlm, images)).softmax(-1)
    top = probabilities.topk(min(k, len(classnames)))
    rows = zip(top.indices.tolist(), top.values.tolist())
    return [[(classnames[c], p) for c, p in zip(indices, values)] for indices, values in rows]


class TextFeatureCache:
    """Class names → (C, D) unit text features of the frozen model, each name encoded when first asked for.

    Args:
        templates: as in ``encode_names``; the features of a name are averaged as they come, then made unit.
    """

    def __init__(self, vlm: VLM, templates: Sequence[str] = (TEMPLATE,)):
        self.vlm = vlm
        self.templates = check_templates(templates)
        self.known: dict[str, Tensor] = {}

    def __call__(self, classnames: Sequence[str]) -> Tensor:
        return unit(self.mean(classnames))

    def mean(self, classnames: Sequence[str]) -> Tensor:
        """(C, D) the averages themselves, not of unit length."""
        names = check_names(classnames)
        new = [name for name in names if name not in self.known]
        if new:
            # All sentences of all names at once: names behind the same words share those.
            features = encode_texts(self.vlm, [t.format(name) for name in new for t in self.templates])
            self.known.update(zip(new, features.unflatten(0, (len(new), -1)).mean(1)))
        return torch.stack([self.known[name] for name in names])


def prompted_features(vlm: VLM, images: Tensor, prompts: list[Tensor], raw: bool = False) -> Tensor:
    """(N, D) image features, unit unless ``raw``, of images (N, 3, H, W) with learned tokens in the image tower."""
    if images.ndim != 4:
        raise ValueError(
            "This learner changes the image tower, so it needs the images (N, 3, H, W), not features cached without "
            f"its tokens, of shape {tuple(images.shape)}: use ImageBatches(vlm, pictures)."
        )
    features = encode_image(vlm.model, images, prompts)
    return features if raw else unit(features)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's own initialisation, drawn by ``seed``; the global random numbers stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def words_to_start_from(vlm: VLM, ctx_init: str, n_ctx: int) -> tuple[Tensor | None, str]:
    """The first ``n_ctx`` words as vectors (n_ctx, d), and the frozen words behind them as a template for the name.

    None and "{}." where there are fewer words than vectors: then the start is random.
    """
    words = word_vectors(vlm, ctx_init)
    if n_ctx > len(words):
        return None, "{}."
    if len(words) != len(ctx_init.split()):
        raise ValueError(f"A word of {ctx_init!r} is several tokens: start from words of one token each.")
    return words[:n_ctx].clone(), " ".join([*ctx_init.split()[n_ctx:], "{}."])


def depth_of(vlm: VLM, depth: int | None, published: int, towers: Sequence[str]) -> int:
    """How many layers get fresh tokens; None takes the published number, or all layers of a shallower model."""
    layers = []
    if "image" in towers:
        layers.append(len(vlm.model.visual.transformer.resblocks))
    if "text" in towers:
        layers.append(len(text_tower(vlm.model).transformer.resblocks))
    if depth is not None and depth > min(layers):
        raise ValueError(f"depth is {depth}, and a tower of {vlm.name} has {min(layers)} layers: choose at most that.")
    return min(published, *layers) if depth is None else depth
