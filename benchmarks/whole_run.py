"""How long is a whole published run? CoOp's 50 epochs of 16 shots, as the plain published loop and as here.

    python benchmarks/whole_run.py [--names 100 1000] [--student ViT-B-32] [--teacher ViT-L-14] [--device cuda]

Steps of both ways are measured in this call, and a run is so many of them. The plain loop shows every batch of 32
pictures to the student and, with KDPL, to the teacher, and builds 77 tokens for each of its names. Here all views of
the pictures are encoded once, so that a step is the text tower alone. Class-agnostic learning keeps as many of the
dictionary's names for a batch as there are classes, in both ways; what the published code builds of the rest of the
dictionary is not counted against it. Weights are random, pictures are noise: nothing here depends on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import count, machine, parsed, peak_mb, seconds, table
from plain import plain_text
from text import CHUNK, names, student
from torch import Tensor
from torch.nn import functional as F

from kdpl_utils.distill import select_classes, symmetric_kl
from kdpl_utils.learners import CoOp
from kdpl_utils.vlm import logits

BATCH, SHOTS, EPOCHS = 32, 16, 50  # as published
VIEWS = 8  # of each picture, drawn once; the plain loop draws a new one in every epoch
SEEN = 4  # pictures that an image tower is timed with
MODES = ("labels", "kdpl", "class-agnostic")


def text_step(way: str, mode: str, model: str, device: str, n: int, dictionary: int) -> Callable[[], None]:
    """A step with the pictures already encoded: loss and gradient of the context."""
    learner = CoOp(student(model, device))
    g = torch.Generator().manual_seed(0)
    width = learner.vlm.model.visual.output_dim
    image = F.normalize(torch.randn(BATCH, width, generator=g), dim=-1).to(device)
    words = names(dictionary if mode == "class-agnostic" else n)
    target = 3 * torch.randn(BATCH, len(words), generator=g).to(device)
    labels = torch.randint(n, (BATCH,), generator=g).to(device)

    def loss(text: Tensor, chosen: Tensor) -> Tensor:
        z = logits(image, text, learner.vlm.scale)
        return F.cross_entropy(z, labels) if mode == "labels" else symmetric_kl(target[:, chosen], z)

    def run() -> None:
        learner.zero_grad()
        if mode == "class-agnostic":  # other names in every step, so that no tree of them is there yet
            target.copy_(target.roll(1, dims=1))
            chosen = select_classes(target, n)
        else:
            chosen = torch.arange(n, device=device)
        if way == "here":
            loss(learner.text([words[i] for i in chosen.tolist()]), chosen).backward()
            return
        # 1,000 plain prompts need some 20 GB: their gradient is that of parts of them, which costs it nothing.
        for part in chosen.split(CHUNK):
            text = plain_text(learner, [words[i] for i in part.tolist()])
            (text * image[:1]).sum().backward()

    return run


def image_forward(model: str, device: str) -> Callable[[], Tensor]:
    vlm = student(model, device)
    side = vlm.model.visual.image_size
    side = side if isinstance(side, tuple) else (side, side)
    pixels = torch.randn(SEEN, 3, *side, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def run() -> Tensor:
        return vlm.model.encode_image(pixels)

    return run


def whole(n: int, mode: str, took: dict[str, float]) -> dict[str, object]:
    """Hours of a run of each way, from the seconds of its parts."""
    pictures, steps = SHOTS * n, EPOCHS * (SHOTS * n // BATCH)
    a_picture = took["student sees"] / SEEN + (0 if mode == "labels" else took["teacher sees"] / SEEN)
    plain = steps * (took[f"plain, {n}"] + BATCH * a_picture)
    here = steps * took[f"here, {n}, {mode}"] + VIEWS * pictures * a_picture
    return {
        "classes": n,
        "learned from": mode,
        "steps": steps,
        "plain hours": plain / 3600,
        "here hours": here / 3600,
        "times faster": plain / here,
        "of it encoding": VIEWS * pictures * a_picture / here,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=count, nargs="+", default=[100, 1000])
    parser.add_argument("--student", default="ViT-B-32")
    parser.add_argument("--teacher", default="ViT-L-14")
    parser.add_argument("--dictionary", type=count, default=20000)
    args = parsed(parser, rounds=1)
    towers = {"student sees": args.student, "teacher sees": args.teacher}
    took = {}
    for name, model in towers.items():
        took |= seconds({name: image_forward(model, args.device)}, args.device, args.rounds + 1)[0]
    rows = []
    for n in args.names:
        # The loss and the choice of names are thousandths of the plain step: one measurement serves all three modes.
        ways = {f"plain, {n}": text_step("plain", "kdpl", args.student, args.device, n, args.dictionary)}
        for mode in MODES:
            ways[f"here, {n}, {mode}"] = text_step("here", mode, args.student, args.device, n, args.dictionary)
        took |= seconds(ways, args.device, args.rounds)[0]
        for mode in MODES:
            row = whole(n, mode, took)
            for way in ("plain", "here") if args.memory else ():
                counts = way == "here" or n <= CHUNK  # in parts, the plain way's memory says nothing
                step = (text_step, way, mode, args.student, args.device, n, args.dictionary)
                row[f"{way} MiB"] = round(peak_mb(*step)) if counts else "not measured"
            rows.append(row)
            print(row, flush=True)
    print("\nSeconds measured: " + ", ".join(f"{what} {value:.3g}" for what, value in took.items()))
    title = f"{EPOCHS} epochs of {SHOTS} shots, CoOp on {args.student}, teacher {args.teacher}"
    print(f"\n{title}. {machine(args.device)}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
