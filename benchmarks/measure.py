"""Timing side by side, and peak memory in processes of their own."""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def count(text: str) -> int:
    """How many, on a command line: one at least, since of none a benchmark would say that all went well."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than one")
    return number


def parsed(parser: argparse.ArgumentParser, rounds: int) -> argparse.Namespace:
    """The command line, with the options that all timings have; as many threads as it says."""
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=count, default=1, help="a thread that waits for others counts as busy")
    parser.add_argument("--rounds", type=count, default=rounds)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    return args


def machine(device: str) -> str:
    """The device and versions, one line for a table's caption."""
    import open_clip

    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__} · open_clip {open_clip.__version__}"
    return f"{name} · Python {platform.python_version()} · {versions}"


def seconds(
    ways: Mapping[str, Callable[[], object]], device: str, rounds: int
) -> tuple[dict[str, float], dict[str, object]]:
    """Median seconds of each way and what it returned last; taken in turns, so that other load slows all of them.

    On a CPU it is the time the processor spent, which others' load distorts least; on a GPU the wall clock. With
    several rounds, one more comes before them to warm up.
    """
    clock = time.perf_counter if device == "cuda" else time.process_time
    found, last = {name: [] for name in ways}, {}
    for turn in range(rounds + (rounds > 1)):
        for name, way in ways.items():
            start = clock()
            last[name] = way()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn or rounds == 1:
                found[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in found.items()}, last


def peak_mb(way: Callable, *arguments) -> float:
    """MiB that ``way(*arguments)``'s returned step adds to what was there before, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (way, arguments))


def _peak(way: Callable, arguments: tuple) -> float:
    step = way(*arguments)
    device = next((a for a in arguments if a in ("cpu", "cuda")), "cpu")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = high_water_mb()
    step()
    return high_water_mb() - before


def high_water_mb() -> float:
    """The most memory this process has had, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage counts what the process was before it started this program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, as macOS counts


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance ‖a − b‖ / ‖b‖."""
    return ((a - b).norm() / b.norm()).item()


def table(rows: list[dict[str, object]]) -> str:
    """A Markdown table; numbers in three digits."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([cell(row[h]) for h in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
