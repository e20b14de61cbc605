"""Time a KDPL step at real size with nothing cached, beside the teacher's bare forward; then a whole short run.

    python benchmarks/real_size.py [--device cuda] [--student RN50 ViT-B-32] [--teacher ViT-L-14] [--batch 32] [--k 100]

A model gets random weights unless its name has some, as ViT-B-32-quickgelu/openai. In steps, images are noise; on a GPU
frozen weights are bfloat16, and parameters and losses float32. The short run is CoOp with KDPL on the drawings of
--world, in fp32 and in bf16: images are encoded once, then CoOp trains on the features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from measure import class_names, count, distance, machine, model, most_mib, noise, parse, seconds, table
from torch import Tensor
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.distill import select_classes, symmetric_kl
from kdpl_utils.vlm import logits, unit


def make_steps(student: str, teacher: str, device: str, batch: int, k: int, dictionary: int) -> dict[str, Callable]:
    """Return the steps by name; the teacher and both steps see the same images."""
    precision = "bf16" if device == "cuda" else "fp32"
    above = model(teacher, device, precision)
    pixels = noise(above, batch)
    words = class_names(dictionary)
    generator = torch.Generator().manual_seed(1)
    text = F.normalize(torch.randn(dictionary, above.model.visual.output_dim, generator=generator), dim=-1).to(device)
    learner = kd.CoOp(model(student, device, precision))
    images = F.interpolate(pixels.to(learner.vlm.dtype), learner.vlm.model.visual.image_size)
    optimizer = torch.optim.SGD(learner.parameters(), 2e-3, 0.9)

    @torch.no_grad()
    def forward() -> Tensor:
        return unit(above.model.encode_image(pixels))

    def step(n: int) -> None:
        """Learn among n names, or among the k that the teacher chooses of more."""
        target = logits(forward(), text[:n], 100.0)
        chosen = select_classes(target, k) if n > k else torch.arange(n, device=device)
        names = [words[i] for i in chosen.tolist()]
        loss = learner.loss(images, names, lambda z: symmetric_kl(target[:, chosen], z))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {
        "teacher's bare forward": forward,
        f"KDPL, {k} names": lambda: step(k),
        f"class-agnostic, {k} of {dictionary} names": lambda: step(dictionary),
    }


def short_run(
    student: str, teacher: str, device: str, precision: str, world: kd.World, shots: int, epochs: int
) -> tuple[dict[str, object], Tensor]:
    """Run CoOp with KDPL on base classes; return the row and the learned context."""
    small, large = model(student, device, precision), model(teacher, device, precision)
    base = world.train.of_classes(world.base)
    train = base.subset(kd.few_shot(base.labels, shots, seed=0))
    names = [world.classnames[c] for c in world.base]
    start = time.perf_counter()
    features = kd.encode_images(small, train.images, progress=False)
    text = kd.encode_names(large, names, world.templates)
    target = logits(kd.encode_images(large, train.images, progress=False), text, small.scale)
    encoding = time.perf_counter() - start
    prompt = kd.PromptLearner(small)
    loss = kd.from_teacher(features, target, names)
    history = kd.fit(prompt, loss, len(train), kd.Recipe(epochs=epochs), progress=False)
    row = {
        "student": student,
        "precision": precision,
        "steps": len(history.loss),
        "seconds of encoding": encoding,
        "seconds of training": history.seconds,
        "first loss": history.loss[0],
        "last loss": history.loss[-1],
    }
    return row, prompt.ctx.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", nargs="+", default=["ViT-B-32", "RN50"])
    parser.add_argument("--teacher", default="ViT-L-14")
    parser.add_argument("--batch", type=count, default=32)
    parser.add_argument("--k", type=count, default=100)
    parser.add_argument("--dictionary", type=count, default=20000)
    parser.add_argument("--world", default="emoji/activities")
    parser.add_argument("--shots", type=count, default=16)
    parser.add_argument("--epochs", type=count, default=50)
    args = parse(parser, rounds=1)
    rows = []
    for student in args.student:
        steps = make_steps(student, args.teacher, args.device, args.batch, args.k, args.dictionary)
        times = seconds(steps, args.device, args.rounds)[0]
        bare = times["teacher's bare forward"]
        rows += [{"student": student, "step": s, "seconds": t, "of the forward": t / bare} for s, t in times.items()]
    print(f"A step, teacher {args.teacher}, batch {args.batch}. {machine(args.device)}\n\n{table(rows)}\n")
    world = kd.load_world(args.world)
    rows = []
    for student in args.student:
        contexts = {}
        for precision in ("fp32", "bf16"):
            settings = (args.device, precision, world, args.shots, args.epochs)
            row, contexts[precision] = short_run(student, args.teacher, *settings)
            rows.append({**row, "distance of contexts": distance(contexts[precision], contexts["fp32"])})
    print(f"A run of {args.epochs} epochs, teacher {args.teacher}, {args.world}.\n\n{table(rows)}\n")
    print(f"Most memory of the whole process: {most_mib(args.device) / 1024:.1f} GiB")


if __name__ == "__main__":
    main()
