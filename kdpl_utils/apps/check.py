"""Test the real track on this machine: zero-shot CLIP against published numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..clip.models import model_pair
from ..evaluate import accuracy
from ..loading import load_vlm
from ..protocol import paper_tables
from ..vlm import VLM, encode_images, encode_names, logits
from ..worlds.datasets import MIRROR
from ..worlds.load import load_world
from ..worlds.world import Split

MODELS = ("RN50-quickgelu/openai", "ViT-B-32-quickgelu/openai")
WORLDS = ("oxford_pets", "dtd", "imagenet_a")  # small ones; the first two are fetched where there is a network
TOLERANCE = 0.5  # points of top-1


def check(
    models: Sequence[str] = MODELS,
    worlds: Sequence[str] = WORLDS,
    root: str | Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> bool:
    """Compare everything that is there; return whether something was compared and all of it is right.

    Args:
        models: "name/weights": a tag, or the path of a file with OpenAI's weights.
        report: gets a line for each comparison, and for each that could not be made.
    """
    verdicts = []
    found = {}
    for name in worlds:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                world = load_world(name, root)
        except FileNotFoundError as error:
            report(f"{name} was not checked: {error} {MIRROR} has most data sets.")
            continue
        # Other test pictures than the published ones would miss the number by chance.
        others = [str(one.message) for one in caught if "otherwise than published" in str(one.message)]
        if others:
            report(f"{name} was not checked: {others[0]}")
        else:
            found[name] = world
    for model in models:
        try:
            vlm = load_vlm(*model_pair(model))
        except FileNotFoundError as error:
            report(f"{model} was not checked: {error} Then: kdpl check --model {model_pair(model)[0]}//path/to/file.")
            continue
        for name, world in found.items():
            published = paper_tables()["zero_shot"].get(vlm.name, {}).get(name)
            if published is None:
                report(f"{vlm.name} on {name}: no published number is known here.")
                continue
            fits, sentence = compare(vlm, world.classnames, world.test, published)
            report(f"{vlm.name} on {name}: {sentence}")
            verdicts.append(fits)
    report(f"{len(verdicts)} comparisons with published numbers, {verdicts.count(False)} of them wrong.")
    return bool(verdicts) and all(verdicts)


def compare(vlm: VLM, classnames: Sequence[str], pictures: Split, published: float) -> tuple[bool, str]:
    """Return whether the top-1 of these pictures is the published one, and a sentence with it or the likely cause."""
    text = encode_names(vlm, classnames, (paper_tables()["zero_shot"]["template"],))
    z = logits(encode_images(vlm, pictures.images), text, vlm.scale).cpu()
    top1 = 100 * accuracy(z, pictures.labels)
    verdict = "right"
    if abs(top1 - published) > TOLERANCE:
        verdict = f"wrong, and the likely cause is that {_likely_cause(z, pictures.labels, published)}"
    return verdict == "right", f"{top1:.1f} %, published {published:.1f} %: {verdict}."


def _likely_cause(z: Tensor, labels: Tensor, published: float) -> str:
    counts = torch.zeros(z.shape[1], z.shape[1])
    counts.index_put_((labels, z.argmax(1)), torch.tensor(1.0), accumulate=True)
    most, predicted = counts.max(1)  # the name that each class's pictures get most often
    is_moved = (predicted != torch.arange(len(predicted))).float().mean() > 0.5
    if is_moved and 100 * most.sum() / len(z) > 0.8 * published and len(predicted.unique()) > len(predicted) / 2:
        return "the class names are in another order than the labels"
    return "the pictures or the weights are not the published ones"
