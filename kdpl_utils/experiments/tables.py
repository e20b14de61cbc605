"""What complete runs amount to: rows of a table, their averages over data sets, and the paper's rows beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from ..evaluate import harmonic_mean
from ..learners import LEARNERS
from ..protocol import paper_tables, summarise
from ..support.disk import read_json
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
        scores = read_json(evaluation.file(job, out))
        if scores is None:
            continue
        name = "zero-shot" if job.learner == "zero-shot" else LEARNERS[job.learner].__name__
        labels = f" + {job.labelled:.0%} labels" if job.labelled else ""
        method = (name, "" if job.learner == "zero-shot" else job.mode + labels, job.shots)
        training = read_json(job.folder(out) / "training.json")
        seconds = training["seconds"] if training else 0.0
        rows_by_method.setdefault(method, {}).setdefault(job.seed, []).append({**scores, "seconds": seconds})
    complete: dict[Method, dict[int, Scores]] = {}
    for method, rows_by_seed in rows_by_method.items():
        complete[method] = {seed: _joined(rows) for seed, rows in rows_by_seed.items() if len(rows) == wanted}
    return complete


def _joined(rows: Sequence[Scores]) -> Scores:
    """One row of one training's evaluations; of several, a column for each and their average."""
    joined = {}
    for row in rows:
        joined |= row
    joined.pop("seconds")
    if len(rows) > 1:
        joined["average"] = mean(joined.values())
    return {**joined, "seconds": rows[0]["seconds"]}


def _rows(scores_by_method: dict[Method, dict[int, Scores]]) -> list[dict[str, str]]:
    rows = []
    for (name, mode, shots), by_seed in scores_by_method.items():
        if not by_seed:
            continue
        row = {"method": name, "supervision": mode, "shots": str(shots) if mode else "", "seeds": str(len(by_seed))}
        rows.append(row | summarise(list(by_seed.values())))
    return rows


def paper_rows(table: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The published tables of that kind, for real CLIP: (title, rows) each; none of the few-shot kind was found."""
    paper = paper_tables()
    if table == "domain":
        kind = paper["domain_generalization"]
        tables = {f"16-shot ImageNet, {model}": rows for model, rows in kind.items() if model != "columns"}
    elif table == "cross-dataset":
        kind = paper["cross_dataset_RN50_CoOp"]
        methods = {method: row for method, row in kind.items() if method not in ("columns", "note")}
        tables = {"16-shot ImageNet to ten data sets, RN50, CoOp": methods}
    elif table == "base-to-novel":
        kind = paper["unseen_class_average"]
        methods = {method: row for method, row in kind.items() if method != "columns"}
        tables = {"novel classes, average of the data sets": methods}
    else:
        return []
    titled = []
    for title, methods in tables.items():
        rows = []
        for method, values in methods.items():
            numbers = {column: f"{value:.2f}" for column, value in zip(kind["columns"], values)}
            rows.append({"method": method, **numbers})
        titled.append((title, rows))
    return titled
