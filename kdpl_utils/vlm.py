"""A frozen CLIP: pictures and names become unit vectors, unit vectors become logits."""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .ahead import ahead, openers
from .files import data_file, data_root, fingerprint
from .text import encode_prompts

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
        """What the image tower computes in; features and everything learned are float32 or better."""
        return next(p.dtype for p in self.model.visual.parameters() if p.ndim == 4)  # of its first convolution


def shipped_models() -> tuple[str, ...]:
    """Names of the models whose weights come with the suite."""
    return tuple(sorted(p.stem for p in (data_root() / "emoji" / "models").glob("*.json")))


@functools.cache
def _register_shipped() -> None:
    import open_clip

    for name in shipped_models():
        open_clip.add_model_config(data_file(f"models/{name}.json"))


def load_vlm(
    name: str = "emoji-student-rn",
    pretrained: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
) -> VLM:
    """A frozen CLIP by its open_clip name.

    Args:
        name: one of ``shipped_models()``, any of ``open_clip.list_models()``, or ``local-dir:/folder``.
        pretrained: a tag of ``open_clip.list_pretrained()`` or a weights file; not needed for shipped models.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None takes the first of these that there is.
        precision: of the frozen weights, ``"fp32"``, or ``"bf16"`` or ``"fp16"`` for a GPU; what is learned, features
            and losses stay float32.

    Raises:
        ValueError: no such model or tag, weights of another model, or QuickGELU in only one of name and weights.
        FileNotFoundError: the weights are neither here nor could they be fetched.
    """
    import open_clip  # two seconds: imported where first needed

    if precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"precision is {precision!r}: choose 'fp32', 'bf16' or 'fp16'.")
    _register_shipped()
    shipped = name in shipped_models()
    if not shipped:
        _check_name(name, pretrained)
    weights = str(data_file(f"models/{name}.safetensors")) if shipped and pretrained is None else pretrained
    device = device or default_device()
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=weights, device=device, precision=precision
        )
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:  # the last: sizes that differ
        raise _loading_error(name, weights, error) from error
    extra = {"bpe_path": str(data_file("bpe.txt.gz"))} if shipped else {}
    tokenizer = open_clip.get_tokenizer(name, **extra)
    model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # convolutions run a third faster
    identity = weights_identity(name, pretrained)
    return VLM(model, preprocess, tokenizer, name, pretrained and Path(pretrained).name, identity)


def weights_identity(name: str, pretrained: str | None) -> str:
    """Tells the weights that ``load_vlm(name, pretrained)`` has from others, before anything is loaded.

    A published tag stands for itself; a file or a ``local-dir:`` folder for what is in it.
    """
    if pretrained is None and name in shipped_models():
        return fingerprint(data_file(f"models/{name}.safetensors"))
    if pretrained is None and name.startswith("local-dir:"):
        return fingerprint(name.removeprefix("local-dir:"))
    return fingerprint(pretrained) if pretrained and Path(pretrained).is_file() else pretrained or name


def _digest(model: nn.Module) -> str:
    sums = [(name, tuple(t.shape), t.double().sum().item()) for name, t in model.state_dict().items()]
    return hashlib.sha256(repr(sums).encode()).hexdigest()[:24]


def drop_text_tower(vlm: VLM) -> None:
    """Free the memory of a teacher's text tower, once its text features are kept; its image tower stays as it is."""
    for name in ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection", "text"):
        if hasattr(vlm.model, name):
            setattr(vlm.model, name, None)


def default_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_name(name: str, pretrained: str | None) -> None:
    """Refuse what open_clip would only warn of, or explain at length, before anything is downloaded."""
    import open_clip

    if ":" in name:  # local-dir:, hf-hub: bring their own configuration and weights
        return
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.3)
        raise ValueError(
            f"There is no model {name!r}. Shipped with the suite: {', '.join(shipped_models())}. Nearest names: "
            f"{', '.join(close) or 'none'}. All {len(open_clip.list_models())} names: open_clip.list_models()."
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None or (pretrained not in tags and not Path(pretrained).is_file()):
        twin = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
        if pretrained in open_clip.list_pretrained_tags_by_model(twin):
            raise _quick_gelu_error(name, pretrained, twin)
        what = "needs weights" if pretrained is None else f"has no weights {pretrained!r}"
        raise ValueError(f"{name} {what}: give one of {', '.join(tags) or 'no published tag'}, or the path of a file.")
    if pretrained in tags:
        wants = bool(open_clip.get_model_config(name).get("quick_gelu"))
        has = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))
        if wants != has:
            raise _quick_gelu_error(name, pretrained, name.removesuffix("-quickgelu") if wants else f"{name}-quickgelu")


def _quick_gelu_error(name: str, tag: str, twin: str) -> ValueError:
    return ValueError(
        f"The weights {tag!r} and the model {name} disagree about QuickGELU, which costs accuracy without any "
        f"other sign: use load_vlm({twin!r}, {tag!r})."
    )


