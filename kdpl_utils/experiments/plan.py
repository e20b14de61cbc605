"""The paper's comparisons: which runs a table asks for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..learners import LEARNERS, promptsrc
from ..loading import check_model, has_vision_transformer, model_pair
from ..support.disk import read_json
from ..support.values import listed, seed_of, whole
from ..train import Recipe
from ..worlds.load import load_world
from ..worlds.world import World
from .training import (
    MODES,
    WITH_DICTIONARY,
    Evaluation,
    Training,
    check_chosen,
    evaluation_digest,
    training_digest,
    unsuited,
)

TABLES = ("base-to-novel", "domain", "cross-dataset", "few-shot")
ON_TRANSFORMERS = ("vpt", "maple", "promptsrc", "promptkd")  # they change the image tower
KINDS = {"base-to-novel": "halves", "domain": "domains", "few-shot": "test", "cross-dataset": "transfer"}


def plan(
    table: str,
    world: str,
    learners: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int] = (16,),
    targets: Sequence[str] = (),
    root: str | Path | None = None,
    **options,
) -> list[tuple[Training, Evaluation]]:
    """The (training, evaluation) pairs of a table, the zero-shot student first; without what no learner can do.

    PromptKD, in its own mode, learns in a cross-dataset table from each target's pictures, as published.

    Args:
        table: one of ``TABLES``. ``base-to-novel`` trains on half of the classes; ``domain`` and ``cross-dataset``
            on all, and test on the world's shifts, or on the test pictures of ``targets``; ``few-shot`` on its own.
        targets: by default the world's own: the paper's ten for ImageNet, the other groups of the emoji world.
        options: fields of ``Training``, or of its recipe, that differ from the published ones; ``labelled`` goes to
            mode ``"kdpl"`` alone.

    Raises:
        ValueError: unknown names, or no targets.
        FileNotFoundError: a data set is not there: said now, not after hours of training.
    """
    world = str(world)
    learners, modes, targets = (_once(given) for given in (learners, modes, targets))
    seeds = _once(seed_of(seed) for seed in listed(seeds))
    shots = _once(whole(n, "shots", 1) for n in listed(shots))
    options = _checked(options)
    for what, given, known in (("table", [table], TABLES), ("learner", learners, LEARNERS), ("mode", modes, MODES)):
        if wrong := [g for g in given if g not in known]:
            raise ValueError(f"There is no {what} {wrong[0]!r}: choose from {', '.join(known)}.")
    pairs = [(learner, mode) for learner in learners for mode in modes]
    suited = [pair for pair in pairs if not unsuited(*pair)]
    if pairs and not suited:
        raise ValueError(unsuited(*pairs[0]))
    _say_left_out([pair for pair in pairs if pair not in suited])
    labelled = options.get("labelled") or 0.0
    if not isinstance(labelled, int | float) or not 0 <= labelled <= 1 or (labelled and "kdpl" not in modes):
        raise ValueError(f"labelled = {labelled}: give the share of labels, 0 to 1, that mode 'kdpl' may learn from.")
    kind, home = KINDS[table], load_world(world, root)
    where = (targets or home.targets) if kind == "transfer" else [world]
    if not where:
        raise ValueError(f"A cross-dataset table of {world} needs targets: the names of the worlds to test on.")
    judges = [home if target == world else load_world(target, root) for target in where]
    _check_labels(world, home, kind, judges)
    _check_classes(world, home, kind)
    evaluations = [Evaluation(kind, target, evaluation_digest(judge, kind)) for target, judge in zip(where, judges)]
    classes = "base" if kind == "halves" else "all"
    sizes = _that_are_there(shots if table == "few-shot" else shots[:1], home, home.base if classes == "base" else None)
    chosen = [("zero-shot", "labels", 0, 16)]
    chosen += [(learner, mode, seed, n) for learner, mode in suited for n in sizes for seed in seeds]
    pairs = []
    for learner, mode, seed, n in chosen:
        for evaluation, judge in zip(evaluations, judges):
            place, source, size = home, world, n
            if kind == "transfer" and mode == "promptkd":
                # PromptKD is transductive: it learns from the unlabelled pictures and the names of the target itself.
                place, source, size = judge, evaluation.world, 0
            job = _training(place, source, classes, learner, mode, seed, size, transfers=classes == "all", **options)
            _check_job(job, place)
            pairs.append((job, evaluation))
    return pairs


def _check_job(job: Training, place: World) -> None:
    """Refuse what its run would refuse, perhaps after hours of other runs."""
    for model in (job.student, *job.teachers):
        check_model(*model)
    if job.learner in ON_TRANSFORMERS and not has_vision_transformer(job.student[0]):
        raise ValueError(
            f"{job.learner} learns tokens in a vision transformer, and {job.student[0]} has none: leave the learner "
            "out, or choose another student."
        )
    classes = place.base if job.classes == "base" else range(len(place.classnames))
    pictures = job.shots * len(classes) or len(place.train)
    check_chosen(job.mode, job.k, job.labelled, pictures, len(place.dictionary))
    if job.k > len(place.dictionary):
        raise ValueError(f"k = {job.k}, and the dictionary of {place.name} has {len(place.dictionary)} names.")


def _once(given: object) -> list:
    """Each of what was asked for, once: a run that is counted twice has no row in a table."""
    return list(dict.fromkeys(listed(given)))


def _say_left_out(pairs: Sequence[tuple[str, str]]) -> None:
    """Runs that no learner can do; that only PromptKD has its own objective needs no word."""
    for learner, mode in pairs:
        if mode in WITH_DICTIONARY:
            warnings.warn(f"{learner} in the mode {mode} is left out. {unsuited(learner, mode)}", stacklevel=3)


def _check_labels(world: str, home: World, kind: str, judges: Sequence[World]) -> None:
    """Refuse pictures without labels: a table draws its shots class by class, and scores need right answers."""
    needed = [home.train] if kind != "domains" or len(home.train) else []
    needed += [judge.test for judge in judges]
    for split in needed:
        if split.unusable_because or not len(split):
            raise ValueError(
                f"{world} cannot be reproduced on: {split.unusable_because or 'it has no test pictures.'} For pictures "
                "without labels there is kdpl adapt."
            )


def _check_classes(world: str, home: World, kind: str) -> None:
    """Refuse classes that are no choice: one alone is always named, so that its accuracy is 100 %."""
    n_classes = len(home.classnames)
    if kind == "halves" and len(home.novel) < 2:
        raise ValueError(
            f"{world} has {n_classes} classes, and each half of a base-to-novel table needs two: give four or more, or "
            "--table few-shot."
        )
    if n_classes < 2:
        raise ValueError(f"{world} has {n_classes} class, and one alone is no choice: give two or more.")


def _checked(options: Mapping[str, object]) -> dict[str, object]:
    """The options with plain numbers, and models as pairs."""
    checked = dict(options)
    for count in ("k", "views"):
        if checked.get(count) is not None:
            checked[count] = whole(checked[count], count, 0)
    if checked.get("student") is not None:
        checked["student"] = model_pair(checked["student"])
    if checked.get("teachers") is not None:
        checked["teachers"] = tuple(model_pair(teacher) for teacher in listed(checked["teachers"]))
    return checked


def _that_are_there(shots: Sequence[int], home: World, classes: Sequence[int] | None) -> list[int]:
    """The numbers of shots, those beyond the largest class as what it holds: a table names what was used."""
    labels = home.train.labels
    counted = labels[labels >= 0] if classes is None else labels[torch.isin(labels, torch.tensor(list(classes)))]
    most = int(counted.bincount().max()) if len(counted) else max(shots)
    if max(shots) > most:
        message = f"{home.name} has at most {most} training pictures a class: so many are used, not {max(shots)}."
        warnings.warn(message, stacklevel=3)
    return list(dict.fromkeys(min(n, most) for n in shots))


def _training(
    home: World, world: str, classes: str, learner: str, mode: str, seed: int, shots: int, transfers: bool, **options
) -> Training:
    zero_shot = learner == "zero-shot"
    recipe, settings = (Recipe(), {}) if zero_shot else _recipe_and_settings(home, learner, transfers)
    of_recipe = {key: options.pop(key) for key in ("epochs", "batch_size", "lr") if options.get(key) is not None}
    if not zero_shot:
        recipe = replace(recipe, **of_recipe, seed=seed)
    fields = {
        "student": tuple(home.transformer or home.student),
        "teachers": (tuple(home.teacher),),
        "views": home.views,
        "settings": settings,
        "data": training_digest(home, mode),
        **{key: value for key, value in options.items() if value is not None},
    }
    if mode != "kdpl":
        fields["labelled"] = 0.0
    if mode not in WITH_DICTIONARY:
        fields["k"] = 0
    if zero_shot:  # depends on nothing that is learned
        fields.update(teachers=(), views=0, settings={}, data="", scale="student")
    return Training(world, learner, mode, seed, recipe=recipe, classes=classes, shots=shots, **fields)


def _recipe_and_settings(home: World, learner: str, transfers: bool) -> tuple[Recipe, dict[str, object]]:
    """The published recipe of a learner, or what a world says instead; with the settings that go with it."""
    if learner in home.recipes:
        return replace(LEARNERS[learner].recipe, **home.recipes[learner]), {}
    if learner == "promptsrc" and transfers:
        return promptsrc.CROSS_DATASET["recipe"], promptsrc.CROSS_DATASET["settings"]
    return LEARNERS[learner].recipe, {}


def is_complete(job: Training, evaluation: Evaluation, out: Path) -> bool:
    """Whether the scores are there, and what is known of their training; a damaged file is not there."""
    if read_json(evaluation.file(job, out)) is None:
        return False
    return job.learner == "zero-shot" or read_json(job.folder(out) / "training.json") is not None
