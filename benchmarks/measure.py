"""Timing side by side, peak memory in processes of their own, and Markdown tables."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import open_clip
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from torch.nn import functional as F

from kdpl_utils.clip.models import model_pair, shipped_models
from kdpl_utils.loading import load_vlm
from kdpl_utils.vlm import VLM


def count(text: str) -> int:
    """Parse a number of things for argparse; 0 rounds or seeds would measure nothing."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than one")
    return number


def parse(parser: argparse.ArgumentParser, rounds: int) -> argparse.Namespace:
    """Parse the command line with the options that all timings share, and set the number of threads."""
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=count, default=1, help="a thread that waits for others counts as busy")
    parser.add_argument("--rounds", type=count, default=rounds)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


def model(name: str, device: str, precision: str = "fp32") -> VLM:
    """Load a shipped model or ``name/weights``; a bare architecture gets random weights, drawn by a fixed seed."""
    name, pretrained = model_pair(name)
    if pretrained or name in shipped_models():
        return load_vlm(name, pretrained, device, precision)
    torch.manual_seed(0)
    clip, _, preprocess = open_clip.create_model_and_transforms(name, device=device, precision=precision)
    clip = clip.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return VLM(clip, preprocess, open_clip.get_tokenizer(name), name, weights="random")


def noise(vlm: VLM, n: int) -> torch.Tensor:
    """(n, 3, H, W) pixels of the model's own size, device and precision."""
    pixels = torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return F.interpolate(pixels, vlm.model.visual.image_size).to(vlm.device, vlm.dtype)


def class_names(n: int) -> list[str]:
    """ImageNet's names without the two doubles, numbered where n asks for more than there are."""
    known = list(dict.fromkeys(IMAGENET_CLASSNAMES))
    return [known[i % len(known)] + (f" {i // len(known)}" if i >= len(known) else "") for i in range(n)]


def machine(device: str) -> str:
    """Describe the device and the versions in one line for a caption."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__} · open_clip {open_clip.__version__}"
    return f"{name} · Python {platform.python_version()} · {versions}"


def seconds(
    ways: Mapping[str, Callable[[], object]], device: str, rounds: int
) -> tuple[dict[str, float], dict[str, object]]:
    """Return the median seconds of each way and its last result.

    The ways take turns, so that other load slows all of them. On a CPU the time is that of the processor, on a GPU that
    of the wall clock. With several rounds, one more comes first to warm up.
    """
    clock = time.perf_counter if device == "cuda" else time.process_time
    times = {name: [] for name in ways}
    last = {}
    for turn in range(rounds + (rounds > 1)):
        for name, way in ways.items():
            start = clock()
            last[name] = way()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn or rounds == 1:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}, last


def peak_mib(make_step: Callable, device: str, *arguments) -> float:
    """Return the MiB that one step of ``make_step(device, *arguments)`` adds, measured in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (make_step, device, arguments))


def _peak_mib(make_step: Callable, device: str, arguments: Sequence) -> float:
    step = make_step(device, *arguments)
    before = most_mib(device)
    step()
    return most_mib(device) - before


def most_mib(device: str) -> float:
    """Return the most memory that this process has used, in MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")  # getrusage would also count the program that started this process
    if not status.exists():  # only Linux has it
        return math.nan
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the relative distance ‖a − b‖ / ‖b‖."""
    return ((a - b).norm() / b.norm()).item()


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Format rows as a Markdown table; floats get three digits."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([cell(row[column]) for column in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
