"""Names of models and weights: what open_clip knows and what ships, checked before anything is downloaded."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from ..support.disk import digest, file_digest
from ..support.shipped import data_file, data_root


def shipped_models() -> tuple[str, ...]:
    """Names of the models whose weights come with the suite."""
    return tuple(sorted(p.stem for p in (data_root() / "emoji" / "models").glob("*.json")))


@functools.cache
def known_models():
    """open_clip, which knows the shipped models from here on; two seconds, so it is imported where first needed."""
    import open_clip

    open_clip.add_model_config(data_root() / "emoji" / "models")
    return open_clip


def weights_identity(name: str, pretrained: str | None) -> str:
    """Identifies the weights of ``load_vlm(name, pretrained)``: a published tag, or the digest of a file."""
    if pretrained is None and name in shipped_models():
        return file_digest(data_file(f"models/{name}.safetensors"))
    if pretrained is None and name.startswith("local-dir:"):
        weights = sorted(path for path in Path(name.removeprefix("local-dir:")).iterdir() if path.is_file())
        return digest([(path.name, file_digest(path)) for path in weights])
    if pretrained and Path(pretrained).is_file():
        return file_digest(pretrained)
    return pretrained or name


def model_pair(model: str | Sequence[str | None]) -> tuple[str, str | None]:
    """``"ViT-B-32-quickgelu/openai"`` as a pair for ``load_vlm``; the part behind the first slash may be a file."""
    if not isinstance(model, str):
        name, pretrained = model
        return name, pretrained
    if model.startswith(("local-dir:", "hf-hub:")):  # they bring their own weights: their slashes separate nothing
        return model, None
    name, _, pretrained = model.partition("/")
    return name, pretrained or None


def has_vision_transformer(name: str) -> bool:
    """Whether a model has open_clip's vision transformer, as far as its configuration says."""
    tower = (known_models().get_model_config(name) or {}).get("vision_cfg", {})
    return not isinstance(tower.get("layers"), list) and not tower.get("timm_model_name")


def is_published(name: str, pretrained: str | None) -> bool:
    """Whether this is a shipped model or a published tag of open_clip's: what a file may name without being trusted."""
    if name in shipped_models():
        return pretrained is None
    return pretrained in known_models().list_pretrained_tags_by_model(name)


def check_model(name: str, pretrained: str | None) -> None:
    """Refuse what open_clip would only warn of, or explain at length, before anything is downloaded.

    Raises:
        ValueError: no such model, weights or file, or QuickGELU in only one of name and weights.
    """
    open_clip = known_models()
    if name.startswith("local-dir:") and not Path(name.removeprefix("local-dir:"), "open_clip_config.json").is_file():
        raise ValueError(f"{name} holds no open_clip_config.json: give the folder of a model.")
    if name in shipped_models() and pretrained is not None and not Path(pretrained).is_file():
        raise ValueError(f"{name} comes with its weights, and {pretrained!r} is not a file: leave it out.")
    if name in shipped_models() or name.startswith(("local-dir:", "hf-hub:")):
        return
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.3)
        raise ValueError(
            f"There is no model {name!r}. Shipped with the suite: {', '.join(shipped_models())}. Nearest names: "
            f"{', '.join(close) or 'none'}. All {len(open_clip.list_models())} names: open_clip.list_models()."
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    twin = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
    needs_twin = pretrained not in tags and pretrained in open_clip.list_pretrained_tags_by_model(twin)
    if pretrained in tags:
        has = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))
        needs_twin = has != bool(open_clip.get_model_config(name).get("quick_gelu"))
    if needs_twin:
        raise ValueError(
            f"The weights {pretrained!r} and the model {name} disagree about QuickGELU, which costs accuracy without "
            f"any other sign: use load_vlm({twin!r}, {pretrained!r})."
        )
    if pretrained not in tags and not Path(pretrained or "").is_file():
        what = "needs weights" if pretrained is None else f"has no weights {pretrained!r}"
        raise ValueError(f"{name} {what}: give one of {', '.join(tags) or 'no published tag'}, or the path of a file.")


def loading_error(name: str, weights: str | None, error: Exception) -> Exception:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(" .:")
    of_device = not isinstance(error, OSError) and any(word in reason for word in ("device", "CUDA", "NVIDIA"))
    if isinstance(error, torch.cuda.OutOfMemoryError) or of_device:
        return ValueError(f"{name} cannot be put on this device ({reason}): give 'cpu', or None for the best there is.")
    if "weights only load failed" in str(error).lower() or "torchscript" in str(error).lower():
        return ValueError(f"{weights} is a pickle or a program that may run code when it is read: it was not loaded.")
    if weights and Path(weights).is_file():
        return ValueError(f"The file {weights} does not hold weights of {name} ({reason}): name its own architecture.")
    source = known_models().get_pretrained_cfg(name, weights) or {}
    where = " or ".join(filter(None, (source.get("url"), source.get("hf_hub") and f"hf-hub:{source['hf_hub']}")))
    return FileNotFoundError(
        f"The weights {weights!r} of {name} are not on this machine and could not be downloaded ({reason}). Fetch "
        f"{where or 'them'} where there is a network, and load them from the file: load_vlm({name!r}, '/path/to/file')."
    )
