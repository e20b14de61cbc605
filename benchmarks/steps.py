"""A training step of each learner against the plain published way, and the class-agnostic step's memory.

    python benchmarks/steps.py [--student ViT-B-32] [--names 100] [--device cuda] [--rounds 3] [--dictionary 20000]

Batches are the published ones (CoOp 32, CoCoOp 1, the others 4). Weights are random. The last rows learn from a
dictionary, where the K names are chosen before any prompt is built.
"""

from __future__ import annotations

import argparse

import torch
from measure import apart, count, machine, parsed, peak_mb, seconds, table
from plain import plain_logits
from text import names, student
from torch.nn import functional as F

from kdpl_utils.distill import select_classes, symmetric_kl
from kdpl_utils.learners import VPT, CoCoOp, CoOp, MaPLe, PromptSRC

LEARNERS = {"CoOp": CoOp, "CoCoOp": CoCoOp, "VPT": VPT, "MaPLe": MaPLe, "PromptSRC": PromptSRC}


def step(way: str, method: str, model: str, device: str, n: int):
    """A supervised step; returns logits and all gradients in one vector. PromptSRC's own terms are left out of both."""
    vlm = student(model, device)
    learner, classes = LEARNERS[method](vlm), names(n)
    batch = learner.recipe.batch_size
    g = torch.Generator().manual_seed(0)
    side = vlm.model.visual.image_size
    pixels = torch.randn(batch, 3, *(side if isinstance(side, tuple) else (side, side)), generator=g).to(device)
    labels = torch.randint(n, (batch,), generator=g).to(device)

    def run():
        learner.zero_grad()
        z = plain_logits(learner, pixels, classes) if way == "plain" else learner(pixels, classes)
        F.cross_entropy(z, labels).backward()
        return z.detach(), torch.cat([p.grad.flatten() for p in learner.parameters()])

    return run


def agnostic(model: str, device: str, size: int, k: int):
    """CoOp's step with K of ``size`` names, teacher logits given; ``size`` = K is plain KDPL with all names."""
    vlm, g = student(model, device), torch.Generator().manual_seed(0)
    learner = CoOp(vlm)
    features = F.normalize(torch.randn(32, vlm.model.visual.output_dim, generator=g), dim=-1).to(device)
    teacher = torch.randn(32, size, generator=g).to(device)
    dictionary = names(size)

    def run():
        learner.zero_grad()
        chosen = select_classes(teacher, k) if k < size else torch.arange(size, device=device)
        z = learner(features, [dictionary[i] for i in chosen.tolist()])
        symmetric_kl(teacher[:, chosen], z).backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="ViT-B-32")
    parser.add_argument("--names", type=count, default=100)
    parser.add_argument("--dictionary", type=count, default=20000)
    parser.add_argument("--k", type=count, default=1000)
    args = parsed(parser, rounds=2)
    rows = []
    for method in LEARNERS:
        ways = {way: step(way, method, args.student, args.device, args.names) for way in ("plain", "here")}
        took, made = seconds(ways, args.device, args.rounds)
        (plain_z, plain_g), (z, g) = made["plain"], made["here"]
        row = {
            "learner": method,
            "plain s": took["plain"],
            "here s": took["here"],
            "times faster": took["plain"] / took["here"],
            "logits apart": apart(z, plain_z),
            "gradients apart": apart(g, plain_g),
        }
        for way in ways if args.memory else ():
            row[f"{way} MiB"] = round(peak_mb(step, way, method, args.student, args.device, args.names))
        rows.append(row)
    print(f"A step with {args.names} names, {args.student}, random weights. {machine(args.device)}\n\n{table(rows)}\n")
    if not args.memory:
        return
    both = {
        f"KDPL, {args.k:,} classes": peak_mb(agnostic, args.student, args.device, args.k, args.k),
        f"class-agnostic, {args.k:,} of {args.dictionary:,} names": peak_mb(
            agnostic, args.student, args.device, args.dictionary, args.k
        ),
    }
    print(table([{"step of CoOp": name, "peak MiB": round(mb)} for name, mb in both.items()]))


if __name__ == "__main__":
    main()
