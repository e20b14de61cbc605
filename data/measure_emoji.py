"""Measure the emoji world's models, before any prompt is learned: accuracy, confidence, calibration.

    python data/measure_emoji.py            all models, all groups; writes the tables of data/README.md
    python data/measure_emoji.py --quick    two groups, only printed

Zero-shot with "a photo of a {}.", each picture among the names of its own group, on styles that no model was trained
on.  Intervals are 95 % bootstrap intervals over concepts: views of one drawing are not independent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from kdpl_utils import encode_images, encode_names, entropy, expected_calibration_error, load_vlm, load_world, logits
from kdpl_utils.worlds.emoji import EMOJI_STUDENTS, EMOJI_TEACHERS
from kdpl_utils.worlds.load import world_names

README = Path(__file__).with_name("README.md")
START, END = "<!-- measured: start -->", "<!-- measured: end -->"


def measure(model: str, worlds: list) -> dict:
    """Per picture, over all worlds: hit, confidence, entropy, concept; ECE a world; by kind of style."""
    vlm = load_vlm(model)
    kinds: dict[str, list] = {"adaptation styles": [], "shift styles": []}
    for world in tqdm(worlds, desc=model, leave=False):
        text = encode_names(vlm, world.classnames, world.templates)
        for kind, splits in (("adaptation styles", [world.test]), ("shift styles", list(world.shifts.values()))):
            probs = [logits(encode_images(vlm, s.images), text, vlm.scale).softmax(-1).cpu() for s in splits]
            probs, labels = torch.cat(probs), torch.cat([s.labels for s in splits])
            kinds[kind].append(
                {"hit": (probs.argmax(1) == labels).numpy(), "confidence": probs.amax(1).numpy(), "labels": labels.numpy(),
                 "entropy": entropy(probs).mean().item(), "ece": expected_calibration_error(probs, labels), "classes": len(world.classnames)}
            )  # fmt: skip
    return {"scale": vlm.scale.item(), **kinds}


def interval(rows: list[dict], seed: int = 0, n: int = 1000) -> tuple[float, float]:
    """Bootstrap interval of the mean over groups of top-1, concepts resampled within each group."""
    rng, draws = np.random.default_rng(seed), np.zeros(n)
    for row in rows:
        hits = np.bincount(row["labels"], row["hit"]) / np.bincount(row["labels"])
        draws += hits[rng.integers(len(hits), size=(n, len(hits)))].mean(1) / len(rows)
    return tuple(np.percentile(100 * draws, [2.5, 97.5]))


def tables(results: dict[str, dict], worlds: list) -> str:
    lines = []
    for kind in ("adaptation styles", "shift styles"):
        pictures = sum(len(r["hit"]) for r in next(iter(results.values()))[kind])
        lines += [f"### {kind.capitalize()}: {pictures:,} pictures, mean of {len(worlds)} groups", "",
                  "| model | logit_scale (exp) | top-1 % | 95 % interval | × chance | confidence % | entropy (nats) | ECE % |",
                  "|---|---|---|---|---|---|---|---|"]  # fmt: skip
        for model, result in results.items():
            rows = result[kind]
            top1, low_high = np.mean([r["hit"].mean() for r in rows]), interval(rows)
            chance = np.mean([r["hit"].mean() * r["classes"] for r in rows])
            lines.append(
                f"| {model} | {result['scale']:.1f} | {100 * top1:.1f} | {low_high[0]:.1f} to {low_high[1]:.1f} | {chance:.0f} | "
                f"{100 * np.mean([r['confidence'].mean() for r in rows]):.1f} | {np.mean([r['entropy'] for r in rows]):.2f} | "
                f"{100 * np.mean([r['ece'] for r in rows]):.1f} |"
            )
        lines.append("")
    lines += [
        "### Top-1 % by group, all five styles",
        "",
        f"| group | classes | {' | '.join(results)} |",
        "|---" * (2 + len(results)) + "|",
    ]
    for i, world in enumerate(worlds):
        cells = [
            np.concatenate([r[k][i]["hit"] for k in ("adaptation styles", "shift styles")]).mean()
            for r in results.values()
        ]
        lines.append(
            f"| {world.name.split('/')[1]} | {len(world.classnames)} | {' | '.join(f'{100 * c:.1f}' for c in cells)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=[name for name, _ in (*EMOJI_STUDENTS, *EMOJI_TEACHERS)])
    parser.add_argument("--quick", action="store_true", help="two groups, print only")
    arguments = parser.parse_args()
    names = [n for n in world_names() if n.startswith("emoji/")]
    worlds = [load_world(n) for n in (names[:2] if arguments.quick else names)]
    text = tables({m: measure(m, worlds) for m in arguments.models}, worlds)
    print(text)
    if not arguments.quick:
        before, rest = README.read_text(encoding="utf-8").split(START)
        README.write_text(f"{before}{START}\n{text}{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
