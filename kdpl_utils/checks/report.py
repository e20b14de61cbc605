"""What was asked and answered in this kernel: for the learner as lines, for an instructor as a file."""

from __future__ import annotations

import json
from pathlib import Path

from ..support.disk import write_whole
from ..support.version import __version__
from .engine import RECORDS, RIGHT
from .prediction import PREDICTIONS


def summary() -> None:
    """Print which exercises run on whose code, and how many predictions were made; where none was, each prediction."""
    for name, record in sorted(RECORDS.items(), key=lambda item: (item[1]["lesson"], item[0])):
        mistake = f" ({record['mistake']})" if record.get("mistake") else ""
        mark = "✓" if record["status"] == RIGHT else "○"
        print(f"{mark} {record['lesson']} {name}: {record['status']}{mistake}, attempts: {record['attempts']}")
    own = sum(record["status"] == RIGHT for record in RECORDS.values())
    made = sum(prediction.said is not None for prediction in PREDICTIONS.values())
    if RECORDS:
        print(f"{own} of {len(RECORDS)} exercises are yours; {made} of {len(PREDICTIONS)} predictions made.")
        return
    for name, prediction in PREDICTIONS.items():
        print(f"{name}: {prediction.outcome()}")
    print(f"No exercise was checked here; {made} of {len(PREDICTIONS)} predictions made.")


def export(path: str | Path, who: str = "") -> Path:
    """Write the same as JSON, for an instructor: exercises with attempts, hints and mistakes, and predictions."""
    predictions = {
        name: {"question": p.question, "said": p.said, "measured": p.measurement, "unit": p.unit}
        for name, p in PREDICTIONS.items()
    }
    report = {"who": who, "kdpl_utils": __version__, "exercises": RECORDS, "predictions": predictions}
    text = json.dumps(report, ensure_ascii=False, indent=2) + "\n"
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
