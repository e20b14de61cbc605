"""What was asked and answered in this kernel: for the learner as lines, for an instructor as a file."""

from __future__ import annotations

from pathlib import Path

from ..support.disk import write_json
from ..support.version import __version__
from .engine import RECORDS, RIGHT
from .prediction import PREDICTIONS


def summary() -> None:
    """Print whose code each exercise runs on and how many predictions were made; without exercises, each of these."""
    for name, record in sorted(RECORDS.items(), key=lambda item: (item[1]["lesson"], item[0])):
        mistake = f" ({record['mistake']})" if record["mistake"] else ""
        mark = "✓" if record["status"] == RIGHT else "○"
        print(f"{mark} {record['lesson']} {name}: {record['status']}{mistake}, attempts: {record['attempts']}")
    own = sum(record["status"] == RIGHT for record in RECORDS.values())
    predictions = f"{sum(p.said is not None for p in PREDICTIONS.values())} of {len(PREDICTIONS)} predictions made."
    if RECORDS:
        print(f"{own} of {len(RECORDS)} exercises are yours; {predictions}")
        return
    for name, prediction in PREDICTIONS.items():
        print(f"{name}: {prediction.outcome()}")
    print(f"No exercise was checked here; {predictions}")


def export(path: str | Path, who: str = "") -> Path:
    """Write the same as JSON, for an instructor: exercises with attempts, hints and mistakes, and predictions."""
    predictions = {
        name: {"question": p.question, "said": p.said, "measured": p.measurement, "unit": p.unit}
        for name, p in PREDICTIONS.items()
    }
    report = {"who": who, "kdpl_utils": __version__, "exercises": RECORDS, "predictions": predictions}
    return write_json(path, report)
