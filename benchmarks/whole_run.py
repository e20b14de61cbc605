"""Estimate the hours of a whole published run, CoOp's 50 epochs of 16 shots: the published loop and this package.

    python benchmarks/whole_run.py [--names 100 1000] [--student ViT-B-32] [--teacher ViT-L-14] [--device cuda]

The script measures one step of each and multiplies. The published loop shows each batch of 32 images to the student
and, with KDPL, to the teacher, and builds 77 tokens for each name. This package encodes all views of the images once,
so that a step is the text tower alone. For class-agnostic learning both keep as many names for a batch as there are
classes; the published code also builds the rest of the dictionary, which is not counted here. Weights are random and
images are noise, because speed does not depend on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import class_names, count, machine, model, noise, parse, seconds, table
from text import make_step
from torch import Tensor
from torch.nn import functional as F

from kdpl_utils.distill import select_classes, symmetric_kl
from kdpl_utils.learners import CoOp

BATCH, SHOTS, EPOCHS = 32, 16, 50  # as published
VIEWS = 8  # of each image, drawn once; the published loop draws a new view in each epoch
TIMED = 4  # images with which an image tower is timed
MODES = ("labels", "kdpl", "class-agnostic")


def fast_step(name: str, device: str, n: int, mode: str, dictionary: int) -> Callable[[], None]:
    """Return a step of this package with encoded images: loss and gradient of the context."""
    learner = CoOp(model(name, device))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(BATCH, learner.vlm.model.visual.output_dim, generator=generator)
    features = F.normalize(features, dim=-1).to(device)
    words = class_names(dictionary if mode == "class-agnostic" else n)
    teacher_logits = 3 * torch.randn(BATCH, len(words), generator=generator).to(device)
    labels = torch.randint(n, (BATCH,), generator=generator).to(device)

    def step() -> None:
        learner.zero_grad()
        if mode == "labels":
            loss = learner.loss(features, words, lambda z: F.cross_entropy(z, labels))
        elif mode == "kdpl":
            loss = learner.loss(features, words, lambda z: symmetric_kl(teacher_logits, z))
        else:
            teacher_logits.copy_(teacher_logits.roll(1, dims=1))  # other names in each step, as in training
            chosen = select_classes(teacher_logits, n)
            names = [words[i] for i in chosen.tolist()]
            loss = learner.loss(features, names, lambda z: symmetric_kl(teacher_logits[:, chosen], z))
        loss.backward()

    return step


def image_forward(name: str, device: str) -> Callable[[], Tensor]:
    vlm = model(name, device)
    pixels = noise(vlm, TIMED)
    return torch.no_grad()(lambda: vlm.model.encode_image(pixels))


def whole_run(n: int, mode: str, times: dict[str, float]) -> dict[str, object]:
    """Compute the hours of a run from the seconds of its parts."""
    steps = EPOCHS * (SHOTS * n // BATCH)
    image = (times["student"] + (0 if mode == "labels" else times["teacher"])) / TIMED
    encoding = VIEWS * SHOTS * n * image
    published = steps * (times[f"published, {n}"] + BATCH * image)
    ours = steps * times[f"{mode}, {n}"] + encoding
    return {
        "classes": n,
        "supervision": mode,
        "steps": steps,
        "published hours": published / 3600,
        "hours here": ours / 3600,
        "times faster": published / ours,
        "share of encoding": encoding / ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=count, nargs="+", default=[100, 1000])
    parser.add_argument("--student", default="ViT-B-32")
    parser.add_argument("--teacher", default="ViT-L-14")
    parser.add_argument("--dictionary", type=count, default=20000)
    args = parse(parser, rounds=1)
    times = {}
    for role, name in (("student", args.student), ("teacher", args.teacher)):
        times |= seconds({role: image_forward(name, args.device)}, args.device, args.rounds + 1)[0]
    rows = []
    for n in args.names:
        # Loss and choice of names cost thousandths of the published text step, so one step serves all three modes.
        steps = {f"published, {n}": make_step(args.device, "published", args.student, n)}
        for mode in MODES:
            steps[f"{mode}, {n}"] = fast_step(args.student, args.device, n, mode, args.dictionary)
        times |= seconds(steps, args.device, args.rounds)[0]
        rows += [whole_run(n, mode, times) for mode in MODES]
    print("Seconds measured: " + ", ".join(f"{part} {value:.3g}" for part, value in times.items()))
    title = f"{EPOCHS} epochs of {SHOTS} shots, CoOp on {args.student}, teacher {args.teacher}"
    print(f"\n{title}. {machine(args.device)}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
