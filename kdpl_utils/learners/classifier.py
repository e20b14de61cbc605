"""A classifier for use elsewhere: text features beside a frozen image tower, as safetensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..clip.models import is_published
from ..clip.visual import check_takes_prompts
from ..support.disk import as_path, write_tensors
from ..vlm import VLM, logits, unit
from .base import Learner, predict, prompted_features
from .saving import check_finite, check_model, model_header, read_header


class Classifier(nn.Module):
    """A frozen image tower and a matrix of text features: all that classifying needs once the prompts are learned.

    Attributes:
        text: (C, D) unit text features, one row a class.
        classnames: C names.
        tokens: learned tokens of the image tower's first layers, (n, d) each; none for CoOp.
    """

    def __init__(self, vlm: VLM, text: Tensor, classnames: Sequence[str], tokens: Sequence[Tensor] = ()):
        super().__init__()
        self.vlm = vlm
        self.classnames = list(classnames)
        self.register_buffer("text", text.detach().clone())
        self.tokens = nn.ParameterList(nn.Parameter(t.detach().clone(), requires_grad=False) for t in tokens)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Preprocessed images (N, 3, H, W) → logits (N, C)."""
        tokens = list(self.tokens)
        if tokens:
            features = prompted_features(self.vlm, images, tokens)
        else:
            features = unit(self.vlm.model.encode_image(images))
        return logits(features, self.text, self.vlm.scale)

    def predict(self, images: Sequence, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most probable names of each picture, with their probabilities."""
        return predict(self.vlm, self, images, self.classnames, k)


def has_classifier(learner: Learner | type[Learner]) -> bool:
    """Whether its classes are fixed text features beside the model's own image features."""
    kind = learner if isinstance(learner, type) else type(learner)
    return kind.image is Learner.image and kind.classifier is Learner.classifier


@torch.no_grad()
def classifier_of(learner: Learner, classnames: Sequence[str]) -> Classifier:
    """What was learned, for one list of names."""
    if not has_classifier(learner):
        raise ValueError(
            f"The classes of a {type(learner).__name__} are not fixed text features beside the model's own image "
            "features: keep the learner itself (save_learner) and use its predict."
        )
    return Classifier(learner.vlm, learner.text(classnames), classnames, learner.visual_prompts())


def export_classifier(learner: Learner, classnames: Sequence[str], path: str | Path) -> Path:
    """Write ``text`` (C, D), the names and any image tokens as safetensors, for zero-shot classification anywhere.

    Elsewhere: logits = exp(logit_scale) · unit image features · textᵀ.
    """
    classifier = classifier_of(learner, classnames)
    check_finite(classifier.state_dict(), path)
    header = {
        "classifier": "1",
        "classnames": json.dumps(classifier.classnames),
        "logit_scale_exp": repr(learner.vlm.scale.item()),
        **model_header(learner.vlm),
    }
    return write_tensors(as_path(path), classifier.state_dict(), header)


def load_classifier(path: str | Path, vlm: VLM) -> Classifier:
    """The classifier of a file, on the model it was made with."""
    header, tensors = read_header(path, "classifier")
    check_model(header, vlm, path)
    check_finite(tensors, path)
    names = json.loads(header["classnames"])
    text = tensors.pop("text")
    if text.shape != (len(names), vlm.model.visual.output_dim) or (text.norm(dim=-1) - 1).abs().max() > 0.01:
        raise ValueError(f"{path} has text features that do not fit its {len(names)} names and {vlm.name}.")
    if tensors:
        check_takes_prompts(vlm.model, vlm.name, "This classifier")
    return Classifier(vlm, text, names, [tensors[f"tokens.{i}"] for i in range(len(tensors))]).to(vlm.device)


def model_of(path: str | Path) -> tuple[str, str | None]:
    """(name, pretrained) of the model that a learner's or classifier's file belongs to, for ``load_vlm``.

    Raises:
        ValueError: the file names a folder, a hub or a file of weights. A stranger may have chosen that, so the user
            has to say which model is meant; shipped models and published weights of open_clip need no word.
    """
    header, _ = read_header(path, "model")
    name = header["model"]
    pretrained = header.get("pretrained") or None
    if not is_published(name, pretrained):
        weights = f" with the weights {pretrained!r}" if pretrained else ""
        raise ValueError(
            f"{path} says that it belongs to {name!r}{weights}, which is not a model of this suite or of open_clip, so "
            "nothing was loaded: name the model yourself (--student, or load_vlm), if you trust it."
        )
    return name, pretrained


def kind_of(path: str | Path) -> str:
    """What a file of this library holds: ``"classifier"``, or the name of the learner's class."""
    header, _ = read_header(path, "model")
    return "classifier" if "classifier" in header else header["learner"]


def names_of(path: str | Path) -> list[str] | None:
    """The class names that a file is bound to: a classifier's, or those of a learner that can take no others."""
    header, _ = read_header(path, "model")
    if "classifier" in header:
        return json.loads(header["classnames"])
    return json.loads(header["settings"]).get("classnames")