def _loading_error(name: str, weights: str | None, error: Exception) -> Exception:
    import open_clip

    if weights and Path(weights).is_file():
        reason = str(error).splitlines()[0]
        return ValueError(f"The file {weights} does not hold weights of {name} ({reason}): name its own architecture.")
    if "download" not in str(error).lower():
        return error
    source = open_clip.get_pretrained_cfg(name, weights)
    hub = source.get("hf_hub")
    where = " or ".join(filter(None, (source.get("url"), hub and f"hf-hub:{hub}")))
    return FileNotFoundError(
        f"The weights {weights!r} of {name} are not on this machine and could not be downloaded. Fetch "
        f"{where or 'them'} where there is a network, and load them from the file: load_vlm({name!r}, '/path/to/file')."
    )


def encode_images(vlm: VLM, images: Sequence, batch_size: int = 64) -> Tensor:
    """(N, D) unit image features of N PIL pictures, through the model's own preprocessing, without gradient."""
    if len(images) == 0:
        raise ValueError("There are no images to encode.")
    pixels, features = Pixels(vlm, images), []
    starts = range(0, len(images), batch_size)
    batches = ahead(lambda start: pixels[start : start + batch_size], starts)
    for batch in tqdm(batches, desc=vlm.name, unit="batch", total=len(starts), leave=False, disable=len(starts) < 100):
        with torch.no_grad():
            features.append(unit(vlm.model.encode_image(batch)))
    return torch.cat(features)


def _on_device(vlm: VLM, pixels: list[Tensor]) -> Tensor:
    return torch.stack(pixels).to(vlm.device, vlm.dtype, non_blocking=True)


class Pixels:
    """Pictures as batches of tensors: ``pixels[indices]`` is (B, 3, H, W) on the model's device.

    Args:
        keep: remember what was preprocessed, in main memory: for pictures looked at again and again, such as shots.
    """

    def __init__(self, vlm: VLM, images: Sequence, keep: bool = False):
        self.vlm, self.images, self.kept = vlm, images, {} if keep else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Tensor | slice | Sequence[int]) -> Tensor:
        rows = range(len(self))[indices] if isinstance(indices, slice) else torch.as_tensor(indices).tolist()
        if self.kept is not None and all(i in self.kept for i in rows):
            return _on_device(self.vlm, [self.kept[i] for i in rows])
        return _on_device(self.vlm, list(openers().map(self._one, rows)))

    def _one(self, i: int) -> Tensor:
        if self.kept is None:
            return self.vlm.preprocess(self.images[i])
        if i not in self.kept:
            self.kept[i] = self.vlm.preprocess(self.images[i])
        return self.kept[i]


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1, in float32 or better: half precision would round the cosines."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def encode_names(vlm: VLM, classnames: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)) -> Tensor:
    """(C, D) unit text features, without gradient: the mean over templates of unit features, made unit again."""
    names = check_names(classnames)
    return unit(sum(unit(encode_texts(vlm, [t.format(n.replace("_", " ")) for n in names])) for t in templates))


@torch.no_grad()
def encode_texts(vlm: VLM, texts: Sequence[str]) -> Tensor:
    """(N, D) text features as the model gives them, not of unit length, in float32 or better, without gradient."""
    check_lengths(vlm, texts)
    if has_clip_tokens(vlm):
        features = encode_prompts(vlm.model, [as_prompt(vlm, token_ids(vlm, text)) for text in texts])
    else:
        chunks = [list(texts[i : i + 256]) for i in range(0, len(texts), 256)]
        features = torch.cat([vlm.model.encode_text(vlm.tokenizer(chunk).to(vlm.device)) for chunk in chunks])
    return features.to(torch.promote_types(features.dtype, torch.float32))


def logits(image_features: Tensor, text_features: Tensor, scale: Tensor | float) -> Tensor:
    """(N, C) = scale · cosine, from unit features (N, D) and (C, D)."""
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
                f"{text!r} has {len(token_ids(vlm, text))} tokens, and {vlm.name} reads at most "
                f"{vlm.tokenizer.context_length - 2}: shorten the class name."
            )


def check_names(classnames: Sequence[str]) -> list[str]:
    """The class names as a list; refused when empty, double, or not strings."""
    if isinstance(classnames, str):
        raise ValueError(f"classnames is one string, {classnames!r}: give a list of names.")
    names = list(classnames)
    if not names:
        raise ValueError("The list of class names is empty: give at least one name.")
    if bad := [n for n in names if not isinstance(n, str) or not n.strip()]:
        raise ValueError(f"{bad[0]!r} is not a class name: every name must be a non-empty string.")
    if len(set(names)) < len(names):
        double = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"The class name {double!r} occurs twice: no classifier can tell the two apart; rename one.")
    return names
