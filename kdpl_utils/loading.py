"""Weights into memory: ``load_vlm``."""

from __future__ import annotations

from pathlib import Path

import torch

from .clip.models import check_model, known_models, loading_error, shipped_models, weights_identity
from .support.shipped import data_file
from .vlm import VLM


def load_vlm(
    name: str = "emoji-student-rn",
    pretrained: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "fp32",
) -> VLM:
    """A frozen CLIP by its open_clip name.

    Args:
        name: one of ``shipped_models()``, any of ``open_clip.list_models()``, or ``local-dir:/folder``.
        pretrained: a tag of ``open_clip.list_pretrained()`` or a weights file; not needed for shipped models.
        device: ``"cuda"``, ``"mps"`` or ``"cpu"``; None takes the first of these that there is.
        precision: of the frozen weights, ``"fp32"``, ``"bf16"`` or ``"fp16"``; learned parameters stay float32.

    Raises:
        ValueError: no such model or tag, weights of another model, or QuickGELU in only one of name and weights.
        FileNotFoundError: the weights are neither here nor could they be downloaded.
    """
    check_model(name, pretrained)
    if precision not in ("fp32", "bf16", "fp16"):  # open_clip would take fp32
        raise ValueError(f"precision is {precision!r}: choose 'fp32', 'bf16' or 'fp16'.")
    open_clip = known_models()
    is_shipped = name in shipped_models()
    weights = str(data_file(f"models/{name}.safetensors")) if is_shipped and pretrained is None else pretrained
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, weights, device=device or default_device(), precision=precision, require_pretrained=True
        )
    except Exception as error:  # open_clip and its readers raise any kind for a file that holds no weights
        raise loading_error(name, weights, error) from error
    options: dict[str, object] = {"bpe_path": str(data_file("bpe.txt.gz"))} if is_shipped else {}
    text = (open_clip.get_model_config(name) or {}).get("text_cfg", {})
    if ":" in name and text.get("hf_tokenizer_name"):
        options["trust_remote_code"] = False  # a tokenizer from a hub may ask to run code of its own
    tokenizer = open_clip.get_tokenizer(name, **options)
    model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # convolutions run a third faster
    tag = pretrained and Path(pretrained).name
    return VLM(model, preprocess, tokenizer, name, tag, weights_identity(name, pretrained))


def default_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
