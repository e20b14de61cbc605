"""Kill runs at random moments, start them again, and see that each ends with the result of the undisturbed one.

    python benchmarks/kills.py                      fifty kills of five kinds of run: ten minutes on an idle core
    python benchmarks/kills.py --kills 5            one of each kind
    python benchmarks/kills.py --only promptsrc     one kind alone

A kill is SIGKILL, which no process can answer. Each run is a process of its own, forked from this one, which has only
imported what they need; where systems cannot fork, there is nothing to run. The moments are drawn from --seed, evenly
over the time that the undisturbed run took. States are kept more often here than usual (every KEEP_SECONDS), so that
short runs have something to go on from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from measure import count, machine, table
from safetensors.torch import load_file

from kdpl_utils.apps.cli import main as kdpl
from kdpl_utils.experiments.lab import Lab
from kdpl_utils.experiments.plan import plan
from kdpl_utils.support import checkpoint
from kdpl_utils.support.shipped import data_root

WORLD = "emoji/activities"
KEEP_SECONDS = 0.2
MOST_KILLS = 4  # of one run, so that several runs come to their end
LEFT_OVER = ("*.part", "checkpoint.safetensors", "*.checkpoint", "*.holder")  # of what is complete


def learn(learner: str, mode: str, **options) -> Callable[[Path], None]:
    """A training as the experiments do it."""

    def run(out: Path) -> None:
        pairs = plan("base-to-novel", WORLD, [learner], [mode], [1], shots=[1], views=2, **options)
        Lab(out, device="cpu").learner(pairs[-1][0])

    return run


def pretrain(out: Path) -> None:
    """Both phases of the pretraining, with a recipe of seconds."""
    sys.path.insert(0, str(data_root() / "pretraining"))
    import pretrain as script

    name = "emoji-killed"
    recipe = script.RECIPES["emoji-student-rn"]
    small = {"image_steps": 8, "image_batch": 4, "text_steps": 8, "text_batch": 8, "views": 1}
    script.RECIPES[name] = replace(recipe, styles=("noto",), **small)
    script.CONFIGS[name] = script.CONFIGS["emoji-student-rn"]
    script.CHECKPOINT_SECONDS = KEEP_SECONDS
    script.pretrain(name, "cpu", out / "work", out / "weights", log=lambda line: None)


def reproduce(out: Path) -> None:
    """The command itself: CoOp with labels, two seeds, and the zero-shot student."""
    few = ["--learner", "coop", "--mode", "labels", "--seeds", "2", "--shots", "1", "--epochs", "6", "--views", "2"]
    status = kdpl(["reproduce", "--table", "few-shot", "--world", WORLD, *few, "--workers", "1", "--out", str(out)])
    if status:
        raise SystemExit(status)


RUNS: dict[str, Callable[[Path], None]] = {
    "coop": learn("coop", "kdpl", epochs=12, batch_size=8),
    "vpt": learn("vpt", "kdpl", epochs=4, batch_size=8),
    "promptsrc": learn("promptsrc", "labels", epochs=4, batch_size=8),
    "pretraining": pretrain,
    "kdpl reproduce": reproduce,
}


class Counted(NamedTuple):
    runs: int  # that came to their end
    kills: int
    same: bool
    seconds: float  # of the undisturbed run


def start(run: Callable[[Path], None], out: Path) -> int:
    """The number of a process that does this run."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        torch.set_num_threads(1)
        checkpoint.KEEP_SECONDS = KEEP_SECONDS
        with open(out.with_suffix(".log"), "a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        run(out)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)  # nothing of this process's own ending in the copy


def ended(process: int, seconds: float | None, out: Path) -> bool:
    """Whether a process ends by itself in this time; else it is killed."""
    end = time.monotonic() + (seconds if seconds is not None else float("inf"))
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            if status:
                raise RuntimeError(f"A run failed: see {out.with_suffix('.log')}.")
            return True
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


def result(out: Path) -> dict[str, str]:
    """Each file of a complete run with a digest of what it says, seconds aside; and what should not be left."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        place = path.relative_to(out).as_posix()
        if any(path.match(pattern) for pattern in LEFT_OVER):
            found[place] = "left over"
        elif path.suffix == ".safetensors":
            tensors = sorted(load_file(path).items())
            content = repr([(name, t.dtype, tuple(t.shape)) for name, t in tensors]).encode()
            content += b"".join(t.contiguous().numpy().tobytes() for _, t in tensors)
            found[place] = hashlib.sha256(content).hexdigest()
        elif path.suffix == ".json" and path.name != "use.json":  # which holds nothing but a time
            values = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in values.items() if key not in ("seconds", "sha256", "checksum")}
            found[place] = json.dumps(kept, sort_keys=True)
    return found


def kill(name: str, kills: int, rng: random.Random, folder: Path) -> Counted:
    """Runs of one kind until so many were killed, each compared with the undisturbed one."""
    run, calm = RUNS[name], folder / "calm"
    began = time.monotonic()
    ended(start(run, calm), None, calm)
    seconds, expected = time.monotonic() - began, result(calm)
    if not expected:
        raise RuntimeError(f"The undisturbed run of {name} wrote nothing: see {calm.with_suffix('.log')}.")
    done, runs, same = 0, 0, True
    while done < kills:
        out, of_this = folder / f"killed-{runs}", 0
        while done < kills and of_this < MOST_KILLS:
            began = time.monotonic()
            if ended(start(run, out), rng.uniform(0, seconds), out):
                if not of_this:  # a whole run: the machine may have become faster
                    seconds = min(seconds, time.monotonic() - began)
                break
            done, of_this = done + 1, of_this + 1
        else:
            ended(start(run, out), None, out)
        runs, found = runs + 1, result(out)
        for place in sorted(expected.keys() | found.keys()):
            if expected.get(place) != found.get(place):
                same = False
                print(f"{name}, run {runs}: {place} differs: {found.get(place)}", flush=True)
        shutil.rmtree(out)
    return Counted(runs, done, same, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=count, default=50, help="over all kinds")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    rng, rows = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(args.only):
            kills = args.kills // len(args.only) + (i < args.kills % len(args.only))
            (Path(folder) / str(i)).mkdir()
            counted = kill(name, kills, rng, Path(folder) / str(i))
            outcome = "the same" if counted.same else "another"
            rows.append({"run": name, "kills": counted.kills, "runs that ended": counted.runs, "result": outcome,
                         "seconds undisturbed": round(counted.seconds, 1)})  # fmt: skip
            print(f"{name}: {counted.kills} kills, {counted.runs} runs, result {outcome}", flush=True)
    print(f"\nSIGKILL at random moments, seed {args.seed}; {machine('cpu')}\n")
    print(table(rows))
    different = [row["run"] for row in rows if row["result"] != "the same"]
    if different:
        print(f"\nOf {', '.join(different)} not every run ended with the result of the undisturbed one.")
        return 1
    print(f"\n{sum(row['kills'] for row in rows)} kills: every run ended with the result of the undisturbed one.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
