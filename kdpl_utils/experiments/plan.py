"""What a table needs: the list of its runs, checked before the first of them starts."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..choices import LEARNERS, MODES, TABLES, WITH_DICTIONARY
from ..clip.models import check_model, has_vision_transformer, model_pair
from ..learners import learner_class, promptsrc
from ..support.disk import digest
from ..train import Recipe
from ..worlds.load import load_world
from ..worlds.world import World
from .runner import Evaluation, Model, RunConfig

WITH_VISUAL_PROMPTS = ("vpt", "maple", "promptsrc", "promptkd")


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
) -> list[tuple[RunConfig, Evaluation]]:
    """Return the runs of a table and how each is tested, the zero-shot student first.

    Args:
        table: one of ``TABLES``. ``base-to-novel`` trains on half of the classes; ``domain`` and ``cross-dataset`` on
            all, and test on the world's shifts, or on ``targets``; ``few-shot`` on all, and tests on the world itself.
        targets: by default the world's own: the paper's ten for ImageNet, the other groups of the emoji world.
        options: fields of ``RunConfig`` or of its recipe; None is the published value.

    Raises:
        ValueError: a choice, model or number that a run would refuse.
        FileNotFoundError: a data set is not there.
    """
    for what, given, known in (("table", [table], TABLES), ("learner", learners, LEARNERS), ("mode", modes, MODES)):
        if wrong := [g for g in given if g not in known]:
            raise ValueError(f"There is no {what} {wrong[0]!r}: choose from {', '.join(known)}.")
    home = load_world(world, root)
    targets = (targets or home.targets) if table == "cross-dataset" else [world]
    worlds = {target: home if target == world else load_world(target, root) for target in targets}
    _check_worlds(home, worlds, table)
    options = {key: value for key, value in options.items() if value is not None}
    recipe_options = {key: options.pop(key) for key in ("epochs", "batch_size", "lr") if key in options}
    student = model_pair(options.pop("student", home.transformer or home.student))
    teachers = tuple(model_pair(teacher) for teacher in options.pop("teachers", [home.teacher]))
    for model in (student, *teachers):
        check_model(*model)
    suited = _suited(learners, modes, student, teachers)
    classes = home.base if table == "base-to-novel" else range(len(home.classnames))
    shots = _available(shots if table == "few-shot" else shots[:1], home, classes)
    fraction = options.pop("label_fraction", 0.0)
    images = min(shots) * len(classes)
    if fraction and ("kdpl" not in modes or not 0 < fraction <= 1 or not round(fraction * images)):
        raise ValueError(f"label_fraction is {fraction}: give the share of {images} images whose labels kdpl may use.")
    k = options.pop("k", 0)
    options = {"student": student, "classes": "base" if table == "base-to-novel" else "all", **options}

    shared = {key: options[key] for key in ("student", "classes", "precision") if key in options}
    baseline = RunConfig(world, "zero-shot", "labels", 0, teachers=(), recipe=Recipe(), **shared)
    evaluations = {}
    for name, tested in worlds.items():
        shifts = [(shift, split.key) for shift, split in tested.shifts.items()]
        evaluations[name] = Evaluation(table, name, digest(tested.test.key, tested.classnames, shifts)[:10])
    pairs = [(baseline, evaluation) for evaluation in evaluations.values()]
    for (learner, mode), n, seed, target in itertools.product(suited, shots, dict.fromkeys(seeds), worlds):
        # PromptKD is transductive: in a cross-dataset table it learns from the target's unlabelled images and names.
        of_target = table == "cross-dataset" and mode == "promptkd"
        source = worlds[target] if of_target else home
        agnostic = mode in WITH_DICTIONARY
        words = source.dictionary if agnostic else ()
        if agnostic and (k or 2) not in range(2, len(words) + 1):
            raise ValueError(f"k is {k}: give 2 to {len(words)}, the names of the dictionary, or 0.")
        recipe, settings = _published(home, learner, table)
        config = RunConfig(
            target if of_target else world,
            learner,
            mode,
            seed,
            teachers=teachers,
            recipe=replace(recipe, **recipe_options, seed=seed),
            data=digest(source.train.key, source.classnames, source.templates, words)[:10],
            shots=0 if of_target else n,
            label_fraction=fraction if mode == "kdpl" else 0.0,
            k=k if agnostic else 0,
            settings=settings,
            **{"views": source.views, **options},
        )
        pairs.append((config, evaluations[target]))
    return pairs


def _check_worlds(home: World, worlds: dict[str, World], table: str) -> None:
    """Refuse worlds on which the numbers of a table would mean nothing."""
    for split in (home.train, *(world.test for world in worlds.values())):
        if split.unusable_because:
            raise ValueError(f"{split.unusable_because} For images without labels use kdpl adapt.")
    if len(home.classnames) < (4 if table == "base-to-novel" else 2):
        raise ValueError(f"{home.name} has {len(home.classnames)} classes, and with one class every model has 100 %.")
    if table == "domain" and not home.shifts:
        raise ValueError(f"{home.name} has no shifted test sets here, and a domain table needs one.")
    if not worlds:
        raise ValueError(f"A cross-dataset table of {home.name} needs targets: the names of the worlds to test on.")


def _suited(
    learners: Sequence[str], modes: Sequence[str], student: Model, teachers: Sequence[Model]
) -> list[tuple[str, str]]:
    """The (learner, mode) pairs that can be trained; a warning names each learner that cannot."""
    pairs = []
    for learner, mode in itertools.product(dict.fromkeys(learners), dict.fromkeys(modes)):
        if learner in WITH_VISUAL_PROMPTS and not has_vision_transformer(student[0]):
            warnings.warn(f"{learner} is left out: {student[0]} has no vision transformer.", stacklevel=3)
        elif mode in WITH_DICTIONARY and not learner_class(learner).open_vocabulary:
            warnings.warn(f"{learner} is left out of {mode}: it has a row for each class.", stacklevel=3)
        elif learner == "promptkd" and len(teachers) != 1:
            warnings.warn("promptkd is left out: its classes are the text features of one teacher.", stacklevel=3)
        elif mode != "promptkd" or learner == "promptkd":
            pairs.append((learner, mode))
    if learners and modes and not pairs:
        raise ValueError(f"None of {', '.join(learners)} can be trained in {', '.join(modes)} with {student[0]}.")
    return pairs


def _available(shots: Sequence[int], home: World, classes: Sequence[int]) -> list[int]:
    """The numbers of shots; where fewer images are there, their number: a table reports what was used."""
    if min(shots) < 1:
        raise ValueError(f"shots is {min(shots)}: give 1 or more.")
    most = int(home.train.of_classes(classes).labels.bincount().max()) if len(home.train) else max(shots)
    if max(shots) > most:
        warnings.warn(f"{home.name} has at most {most} training images a class: {most} are used.", stacklevel=3)
    return list(dict.fromkeys(min(n, most) for n in shots))


def _published(home: World, learner: str, table: str) -> tuple[Recipe, dict[str, object]]:
    """The published recipe of a learner, or the world's own; with the settings that go with it."""
    if learner in home.recipes:
        return replace(learner_class(learner).recipe, **home.recipes[learner]), {}
    if learner == "promptsrc" and table != "base-to-novel":
        return promptsrc.CROSS_DATASET["recipe"], promptsrc.CROSS_DATASET["settings"]
    return learner_class(learner).recipe, {}
