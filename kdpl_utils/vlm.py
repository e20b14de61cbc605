"""A frozen CLIP: pictures and names become unit vectors, unit vectors become logits."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from .files import data_file, data_root


@dataclass(frozen=True)
class VLM:
    """A vision-language model in evaluation mode, none of whose tensors wants a gradient.

    Attributes:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``.
        preprocess: PIL picture → (3, H, W), this model's own size, mean and standard deviation.
        tokenizer: list of strings → token ids (N, L).
        name: what ``load_vlm`` was asked for.
    """

    model: nn.Module
    preprocess: Callable
    tokenizer: Callable
    name: str

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), a scalar: what cosines are multiplied with to become logits (100 in OpenAI's CLIP)."""
        return self.model.logit_scale.exp()

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device


def shipped_models() -> tuple[str, ...]:
    """Names of the models whose weights come with the suite."""
    return tuple(sorted(p.stem for p in (data_root() / "emoji" / "models").glob("*.json")))


@functools.cache
def _register_shipped() -> None:
    import open_clip

    for name in shipped_models():
        open_clip.add_model_config(data_file(f"models/{name}.json"))


def load_vlm(name: str = "emoji-student-rn", pretrained: str | None = None, device: str | None = None) -> VLM:
    """A frozen CLIP by its open_clip name.

    Args:
        name: one of ``shipped_models()``, any of ``open_clip.list_models()``, or ``local-dir:/folder``.
        pretrained: a tag of ``open_clip.list_pretrained()`` or a weights file; not needed for shipped models.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None takes the first of these that there is.

    Raises:
        ValueError: no such model or tag, weights of another model, or QuickGELU in only one of name and weights.
        FileNotFoundError: the weights are neither here nor could they be fetched.
    """
    import open_clip  # two seconds: imported where first needed

    _register_shipped()
    shipped = name in shipped_models()
    if not shipped:
        _check_name(name, pretrained)
    weights = str(data_file(f"models/{name}.safetensors")) if shipped and pretrained is None else pretrained
    device = device or default_device()
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=weights, device=device)
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:  # the last: sizes that differ
        raise _loading_error(name, weights, error) from error
    extra = {"bpe_path": str(data_file("bpe.txt.gz"))} if shipped else {}
    tokenizer = open_clip.get_tokenizer(name, **extra)
    model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # convolutions run a third faster
    return VLM(model, preprocess, tokenizer, name)


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
    features = []
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, desc=vlm.name, unit="batch", leave=False, disable=len(starts) < 100):
        batch = [vlm.preprocess(images[i]) for i in range(start, min(start + batch_size, len(images)))]
        with torch.no_grad():
            features.append(F.normalize(vlm.model.encode_image(torch.stack(batch).to(vlm.device)).float(), dim=-1))
    return torch.cat(features)


def encode_names(vlm: VLM, classnames: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)) -> Tensor:
    """(C, D) unit text features, without gradient: the mean over templates of unit features, made unit again."""
    names = check_names(classnames)
    total = sum(_encode_texts(vlm, [template.format(n.replace("_", " ")) for n in names]) for template in templates)
    return F.normalize(total, dim=-1)


@torch.no_grad()
def _encode_texts(vlm: VLM, texts: list[str], chunk: int = 256) -> Tensor:
    check_lengths(vlm, texts)
    tokens = vlm.tokenizer(texts).to(vlm.device)
    causal = has_causal_text(vlm.model)
    ends = end_positions(vlm.model, tokens) if causal else torch.arange(len(texts), device=tokens.device)
    features = None
    for rows in ends.argsort().split(chunk):  # texts of like length together: less padding
        if causal:
            part = encode_prompts(vlm.model, text_tower(vlm.model).token_embedding(tokens[rows]), ends[rows])
        else:
            part = vlm.model.encode_text(tokens[rows])
        features = part.new_empty(len(texts), part.shape[1], dtype=torch.float32) if features is None else features
        features[rows] = F.normalize(part.float(), dim=-1)
    return features


def logits(image_features: Tensor, text_features: Tensor, scale: Tensor | float) -> Tensor:
    """(N, C) = scale · cosine, from unit features (N, D) and (C, D)."""
    return scale * image_features @ text_features.T


# --- the text tower, opened --------------------------------------------------------------------------------------


def has_causal_text(model: nn.Module) -> bool:
    """Whether the text tower is CLIP's kind: each token sees those before it, the feature is read at the end token."""
    tower = text_tower(model)
    appended = getattr(tower, "cls_emb", None) is not None  # CoCa: a learned token after the end
    return getattr(tower, "attn_mask", None) is not None and _pool_type(tower) in ("argmax", "eos") and not appended


def _pool_type(tower: nn.Module) -> str | None:
    return getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)


def end_positions(model: nn.Module, tokens: Tensor) -> Tensor:
    """(N,) where the end token stands in each row of token ids (N, L)."""
    tower = text_tower(model)
    if _pool_type(tower) == "eos":
        eos = getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)
        return (tokens == eos).int().argmax(dim=1)
    return tokens.argmax(dim=1)  # CLIP's end token has the largest id


def text_tower(model: nn.Module) -> nn.Module:
    """The module that holds the text tower: the model itself (``CLIP``) or its ``text`` (``CustomTextCLIP``)."""
    return getattr(model, "text", model)


def encode_prompts(model: nn.Module, prompts: Tensor, eot: Tensor) -> Tensor:
    """(C, D) text features, not normalised, of prompts (C, L, d) given as token embeddings; eot (C,) end positions.

    Cut after the last end token, which changes nothing: with a causal mask no position sees a later one.
    """
    tower = text_tower(model)
    length = int(eot.max()) + 1
    x = prompts[:, :length] + tower.positional_embedding[:length]
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    x = tower.ln_final(x[torch.arange(len(x), device=x.device), eot.to(x.device)])
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        return projection(x)
    return x if projection is None else x @ projection


def token_ids(vlm: VLM, text: str) -> list[int]:
    """The tokens of a text without start and end."""
    return vlm.tokenizer.encode(text)


def check_lengths(vlm: VLM, texts: Sequence[str]) -> None:
    """Refuse texts that the tokenizer would cut off in silence."""
    if not hasattr(vlm.tokenizer, "encode"):  # other tokenizers (Hugging Face's) cut by rules of their own
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
