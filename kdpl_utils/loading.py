"""Weights into memory: ``load_vlm``, and the sentences that say why a model could not be loaded."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from http.client import HTTPException
from numbers import Integral
from pathlib import Path
from urllib.error import URLError

import torch

from .support.disk import as_path, fingerprint, json_of
from .support.hub import not_waiting_for_the_hub
from .support.shipped import data_file, data_root
from .support.values import shown
from .vlm import VLM

OF_THE_NETWORK = (URLError, HTTPException, ConnectionError, TimeoutError)


def shipped_models() -> tuple[str, ...]:
    """Names of the models whose weights come with the suite."""
    return tuple(sorted(p.stem for p in (data_root() / "emoji" / "models").glob("*.json")))


@functools.cache
def _register_shipped() -> None:
    import open_clip

    open_clip.add_model_config(data_root() / "emoji" / "models")


def load_vlm(
    name: str = "emoji-student-rn",
    pretrained: str | None = None,
    device: str | int | torch.device | None = None,
    precision: str = "fp32",
) -> VLM:
    """A frozen CLIP by its open_clip name.

    Args:
        name: one of ``shipped_models()``, any of ``open_clip.list_models()``, or ``local-dir:/folder``.
        pretrained: a tag of ``open_clip.list_pretrained()`` or a weights file; not needed for shipped models.
        device: ``"cuda"`` (or the number of one), ``"mps"``, ``"cpu"``; None takes the first of these that there is.
        precision: of the frozen weights, ``"fp32"``, or ``"bf16"`` or ``"fp16"`` for a GPU; what is learned, features
            and losses stay float32.

    Raises:
        ValueError: no such model, tag or device, weights of another model, or QuickGELU in only one of name and
            weights.
        FileNotFoundError: the weights are neither here nor could they be fetched.
    """
    import open_clip  # two seconds: imported where first needed

    if precision not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"precision is {precision!r}: choose 'fp32', 'bf16' or 'fp16'.")
    check_model(name, pretrained)
    pretrained, shipped, device = _at_home(pretrained), name in shipped_models(), device_of(device)
    weights = str(data_file(f"models/{name}.safetensors")) if shipped and pretrained is None else pretrained
    is_here = name.startswith("local-dir:") or Path(weights or "").is_file()
    with not_waiting_for_the_hub(unless=is_here):
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=weights, device=device, precision=precision, require_pretrained=True
            )
        except Exception as error:  # of what is no file of weights, readers raise any
            raise _loading_error(name, weights, error) from error
        extra = {"bpe_path": str(data_file("bpe.txt.gz"))} if shipped else {}
        if _has_own_tokenizer(name):
            extra["trust_remote_code"] = False  # its configuration may ask to run code from elsewhere: not unasked
        tokenizer = open_clip.get_tokenizer(name, **extra)
    model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # convolutions run a third faster
    tag = pretrained and Path(pretrained).name
    return VLM(model, preprocess, tokenizer, name, tag, weights_identity(name, pretrained))


def weights_identity(name: str, pretrained: str | None) -> str:
    """Tells the weights that ``load_vlm(name, pretrained)`` has from others, before anything is loaded.

    A published tag stands for itself; a file or a ``local-dir:`` folder for what is in it.
    """
    pretrained = _at_home(pretrained)
    if pretrained is None and name in shipped_models():
        return fingerprint(data_file(f"models/{name}.safetensors"))
    if pretrained is None and name.startswith("local-dir:"):
        return fingerprint(name.removeprefix("local-dir:"))
    if pretrained and Path(pretrained).is_file() and not is_published(name, pretrained):
        return fingerprint(pretrained)
    return pretrained or name


def model_pair(model: str | Sequence[str | None]) -> tuple[str, str | None]:
    """``"ViT-B-32-quickgelu/openai"``, or a pair of name and weights, as a pair for ``load_vlm``.

    The part behind the first slash may be a file, or missing. ``local-dir:/folder`` and ``hf-hub:owner/model`` bring
    their own weights: their slashes separate nothing.
    """
    if isinstance(model, list | tuple) and len(model) == 2 and isinstance(model[0], str):
        return model[0], _at_home(model[1])
    if not isinstance(model, str):
        raise ValueError(f"A model is {shown(model)}: give 'name/weights', or its name and its weights as a pair.")
    if model.startswith(("local-dir:", "hf-hub:")):
        return model, None
    name, _, pretrained = model.partition("/")
    return name, _at_home(pretrained) or None


def _at_home(pretrained: str | Path | None) -> str | None:
    """A tag as it is, the path of a file with its ``~`` as the home folder."""
    return str(as_path(pretrained)) if str(pretrained).startswith("~") else pretrained and str(pretrained)


def check_model(name: str, pretrained: str | Path | None) -> None:
    """What ``load_vlm`` refuses of a name and its weights, before anything is loaded or fetched.

    Raises:
        ValueError: no such model, weights or file, or QuickGELU in only one of name and weights.
    """
    if not isinstance(name, str) or not isinstance(pretrained, str | Path | None):
        raise ValueError(f"The model is {name!r} with {pretrained!r}: give its name and its weights, as two texts.")
    _register_shipped()
    pretrained = _at_home(pretrained)
    if name not in shipped_models():
        _check_name(name, pretrained)
    elif pretrained is not None and not Path(pretrained).is_file():
        raise ValueError(
            f"{name} comes with its weights, and {pretrained!r} is no file: leave {pretrained!r} out, or give the path "
            "of a file with others."
        )


def has_vision_transformer(name: str) -> bool:
    """Whether a model has open_clip's vision transformer, as far as its name says: a folder's own may have it."""
    import open_clip

    _register_shipped()
    tower = (open_clip.get_model_config(name) or {}).get("vision_cfg", {})
    return not isinstance(tower.get("layers"), list) and not tower.get("timm_model_name")


def is_published(name: str, pretrained: str | None) -> bool:
    """Whether this is a shipped model or a published tag of open_clip's: what a file may name without being trusted."""
    if name in shipped_models():
        return pretrained is None
    import open_clip

    return name in open_clip.list_models() and pretrained in open_clip.list_pretrained_tags_by_model(name)


