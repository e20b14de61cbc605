"""A classifier for use elsewhere: text features beside a frozen image tower, as safetensors or as ONNX."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..loading import is_published
from ..support.disk import write_whole
from ..support.tensors import check_finite
from ..towers.image import check_takes_prompts
from ..towers.words import as_spelled
from ..vlm import VLM, at_least_float32, check_names, logits, unit
from .base import Learner, predict, prompted_features
from .saving import (
    _check_model,
    _model_header,
    _read,
    _write,
    field_of,
    json_field,
)


class Classifier(nn.Module):
    """A frozen image tower and a matrix of text features: all that classifying needs once the prompts are learned.

    Attributes:
        text: (C, D) unit text features, one row a class.
        classnames: C names.
        tokens: learned tokens of the image tower's first layers, (n, d) each; none for CoOp.
    """

    def __init__(self, vlm: VLM, text: Tensor, classnames: Sequence[str], tokens: Sequence[Tensor] = ()):
        super().__init__()
        spelled = as_spelled(classnames)
        names = check_names(spelled)
        check_finite({"text": text, **{f"tokens.{i}": t for i, t in enumerate(tokens)}}, "The classifier")
        if text.shape != (len(names), vlm.model.visual.output_dim):
            raise ValueError(
                f"The text features of a classifier for {len(names)} names and {vlm.name} are "
                f"({len(names)}, {vlm.model.visual.output_dim}), not {tuple(text.shape)}."
            )
        if not text.is_floating_point() or not ((text.double().norm(dim=-1) - 1).abs() < 0.01).all():
            raise ValueError(
                "The text features of a classifier are not of length 1, so that its answers would be others."
            )
        self.vlm = vlm
        self.classnames = spelled
        self.register_buffer("text", text.detach().to(at_least_float32(vlm.dtype), copy=True))
        self.tokens = nn.ParameterList(nn.Parameter(t.detach().clone(), requires_grad=False) for t in tokens)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Preprocessed images (N, 3, H, W) → logits (N, C)."""
        if len(self.tokens):
            features = prompted_features(self.vlm, images, list(self.tokens))
        else:
            features = unit(self.vlm.model.encode_image(images))
        return logits(features, self.text, self.vlm.scale)

    def predict(self, images: Sequence, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k most probable names of each PIL picture, with their probabilities."""
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
            f"The classes of a {type(learner).__name__} are no fixed text features beside the model's own image "
            "features: keep the learner itself (save_learner) and use its predict."
        )
    names = as_spelled(classnames)
    return Classifier(learner.vlm, learner.text(names), names, learner.tokens())


def export_classifier(learner: Learner, classnames: Sequence[str], path: str | Path) -> Path:
    """Write ``text`` (C, D), the names and any image tokens as safetensors, for zero-shot classification anywhere.

    Elsewhere: logits = exp(logit_scale) · unit image features · textᵀ.
    """
    classifier = classifier_of(learner, classnames)
    header = {"classnames": json.dumps(classifier.classnames), "logit_scale_exp": repr(learner.vlm.scale.item())}
    return _write(classifier.state_dict(), {"classifier": "1", **header, **_model_header(learner.vlm)}, path)


def model_of(path: str | Path) -> tuple[str, str | None]:
    """(name, pretrained) of the model that a learner's or classifier's file belongs to, for ``load_vlm``.

    Raises:
        ValueError: the file names a folder, a hub or a file of weights. Whoever wrote it chose that, so the user has to
            say which model is meant; shipped models and published weights of open_clip need no word.
    """
    header, _ = _read(path, "model")
    name, pretrained = header["model"], field_of(header, "pretrained", path) or None
    if not is_published(name, pretrained):
        weights = f" with the weights {pretrained!r}" if pretrained else ""
        raise ValueError(
            f"{path} says that it belongs to {name!r}{weights}, which is no model that comes with this suite or with "
            "open_clip, so nothing was loaded: name the model yourself (--student, or load_vlm), if you trust it."
        )
    return name, pretrained


def kind_of(path: str | Path) -> str:
    """What a file of this library holds: ``"classifier"``, or the name of the learner's class."""
    header, _ = _read(path, "model")
    return "classifier" if "classifier" in header else field_of(header, "learner", path)


def names_of(path: str | Path) -> list[str] | None:
    """The class names that a file is bound to: a classifier's, or those of a learner that can name no others."""
    header, _ = _read(path, "model")
    if "classifier" in header:
        return json_field(header, "classnames", list, path)
    return json_field(header, "settings", dict, path).get("classnames")


def load_classifier(path: str | Path, vlm: VLM) -> Classifier:
    """The classifier of a file, on the model it was made with."""
    header, tensors = _read(path, "classifier")
    _check_model(header, vlm, path)
    wanted = ["text", *(f"tokens.{i}" for i in range(len(tensors) - 1))]
    if missing := [key for key in wanted if key not in tensors]:
        raise ValueError(f"{path} has no tensor {missing[0]!r} and is no classifier that can be used: write it again.")
    text, *tokens = (tensors[key] for key in wanted)
    names = json_field(header, "classnames", list, path)
    try:
        if tokens:
            check_takes_prompts(vlm.model, vlm.name, "This classifier")
            check_tokens(tokens, vlm)
        return Classifier(vlm, text, names, tokens).to(vlm.device)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def check_tokens(tokens: Sequence[Tensor], vlm: VLM) -> None:
    """Refuse tokens of another width, or for more layers, than the image tower has."""
    width, layers = vlm.model.visual.class_embedding.shape[0], len(vlm.model.visual.transformer.resblocks)
    if len(tokens) > layers or any(t.ndim != 2 or t.shape[1] != width for t in tokens):
        raise ValueError(f"The image tower of {vlm.name} takes tokens (n, {width}) in at most {layers} layers.")


def export_onnx(classifier: Classifier, path: str | Path) -> Path:
    """Write image tower and text features as one ONNX graph: ``images`` (N, 3, H, W), preprocessed → ``logits`` (N, C).

    The names and how to preprocess stand in the file's metadata, as JSON. A model in half precision is written in
    float32, which every runtime computes in. Needs the packages onnx and onnxscript.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (what torch writes it with)
    except ImportError as error:
        raise ValueError("ONNX files need two packages more: pip install onnx onnxscript.") from error
    if classifier.vlm.dtype.itemsize < 4:
        whole = replace(classifier.vlm, model=copy.deepcopy(classifier.vlm.model).float())
        classifier = Classifier(whole, classifier.text, classifier.classnames, list(classifier.tokens))
    vlm = classifier.vlm
    graph = _Graph(vlm.model, classifier).eval()
    example = (torch.zeros(2, 3, *_image_size(vlm), device=vlm.device, dtype=vlm.scale.dtype),)
    batch = {"images": {0: torch.export.Dim("batch")}}

    def write(partial: Path) -> None:
        logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every constant that it does not fold
        torch.onnx.export(
            graph, example, partial, dynamo=True, dynamic_shapes=batch, input_names=["images"],
            output_names=["logits"], external_data=False, verbose=False,
        )  # fmt: skip
        onnx_model = onnx.load(partial)
        metadata = {
            "classnames": json.dumps(classifier.classnames),
            "preprocess": str(vlm.preprocess),
            "model": vlm.name,
        }
        onnx.helper.set_model_props(onnx_model, metadata)
        onnx.save(onnx_model, partial)

    return write_whole(path, write)


class _Graph(nn.Module):
    """A classifier with its model as a submodule, so that an exporter finds the weights."""

    def __init__(self, model: nn.Module, classifier: Classifier):
        super().__init__()
        self.visual, self.logit_scale, self.classifier = model.visual, model.logit_scale, classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images)


def _image_size(vlm: VLM) -> tuple[int, int]:
    size = vlm.model.visual.image_size
    return tuple(size) if isinstance(size, tuple | list) else (size, size)
