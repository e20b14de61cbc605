"""Learned prompts as files: kilobytes of safetensors, classifiers for use elsewhere, and published checkpoints."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import types
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .files import write_whole
from .learners import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptSRC
from .learners.base import predict, prompted_features
from .text import text_tower
from .train import Recipe
from .vlm import VLM, check_names, logits, unit


def save_learner(learner: Learner, path: str | Path, recipe: Recipe | None = None) -> Path:
    """Write what was learned, and all that makes the learner again, as safetensors; whole or not at all.

    The header names the method, its settings, the model and weights it belongs to, their sizes, the recipe and the
    version of this library. There is no pickle in it.
    """
    header = {
        "learner": type(learner).__name__,
        "settings": json.dumps(learner.settings),
        "recipe": json.dumps(asdict(recipe or learner.recipe)),
    }
    return _write(learner.state_dict(), {**header, **_model_header(learner.vlm)}, path)


def load_learner(path: str | Path, vlm: VLM, **extra) -> Learner:
    """The learner of a file, on the model it was learned with.

    Args:
        extra: what no file can hold: ``teacher=`` for a PromptKD.

    Raises:
        ValueError: not such a file, or learned with another model.
    """
    header, tensors = _read(path, "learner")
    _check_model(header, vlm, path)
    kinds = {kind.__name__: kind for kind in _subclasses(Learner)}
    if header["learner"] not in kinds:
        raise ValueError(f"{path} holds a {header['learner']}, which is not known here: import the file defining it.")
    learner = kinds[header["learner"]](vlm, **json.loads(header["settings"]), **extra)
    learner.load_state_dict(tensors)
    return learner


def saved_recipe(path: str | Path) -> Recipe:
    """The recipe a learner was trained with."""
    values = json.loads(_read(path, "learner")[0]["recipe"])
    return Recipe(**{**values, "average": values["average"] and tuple(values["average"])})


# --- a classifier for use elsewhere ----------------------------------------------------------------------------------


class Classifier(nn.Module):
    """A frozen image tower and a matrix of text features: all that classifying needs once the prompts are learned.

    Attributes:
        text: (C, D) unit text features, one row a class.
        classnames: C names.
        tokens: learned tokens of the image tower's first layers, (n, d) each; none for CoOp.
    """

    def __init__(self, vlm: VLM, text: Tensor, classnames: Sequence[str], tokens: Sequence[Tensor] = ()):
        super().__init__()
        self.vlm, self.classnames = vlm, check_names(classnames)
        self.register_buffer("text", text.detach().clone())
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


@torch.no_grad()
def classifier_of(learner: Learner, classnames: Sequence[str]) -> Classifier:
    """What was learned, for one list of names."""
    if type(learner).image is not Learner.image or type(learner).classifier is not Learner.classifier:
        raise ValueError(
            f"The classes of a {type(learner).__name__} are no fixed text features beside the model's own image "
            "features: keep the learner itself (save_learner) and use its predict."
        )
    return Classifier(learner.vlm, learner.text(classnames), classnames, learner.tokens())


def export_classifier(learner: Learner, classnames: Sequence[str], path: str | Path) -> Path:
    """Write ``text`` (C, D), the names and any image tokens as safetensors, for zero-shot classification anywhere.

    Elsewhere: logits = exp(logit_scale) · unit image features · textᵀ.
    """
    made = classifier_of(learner, classnames)
    header = {"classnames": json.dumps(made.classnames), "logit_scale_exp": repr(learner.vlm.scale.item())}
    return _write(made.state_dict(), {"classifier": "1", **header, **_model_header(learner.vlm)}, path)


def model_of(path: str | Path) -> tuple[str, str | None]:
    """(name, pretrained) of the model that a learner's or classifier's file belongs to, for ``load_vlm``."""
    header, _ = _read(path, "model")
    return header["model"], header["pretrained"] or None


def load_classifier(path: str | Path, vlm: VLM) -> Classifier:
    """The classifier of a file, on the model it was made with."""
    header, tensors = _read(path, "classifier")
    _check_model(header, vlm, path)
    tokens = [tensors[f"tokens.{i}"] for i in range(len(tensors) - 1)]
    return Classifier(vlm, tensors["text"], json.loads(header["classnames"]), tokens).to(vlm.device)


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
        made = onnx.load(partial)
        told = {"classnames": json.dumps(classifier.classnames), "preprocess": str(vlm.preprocess), "model": vlm.name}
        onnx.helper.set_model_props(made, told)
        onnx.save(made, partial)

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


# --- files and headers -----------------------------------------------------------------------------------------------


def _model_header(vlm: VLM) -> dict[str, str]:
    from . import __version__

    return {"model": vlm.name, "pretrained": vlm.pretrained or "", **_sizes(vlm), "kdpl_utils": __version__}


def _sizes(vlm: VLM) -> dict[str, str]:
    text_width = text_tower(vlm.model).token_embedding.weight.shape[1]
    return {"text width": str(text_width), "embedding": str(vlm.model.visual.output_dim)}


def _check_model(header: Mapping[str, str], vlm: VLM, path: str | Path) -> None:
    there, here = (header["model"], header["pretrained"]), (vlm.name, vlm.pretrained or "")
    if there != here or any(header[key] != size for key, size in _sizes(vlm).items()):
        name = " ".join(filter(None, there))
        raise ValueError(
            f"{path} was learned with {name} and this model is {' '.join(filter(None, here))}: prompts belong to the "
            f"model they were learned with; load {name} with load_vlm."
        )


def _write(tensors: Mapping[str, Tensor], header: dict[str, str], path: str | Path) -> Path:
    ready = {key: t.detach().cpu().contiguous() for key, t in tensors.items()}
    return write_whole(path, lambda partial: save_file(ready, partial, header))


def _read(path: str | Path, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            header, tensors = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file; for a published checkpoint use import_checkpoint."
        ) from error
    if kind not in header:
        raise ValueError(f"{path} holds no {kind} written by this library: choose another file.")
    return header, tensors


def _subclasses(kind: type) -> set[type]:
    return {kind}.union(*(_subclasses(sub) for sub in kind.__subclasses__()))


# --- published checkpoints -------------------------------------------------------------------------------------------


def import_checkpoint(
    path: str | Path, vlm: VLM, ctx_init: str = "a photo of a", classnames: Sequence[str] | None = None
) -> Learner:
    """A learner from a ``model.pth.tar-N`` of the published CoOp, CoCoOp, VPT, MaPLe or PromptSRC code.

    The method is told from the names of the tensors. Only tensors are read: whatever else the pickle holds (an
    optimizer, a schedule) is skipped, and no code in it can run.

    Args:
        vlm: the model it was learned with; what the file holds of CLIP is compared with it.
        ctx_init: the words it started from; MaPLe keeps those behind its vectors.
        classnames: for a CoOp with a context for each class, their names in order.

    Raises:
        ValueError: not such a checkpoint, or learned with another model.
    """
    state = _tensors_of(path)
    _check_backbone(state, vlm, path)
    found = {re.sub(r"^prompt_learner\.", "", key): t for key, t in state.items()}
    found = {key: t for key, t in found.items() if key not in ("token_prefix", "token_suffix")}  # frozen words
    visual = _layers(found, "image_encoder.VPT", "image_encoder.transformer.resblocks.{}.VPT_shallow")
    if "proj.weight" in found:
        return _maple(found, vlm, ctx_init, path)
    if "ctx" in found and visual:
        deep = _layers(found, "ctx", "text_encoder.transformer.resblocks.{}.VPT_shallow")
        learner = _make(
            PromptSRC, path, vlm, n_ctx=len(found["ctx"]), depth=len(visual), depth_text=len(deep), ctx_init=ctx_init
        )
        return _fill(learner, {"ctx": deep[0], **_listed("deep", deep[1:]), **_listed("visual", visual)}, path)
    if visual:
        learner = _make(VPT, path, vlm, n_ctx=len(visual[0]), depth=len(visual))
        return _fill(learner, _listed("visual", visual), path)
    if "meta_net.linear1.weight" in found:
        learner = _make(CoCoOp, path, vlm, ctx_init=ctx_init)
        return _fill(learner, {k: t for k, t in found.items() if k == "ctx" or k.startswith("meta_net.")}, path)
    if "ctx" in found:
        if found["ctx"].ndim == 3 and (classnames is None or len(classnames) != len(found["ctx"])):
            raise ValueError(f"{path} has a context for each of {len(found['ctx'])} classes: give their classnames.")
        own = classnames if found["ctx"].ndim == 3 else None
        learner = _make(CoOp, path, vlm, n_ctx=found["ctx"].shape[-2], classnames=own)
        return _fill(learner, {"prompt.ctx": found["ctx"]}, path)
    raise ValueError(f"{path} holds no prompts of CoOp, CoCoOp, VPT, MaPLe or PromptSRC.")


def _maple(found: Mapping[str, Tensor], vlm: VLM, ctx_init: str, path: str | Path) -> Learner:
    layers = sum(1 for key in found if key.startswith("compound_prompts_text."))
    learner = _make(MaPLe, path, vlm, n_ctx=len(found["ctx"]), depth=layers + 1, ctx_init=ctx_init)
    tensors = {key: found[key] for key in ("ctx", "proj.weight", "proj.bias")}
    for i in range(layers):
        tensors[f"deep.{i}"] = found[f"compound_prompts_text.{i}"]
        for part in ("weight", "bias"):
            tensors[f"deep_proj.{i}.{part}"] = found[f"compound_prompt_projections.{i}.{part}"]
    return _fill(learner, tensors, path)


def _make(kind: type[Learner], path: str | Path, vlm: VLM, **settings) -> Learner:
    try:
        return kind(vlm, **settings)
    except ValueError as error:
        raise ValueError(f"{path} is a {kind.__name__} that does not fit {vlm.name}: {error}") from error


def _layers(found: Mapping[str, Tensor], first: str, deeper: str) -> list[Tensor]:
    """The first layer's vectors, then those of layers 1, 2, … as far as there are any."""
    layers = [found[first]] if first in found else []
    while deeper.format(len(layers)) in found and layers:
        layers.append(found[deeper.format(len(layers))])
    return layers