def default_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_of(device: str | int | torch.device | None) -> str:
    """A device as PyTorch calls it, and one that is there; the default for None.

    Raises:
        ValueError: no such device here.
    """
    if device is None:
        return default_device()
    is_number = isinstance(device, Integral) and not isinstance(device, bool)
    wanted = f"cuda:{device}" if is_number else str(device).strip().lower()
    try:
        found = torch.device(wanted)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device is {device!r}: give 'cuda', 'cuda:1', 'mps' or 'cpu', or None for the best there is.")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[found.type]
    if not there:
        raise ValueError(f"device is {device!r}, and PyTorch finds no {found.type} here: give 'cpu', or None.")
    if (found.index or 0) >= there:
        raise ValueError(
            f"device is {device!r}, and the last one here is {found.type}:{there - 1}: give one up to that."
        )
    return wanted


def _has_own_tokenizer(name: str) -> bool:
    """Whether the tokenizer is one of Hugging Face's, which a folder or a hub may bring along."""
    from open_clip import get_model_config
    from open_clip.pretrained import download_pretrained_from_hf

    scheme, colon, place = name.partition(":")
    if not colon:
        return bool(get_model_config(name)["text_cfg"].get("hf_tokenizer_name"))
    in_folder, file = Path(place), "open_clip_config.json"
    path = in_folder / file if scheme == "local-dir" else Path(download_pretrained_from_hf(place, file))  # here by now
    return bool(json_of(path.read_text(encoding="utf-8"))["model_cfg"]["text_cfg"].get("hf_tokenizer_name"))


def _check_name(name: str, pretrained: str | None) -> None:
    """Refuse what open_clip would only warn of, or explain at length, before anything is downloaded."""
    import open_clip

    if name.startswith(("local-dir:", "hf-hub:")):  # they bring their own configuration and weights
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

    if isinstance(error, torch.cuda.OutOfMemoryError):
        return ValueError(f"{name} does not fit into the memory of the GPU: give a smaller one, 'bf16', or the 'cpu'.")
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(" .:")
    if "weights only load failed" in str(error).lower() or "torchscript" in str(error).lower():
        return ValueError(f"{weights} is a pickle or a program that may run code when it is read: it was not loaded.")
    if isinstance(error, RuntimeError) and "Required pretrained weights" in str(error):
        return ValueError(f"{name} has no file of weights beside its configuration: put model.safetensors there.")
    if weights and Path(weights).is_file():
        return ValueError(f"The file {weights} does not hold weights of {name} ({reason}): name its own architecture.")
    if "download" not in str(error).lower() and not isinstance(error, OF_THE_NETWORK):
        return error
    source = open_clip.get_pretrained_cfg(name, weights)
    where = " or ".join(filter(None, (source.get("url"), source.get("hf_hub") and f"hf-hub:{source['hf_hub']}")))
    return FileNotFoundError(
        f"The weights {weights!r} of {name} are not on this machine and could not be downloaded. Fetch "
        f"{where or 'them'} where there is a network, and load them from the file: load_vlm({name!r}, '/path/to/file')."
    )
