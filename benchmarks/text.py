"""Compare CoOp's text step, forward and backward, on the fast text path with the published one of 77 tokens a prompt.

    python benchmarks/text.py [--names 100 1000] [--model ViT-B-32] [--device cuda] [--rounds 3]

Weights are random, because speed does not depend on them. The published path takes 100 names at a time and adds the
gradients: 1,000 names at once would need some 20 GB, and the parts cost no more time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import plain
import torch
from measure import class_names, count, distance, machine, model, parse, peak_mib, seconds, table
from torch import Tensor

from kdpl_utils.clip import fast_text
from kdpl_utils.clip.tokens import context_prompts
from kdpl_utils.clip.vectors import random_vectors

PATHS = ("published", "fast")


def make_step(device: str, path: str, name: str, n: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a step that computes features (n, D) and the gradient of a fixed weighted sum of them to the context."""
    vlm = model(name, device)
    ctx = random_vectors(vlm, 4, seed=0).requires_grad_()
    prompts = context_prompts(vlm, tuple(class_names(n)), 4)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(n, vlm.model.visual.output_dim, generator=generator).to(device)

    def published() -> Tensor:
        return plain.backward_in_parts(
            lambda part: plain.encode_prompts(vlm.model, part, ctx), prompts, lambda f, part: (f * weights[part]).sum()
        )

    def fast() -> Tensor:
        features = fast_text.encode_prompts(vlm.model, prompts, ctx)
        (features * weights).sum().backward()
        return features.detach()

    def step() -> tuple[Tensor, Tensor]:
        ctx.grad = None
        features = published() if path == "published" else fast()
        return features, ctx.grad.clone()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=count, nargs="+", default=[100, 1000])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    args = parse(parser, rounds=3)
    rows = []
    for n in args.names:
        steps = {path: make_step(args.device, path, args.model, n) for path in PATHS}
        times, results = seconds(steps, args.device, args.rounds)
        for path, (features, gradient) in results.items():
            row = {
                "names": n,
                "path": path,
                "seconds": times[path],
                "times faster": times["published"] / times[path],
                "distance of features": distance(features, results["published"][0]),
                "distance of gradients": distance(gradient, results["published"][1]),
            }
            if args.memory:  # the memory of the published path is known only where one part holds all prompts
                is_whole = path == "fast" or n <= plain.CHUNK
                row["peak MiB"] = is_whole and round(peak_mib(make_step, args.device, path, args.model, n)) or "–"
            rows.append(row)
    print(f"CoOp's text step, {args.model}, random weights. {machine(args.device)}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