def _listed(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{i}": t for i, t in enumerate(tensors)}


def _fill(learner: Learner, tensors: Mapping[str, Tensor], path: str | Path) -> Learner:
    wanted = {key: tuple(t.shape) for key, t in learner.state_dict().items()}
    given = {key: tuple(t.shape) for key, t in tensors.items()}
    if wrong := sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key)):
        raise ValueError(
            f"{path} is a {type(learner).__name__} of another model than {learner.vlm.name}: {wrong[0]} is "
            f"{given.get(wrong[0])} there and {wanted.get(wrong[0])} here."
        )
    learner.load_state_dict({key: t.to(learner.state_dict()[key]) for key, t in tensors.items()})
    return learner


def _check_backbone(state: Mapping[str, Tensor], vlm: VLM, path: str | Path) -> None:
    """MaPLe, VPT and PromptSRC checkpoints carry the whole CLIP: let it be this one, up to half precision."""
    text = text_tower(vlm.model)
    pairs = {
        "image_encoder.class_embedding": getattr(vlm.model.visual, "class_embedding", None),
        "image_encoder.positional_embedding": getattr(vlm.model.visual, "positional_embedding", None),
        "text_encoder.positional_embedding": text.positional_embedding,
    }
    for key, here in pairs.items():
        if key in state:
            there = state[key].double()
            near = here is not None and there.shape == here.shape
            if not near or (there - here.detach().cpu().double()).norm() > 0.02 * there.norm():
                raise ValueError(
                    f"{path} was learned with another CLIP than {vlm.name} {vlm.pretrained or ''}".rstrip()
                    + f" ({key} differs): load the model it was learned with."
                )


def _tensors_of(path: str | Path) -> dict[str, Tensor]:
    """The ``state_dict`` of a checkpoint, tensors in float32."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_TENSORS_ONLY)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a PyTorch checkpoint, or is cut short: fetch it again.") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    tensors = {k: t for k, t in (state or {}).items() if isinstance(k, str) and isinstance(t, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no state_dict of tensors.")
    return {k.removeprefix("module."): t.float() if t.is_floating_point() else t for k, t in tensors.items()}


class _Inert:
    """Stands for every object that is not a tensor: takes anything, does nothing."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


class _TensorsOnly(pickle.Unpickler):
    """Rebuilds tensors and plain containers; whatever else a pickle names is never looked up, let alone run."""

    ALLOWED = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        ("torch", "Size"): torch.Size,
    }

    def find_class(self, module: str, name: str):
        return self.ALLOWED.get((module, name), _Inert)


_TENSORS_ONLY = types.SimpleNamespace(
    __name__="tensors only",
    Unpickler=_TensorsOnly,
    load=lambda file, **options: _TensorsOnly(file, **options).load(),
)
