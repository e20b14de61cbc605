"""What complete runs amount to: rows of a table, their averages over data sets, and the paper's rows beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from ..evaluate import harmonic_mean
from ..learners import LEARNERS
from ..protocol import paper_tables, summarise
from .training import Evaluation, Training

Method = tuple[str, str, int]  # learner, supervision, shots
Scores = dict[str, float]


def table_rows(pairs: Sequence[tuple[Training, Evaluation]], out: str | Path) -> list[dict[str, str]]:
    """One row for each method, mode and number of shots: mean ± sd over the seeds that are complete, and how many."""
    return _rows(_by_seed(pairs, Path(out)))


def average_rows(tables: Sequence[Sequence[tuple[Training, Evaluation]]], out: str | Path) -> list[dict[str, str]]:
    """The same for several data sets: each seed's scores are averaged over them, H is that of the averages (CoCoOp)."""
    tables_by_method = [_by_seed(pairs, Path(out)) for pairs in tables]
    averaged: dict[Method, dict[int, Scores]] = {}
    for method in tables_by_method[0]:
        if not all(method in one for one in tables_by_method):
            continue
        for seed in tables_by_method[0][method]:
            rows = [one[method][seed] for one in tables_by_method if seed in one[method]]
            if len(rows) < len(tables_by_method):
                continue
            row = {c: mean(r[c] for r in rows) for c in rows[0] if all(c in r for r in rows)}
            if "H" in row:
                row["H"] = harmonic_mean(row["base"], row["novel"])
            averaged.setdefault(method, {})[seed] = row
    return _rows(averaged)


def _by_seed(pairs: Sequence[tuple[Training, Evaluation]], out: Path) -> dict[Method, dict[int, Scores]]:
    """For each method the scores of the seeds for which every evaluation is complete."""
    rows_by_method: dict[Method, dict[int, list[Scores]]] = {}
    wanted = len({(e.kind, e.world) for _, e in pairs})
    for job, evaluation in pairs:
        file = evaluation.file(job, out)
        if not file.is_file():
            continue
        name = "zero-shot" if job.learner == "zero-shot" else LEARNERS[job.learner].__name__
        labels = f" + {job.labelled:.0%} labels" if job.labelled else ""
        method = (name, "" if job.learner == "zero-shot" else job.mode + labels, job.shots)
        trained = job.folder(out) / "training.json"
        seconds = json.loads(trained.read_text(encoding="utf-8"))["seconds"] if trained.is_file() else 0.0
        row = {**json.loads(file.read_text(encoding="utf-8")), "seconds": seconds}
        rows_by_method.setdefault(method, {}).setdefault(job.seed, []).append(row)
    return {
        method: {seed: _joined(rows) for seed, rows in seeds.items() if len(rows) == wanted}
        for method, seeds in rows_by_method.items()
    }


def _joined(rows: Sequence[Scores]) -> Scores:
    """One row of one training's evaluations; of several, a column for each and their average."""
    joined = {column: value for row in rows for column, value in row.items() if column != "seconds"}
    if len(rows) > 1:
        joined["average"] = mean(joined.values())
    return {**joined, "seconds": rows[0]["seconds"]}


def _rows(scores_by_method: dict[Method, dict[int, Scores]]) -> list[dict[str, str]]:
    return [
        {
            "method": name,
            "supervision": mode,
            "shots": str(shots) if mode else "",
            "seeds": str(len(seeds)),
            **summarise(list(seeds.values())),
        }
        for (name, mode, shots), seeds in scores_by_method.items()
        if seeds
    ]


def paper_rows(table: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The published tables of that kind, for real CLIP: (title, rows) each; none of the few-shot kind was found."""
    paper = paper_tables()
    if table == "domain":
        kind = paper["domain_generalization"]
        titles = {f"16-shot ImageNet, {model}": rows for model, rows in kind.items() if model != "columns"}
    elif table == "cross-dataset":
        kind = paper["cross_dataset_RN50_CoOp"]
        titles = {"16-shot ImageNet to ten data sets, RN50, CoOp": {k: v for k, v in kind.items() if k != "note"}}
        titles = {t: {k: v for k, v in rows.items() if k != "columns"} for t, rows in titles.items()}
    elif table == "base-to-novel":
        kind = paper["unseen_class_average"]
        titles = {"novel classes, average of the data sets": {k: v for k, v in kind.items() if k != "columns"}}
    else:
        return []
    return [
        (title, [{"method": m, **{c: f"{v:.2f}" for c, v in zip(kind["columns"], row)}} for m, row in rows.items()])
        for title, rows in titles.items()
    ]
