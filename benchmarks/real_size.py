"""A KDPL step at real size, nothing cached: how much of it is the teacher's bare forward, and how much memory it takes.

    python benchmarks/real_size.py [--device cuda] [--batch 32] [--student RN50 ViT-B-32] [--teacher ViT-L-14]
                                   [--k 100 1000] [--plain] [--compile]

Weights are random, pictures are noise. On a GPU frozen weights are bfloat16 and what is learned float32. ``--plain``
adds the published way: float32, 77 tokens for every name, all prompts of the step built at once. ``--compile`` adds the
teacher's forward through torch.compile; two rounds or more leave the compilation itself out.
"""

from __future__ import annotations

import argparse
import sys

import open_clip
import torch
from measure import count, high_water_mb, machine, seconds, table
from plain import plain_logits
from text import names
from torch.nn import functional as F

from kdpl_utils.distill import select_classes, symmetric_kl
from kdpl_utils.learners import CoOp
from kdpl_utils.loading import load_vlm, shipped_models
from kdpl_utils.vlm import VLM, drop_text_tower, logits, unit


def model(name: str, device: str, precision: str, image_only: bool = False) -> VLM:
    if name in shipped_models():
        vlm = load_vlm(name, device=device, precision=precision)
    else:
        torch.manual_seed(0)
        made, _, preprocess = open_clip.create_model_and_transforms(name, device=device, precision=precision)
        made = made.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        vlm = VLM(made, preprocess, open_clip.get_tokenizer(name), name)
    if image_only:  # once its text features are stored, a teacher needs no text tower
        drop_text_tower(vlm)
    return vlm


def fitting(pixels: torch.Tensor, vlm: VLM) -> torch.Tensor:
    """The same noise in the size and precision of another model."""
    return F.interpolate(pixels.to(vlm.dtype), vlm.model.visual.image_size)


def steps(
    student: str, teacher: str, device: str, batch: int, k: int, dictionary: int, plain: bool, compiled: bool
) -> dict:
    """The ways to make a step, by name; all learn the same context from the same pictures."""
    precision = "bf16" if device == "cuda" else "fp32"
    above, g = model(teacher, device, precision, image_only=True), torch.Generator().manual_seed(1)
    words, side = names(dictionary), above.model.visual.image_size
    side = side if isinstance(side, tuple) else (side, side)
    pixels = torch.randn(batch, 3, *side, generator=g).to(device, above.dtype)
    known = F.normalize(torch.randn(dictionary, above.model.visual.output_dim, generator=g), dim=-1).to(device)
    learner = CoOp(model(student, device, precision))
    optimizer = torch.optim.SGD(learner.parameters(), 2e-3, 0.9)

    def see() -> torch.Tensor:
        with torch.no_grad():
            return unit(above.model.encode_image(pixels))

    def step(size: int) -> None:
        """``size`` names known, or K of them chosen by the teacher where there are more."""
        target = logits(see(), known[:size], 100.0)
        chosen = select_classes(target, k) if size > k else torch.arange(size, device=device)
        z = learner(fitting(pixels, learner.vlm), [words[i] for i in chosen.tolist()])
        optimizer.zero_grad()
        symmetric_kl(target[:, chosen], z).backward()
        optimizer.step()

    ways = {
        "teacher's bare forward": see,
        f"KDPL, {k} names": lambda: step(k),
        f"class-agnostic, {k} of {dictionary}": lambda: step(dictionary),
    }
    if compiled:
        faster = torch.compile(above.model.encode_image)
        ways["teacher's bare forward, compiled"] = torch.no_grad()(lambda: unit(faster(pixels)))
    if plain:
        ways[f"published way, {k} names"] = _published(student, teacher, device, pixels.float(), known[:k], words[:k])
    return ways


def _published(student: str, teacher: str, device: str, pixels: torch.Tensor, known: torch.Tensor, words: list[str]):
    above, learner = model(teacher, device, "fp32"), CoOp(model(student, device, "fp32"))

    def step() -> None:
        target = logits(unit(above.model.encode_image(pixels)), known, 100.0)
        learner.zero_grad()
        symmetric_kl(target, plain_logits(learner, fitting(pixels, learner.vlm), words)).backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", nargs="+", default=["ViT-B-32", "RN50"])
    parser.add_argument("--teacher", default="ViT-L-14")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=count, default=32)
    parser.add_argument("--k", type=count, nargs="+", default=[100])
    parser.add_argument("--dictionary", type=count, default=20000)
    parser.add_argument("--rounds", type=count, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    rows = []
    for student in args.student:
        for k in args.k:
            ways = steps(student, args.teacher, args.device, args.batch, k, args.dictionary, args.plain, args.compile)
            took, _ = seconds(ways, args.device, args.rounds)
            bare = took["teacher's bare forward"]
            rows += [{"student": student, "step": w, "seconds": s, "of the bare": s / bare} for w, s in took.items()]
    peak = torch.cuda.max_memory_allocated() / 2**20 if args.device == "cuda" else high_water_mb()
    print(f"Teacher {args.teacher}, batch {args.batch}, random weights. {machine(args.device)}\n\n{table(rows)}\n")
    print(f"Most memory of the whole process: {peak / 1024:.1f} GiB")


if __name__ == "__main__":
    sys.exit(main())
