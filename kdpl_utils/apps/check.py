"""Test the real track on this machine: zero-shot CLIP against published numbers, one KDPL step against a recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

from ..clip.models import model_pair
from ..distill import symmetric_kl
from ..evaluate import accuracy
from ..learners import CoOp
from ..loading import load_vlm
from ..protocol import paper_tables
from ..support.shipped import data_file
from ..train import Recipe, fit
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
    verdicts = [_check_step(report)]
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
    report(f"{len(verdicts) - 1} comparisons with published numbers; {verdicts.count(False)} things are wrong.")
    return len(verdicts) > 1 and all(verdicts)


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


# --- one step of KDPL ------------------------------------------------------------------------------------------------

RECORDED = (1.527313462676487, 6.471237436317975e-05)  # of kdpl_step: real weights may not be at hand


def kdpl_step() -> tuple[float, float]:
    """Return the loss and the length of the update of one KDPL step on a tiny model, the same on every machine."""
    draw = torch.Generator().manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
        quick_gelu=True,
    )
    model = model.double().eval().requires_grad_(False)
    for _, p in sorted(model.named_parameters()):
        p.copy_(0.2 * torch.randn(p.shape, generator=draw, dtype=torch.float64))
    model.logit_scale.fill_(3.0)
    learner = CoOp(VLM(model, None, open_clip.SimpleTokenizer(bpe_path=str(data_file("bpe.txt.gz"))), "tiny"))
    start = learner.prompt.ctx.detach().clone()
    features = nn.functional.normalize(torch.randn((4, 32), generator=draw, dtype=torch.float64), dim=-1)
    target = 3 * torch.randn((4, 4), generator=draw, dtype=torch.float64)

    def loss(trained: nn.Module, batch: Tensor) -> Tensor:
        return symmetric_kl(target[batch], trained(features[batch], ["red panda", "ox", "beagle", "hot dog"]))

    history = fit(learner, loss, 4, Recipe(epochs=1, batch_size=4, lr=2e-3, warmup_epochs=0), progress=False)
    return history.loss[0], (learner.prompt.ctx.detach() - start).norm().item()


def _check_step(report: Callable[[str], None]) -> bool:
    found = kdpl_step()
    fits = all(abs(value - known) <= 1e-4 * abs(known) for value, known in zip(found, RECORDED))
    verdict = "right" if fits else f"wrong: loss and update are {found[0]:.6g} and {found[1]:.6g}, not {RECORDED}"
    report(f"One KDPL step on a tiny model, against a recorded one: {verdict}.")
    return fits
