"""What complete runs amount to: rows of a table, their averages over data sets, and the paper's rows beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from ..evaluate import harmonic_mean
from ..learners import LEARNERS
from ..protocol import paper_tables, summarise
from ..support.disk import as_path, read_json
from .terms import is_transductive, labels_used, validation_used
from .training import Evaluation, Training

Scores = dict[str, float]
Run = tuple[Scores, str, Scores]  # scores of an evaluation, the folder of its training, what that cost


class Method(NamedTuple):
    """What tells a row from others: what was compared, in its first columns, and on what terms, in its last."""

    method: str
    supervision: str
    shots: str
    protocol: str
    labels: str
    validation: str


def table_rows(pairs: Sequence[tuple[Training, Evaluation]], out: str | Path) -> list[dict[str, str]]:
    """One row for each method, mode and number of shots: mean ± sd over the seeds that are complete, and how many."""
    return _rows(_by_seed(pairs, as_path(out)))


def average_rows(tables: Sequence[Sequence[tuple[Training, Evaluation]]], out: str | Path) -> list[dict[str, str]]:
    """The same for several data sets (``average_scores``)."""
    return _rows(average_scores(tables, out))


def average_scores(
    tables: Sequence[Sequence[tuple[Training, Evaluation]]], out: str | Path
) -> dict[Method, dict[int, Scores]]:
    """Each method's scores by seed, averaged over several data sets; H is that of the averages (CoCoOp)."""
    tables_by_method = [_by_seed(pairs, as_path(out)) for pairs in tables]
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
    return averaged


def _by_seed(pairs: Sequence[tuple[Training, Evaluation]], out: Path) -> dict[Method, dict[int, Scores]]:
    """For each method the scores of the seeds for which every evaluation is complete."""
    runs_by_method: dict[Method, dict[int, list[Run]]] = {}
    wanted = len({(e.kind, e.world) for _, e in pairs})
    for job, evaluation in pairs:
        scores = read_json(evaluation.file(job, out))
        if scores is None:
            continue
        run = (scores, job.folder(out).name, _costs(job, out))
        runs_by_method.setdefault(_method(job, evaluation), {}).setdefault(job.seed, []).append(run)
    complete: dict[Method, dict[int, Scores]] = {}
    for method, runs_by_seed in runs_by_method.items():
        complete[method] = {seed: _joined(runs) for seed, runs in runs_by_seed.items() if len(runs) == wanted}
    return complete


def _method(job: Training, evaluation: Evaluation) -> Method:
    """What tells a row from others, its terms included."""
    terms = {
        "protocol": "transductive" if is_transductive(job, evaluation) else "inductive",
        "labels": labels_used(job),
    }
    if job.learner == "zero-shot":
        return Method("zero-shot", "", "", **terms, validation="none")
    mode = job.mode + (f" + {job.labelled:.0%} labels" if job.labelled else "")
    shots = str(job.shots) if job.shots else "all"
    return Method(LEARNERS[job.learner].__name__, mode, shots, **terms, validation=validation_used(job))


def _costs(job: Training, out: Path) -> Scores:
    """What a training cost, and a picture in use; NaN where that was not noted."""
    training = read_json(job.folder(out) / "training.json")
    if job.learner == "zero-shot":
        training = {"seconds": 0.0, "learned": 0}
    elif training is None:
        training = {"seconds": math.nan}
    use = read_json(job.folder(out) / "use.json") or {}
    return {
        "learned": training.get("learned", math.nan),
        "seconds": training["seconds"],
        "seconds a picture": use.get("seconds a picture", math.nan),
    }


def _joined(runs: Sequence[Run]) -> Scores:
    """One row of a seed's evaluations; of several, a column for each and their average. Costs come last."""
    joined = {}
    for scores, _, _ in runs:
        joined |= scores
    if len(runs) > 1:
        joined["average"] = mean(joined.values())
    costs = list({folder: cost for _, folder, cost in runs}.values())  # one training may have several evaluations
    return {
        **joined,
        "learned": mean(cost["learned"] for cost in costs),
        "seconds": sum(cost["seconds"] for cost in costs),
        "seconds a picture": mean(cost["seconds a picture"] for cost in costs),
    }


def _rows(scores_by_method: dict[Method, dict[int, Scores]]) -> list[dict[str, str]]:
    rows = []
    for method, by_seed in scores_by_method.items():
        if not by_seed:
            continue
        seeds, said = list(by_seed.values()), method._asdict()
        terms = {column: said.pop(column) for column in ("protocol", "labels", "validation")}
        row = said | summarise(seeds) | terms
        for column, form in (("learned", ",.0f"), ("seconds a picture", ".2g")):
            value = mean(seed[column] for seed in seeds)
            row[column] = "–" if math.isnan(value) else format(value, form)
        rows.append(row)
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
