"""How much cheaper is the prompt tree? CoOp's text step, forward and backward, against 77 tokens for every prompt.

    python benchmarks/text.py [--names 100 1000] [--model ViT-B-32] [--device cuda] [--rounds 3]

Weights are random: nothing here depends on them. 1,000 names the plain way would need some 20 GB, so it takes them 100
at a time and adds the gradients, which costs it nothing.
"""

from __future__ import annotations

import argparse

import open_clip
import torch
from measure import apart, count, machine, parsed, peak_mb, seconds, table
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch import Tensor

from kdpl_utils.loading import load_vlm, shipped_models
from kdpl_utils.prompts import PromptTexts, random_vectors
from kdpl_utils.towers import text
from kdpl_utils.vlm import VLM

CHUNK = 100


def student(name: str, device: str) -> VLM:
    if name in shipped_models():
        return load_vlm(name, device=device)
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(name, device=device)
    return VLM(model.eval().requires_grad_(False), preprocess, open_clip.get_tokenizer(name), name)


def names(n: int) -> list[str]:
    """ImageNet's, as often as it takes: two of the thousand are double."""
    known = list(dict.fromkeys(IMAGENET_CLASSNAMES))
    return [known[i % len(known)] + (f" {i // len(known)}" if i >= len(known) else "") for i in range(n)]


def step(way: str, model: str, device: str, n: int, autocast: bool = False):
    """A function that makes features (n, D) and the gradient of a fixed weighing of them to the context."""
    vlm = student(model, device)
    texts = PromptTexts(vlm, n_ctx=4)
    ctx = random_vectors(vlm, 4, seed=0).requires_grad_()
    weigh = torch.randn(n, vlm.model.visual.output_dim, generator=torch.Generator().manual_seed(1)).to(device)
    prompts = texts.prompts(names(n))

    def plain(part: list, ctx: Tensor) -> Tensor:
        return text.encode_plainly(vlm.model, part, ctx)

    def run() -> tuple[Tensor, Tensor]:
        ctx.grad, features = None, []
        parts = [range(i, min(i + CHUNK, n)) for i in range(0, n, CHUNK)] if way == "plain" else [range(n)]
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            for part in parts:
                rows = [prompts[i] for i in part]
                made = plain(rows, ctx) if way == "plain" else text.encode_prompts(vlm.model, rows, ctx)
                (made.float() * weigh[part.start : part.stop]).sum().backward()
                features.append(made.detach().float())
        return torch.cat(features), ctx.grad.clone()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=count, nargs="+", default=[100, 1000])
    parser.add_argument("--model", default="ViT-B-32")
    args = parsed(parser, rounds=3)
    rows = []
    for n in args.names:
        ways = {way: step(way, args.model, args.device, n) for way in ("plain", "tree")}
        if args.device == "cuda":
            ways["tree, bf16"] = step("tree", args.model, args.device, n, autocast=True)
        took, made = seconds(ways, args.device, args.rounds)
        reference = made["plain"]
        for way, (features, gradient) in made.items():
            # The plain way takes its prompts in parts: its memory says something only where there is one part.
            counts = args.memory and (way != "plain" or n <= CHUNK)
            memory = peak_mb(step, way, args.model, args.device, n, "bf16" in way) if counts else None
            rows.append(
                {
                    "names": n,
                    "way": way,
                    "seconds": took[way],
                    "times faster": took["plain"] / took[way],
                    "features apart": apart(features, reference[0]),
                    "gradients apart": apart(gradient, reference[1]),
                    "peak MiB": "not measured" if memory is None else round(memory),
                }
            )
    print(f"CoOp's text step, {args.model}, random weights. {machine(args.device)}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
