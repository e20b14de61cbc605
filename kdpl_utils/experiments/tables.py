"""Tables of finished runs: rows, their averages over data sets, and the paper's rows beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from ..evaluate import harmonic_mean
from ..protocol import paper_tables, summarise
from ..support.disk import as_path, read_json
from .provenance import provenance
from .runner import Evaluation, RunConfig, finished

Table = Sequence[tuple[RunConfig, Evaluation]]
Scores = dict[str, float]
Method = tuple[tuple[str, str], ...]  # the items of ``provenance``
COSTS = {"parameters": ",.0f", "seconds": ".1f", "seconds an image": ".2g"}


def table_rows(pairs: Table, out: str | Path) -> list[dict[str, str]]:
    """One row for each method, mode and number of shots: mean ± sd over the finished seeds, and their number."""
    return average_rows([pairs], out)


def average_rows(tables: Sequence[Table], out: str | Path) -> list[dict[str, str]]:
    """The same for several data sets (``average_scores``)."""
    rows = []
    for method, by_seed in average_scores(tables, out).items():
        first = dict(method)
        last = {column: first.pop(column) for column in ("protocol", "labels", "validation")}
        seeds = list(by_seed.values())
        costs = {column: format(mean(row[column] for row in seeds), form) for column, form in COSTS.items()}
        rows.append(first | summarise(seeds) | costs | last)
    return rows


def average_scores(tables: Sequence[Table], out: str | Path) -> dict[Method, dict[int, Scores]]:
    """Each method's scores by seed, averaged over data sets that all have them; H is that of the averages (CoCoOp)."""
    found = [_by_seed(pairs, as_path(out)) for pairs in tables]
    averaged: dict[Method, dict[int, Scores]] = {}
    for method, by_seed in found[0].items():
        for seed in by_seed:
            rows = [one[method][seed] for one in found if seed in one.get(method, {})]
            if len(rows) < len(tables):
                continue
            row = {column: mean(r[column] for r in rows) for column in rows[0] if all(column in r for r in rows)}
            if "H" in row:
                row["H"] = harmonic_mean(row["base"], row["novel"])
            averaged.setdefault(method, {})[seed] = row
    return averaged


def _by_seed(pairs: Table, out: Path) -> dict[Method, dict[int, Scores]]:
    """For each method the scores of the seeds of which every evaluation is finished."""
    runs: dict[tuple[Method, int], list[tuple[Scores, Path]]] = {}
    for config, evaluation in pairs:
        if scores := finished(config, evaluation, out):
            method = tuple(provenance(config, evaluation).items())
            runs.setdefault((method, config.seed), []).append((scores, config.folder(out)))
    complete: dict[Method, dict[int, Scores]] = {}
    for (method, seed), found in runs.items():
        if len(found) == len({evaluation for _, evaluation in pairs}):
            complete.setdefault(method, {})[seed] = _joined(found)
    return complete


def _joined(runs: Sequence[tuple[Scores, Path]]) -> Scores:
    """One row of a seed's evaluations; of several, a column for each and their average. Costs come last."""
    row: Scores = {}
    for scores, _ in runs:
        row |= scores
    if len(runs) > 1:
        row["average"] = mean(row.values())
    records = [read_json(folder / "training.json") for folder in {folder for _, folder in runs}]
    for column in COSTS:
        row[column] = mean(record[column] for record in records)
    row["seconds"] *= len(records)  # PromptKD trains once for each target
    return row


def paper_rows(table: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The published tables of that kind, for real CLIP: (title, rows) each; there is none of the few-shot kind."""
    paper = paper_tables()
    if table == "domain":
        found = paper["domain_generalization"]
        tables = {f"16-shot ImageNet, {model}": rows for model, rows in found.items() if model != "columns"}
    elif table == "cross-dataset":
        found = paper["cross_dataset_RN50_CoOp"]
        tables = {"16-shot ImageNet to ten data sets, RN50, CoOp": found}
    else:
        found = paper["unseen_class_average"]
        tables = {"novel classes, average of the data sets": found} if table == "base-to-novel" else {}
    titled = []
    for title, methods in tables.items():
        rows = []
        for method, values in methods.items():
            if method not in ("columns", "note"):
                numbers = {column: f"{value:.2f}" for column, value in zip(found["columns"], values)}
                rows.append({"method": method, **numbers})
        titled.append((title, rows))
    return titled
