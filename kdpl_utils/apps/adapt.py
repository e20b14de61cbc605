"""From a folder of one's own pictures to learned prompts, a classifier to take away, and a page that says how good."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..evaluate import accuracy, paired_bootstrap, top1_agreement
from ..experiments.lab import Lab
from ..experiments.training import MODES, Training, check_chosen, training_digest, unsuited
from ..learners import LEARNERS, Learner
from ..learners.classifier import classifier_of, export_classifier, export_onnx, has_classifier
from ..learners.saving import save_learner
from ..loading import check_model, model_pair, shipped_models
from ..protocol import all_logits
from ..support.disk import as_path, write_whole
from ..support.extras import optional
from ..support.values import real, seed_of, whole
from ..train import Recipe
from ..vlm import TEMPLATE, Templates, check_names
from ..worlds.emoji import EMOJI_RECIPES
from ..worlds.photo_worlds import folder_world
from ..worlds.world import Split, World
from .card import model_card, sealed
from .outputs import IGNORED, check_replaceable, remove_earlier

Report = Callable[[str], None]


@dataclass(frozen=True)
class Adapted:
    """What came out.

    Attributes:
        learner: the learned prompts.
        files: what was written, by kind: ``learned``, ``classifier`` and ``onnx`` where asked for, ``card``.
        measured: what the card says, numbers in per cent.
    """

    learner: Learner
    files: dict[str, Path]
    measured: dict[str, float]


def adapt_folder(
    folder: str | Path,
    out: str | Path,
    classnames: Sequence[str] | None = None,
    mode: str | None = None,
    learner: str = "coop",
    student: tuple[str, str | None] | None = None,
    teacher: tuple[str, str | None] | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    k: int = 0,
    views: int = 0,
    labels: float = 0.0,
    precision: str = "fp32",
    seed: int = 0,
    onnx: bool = False,
    dictionary: str | Path | Sequence[str] = "imagenet21k",
    labelled: bool | None = None,
    templates: Templates = (TEMPLATE,),
    report: Report = lambda line: None,
) -> Adapted:
    """Learn prompts from a folder of pictures, mostly without labels, and write everything that came of it.

    Args:
        folder, labelled, templates: as ``folder_world`` has them: a subfolder for each class, or just pictures.
        out: gets ``learned.safetensors``, ``classifier.safetensors``, ``classifier.onnx`` and ``README.md``.
        classnames: what may be in the pictures; without them and without subfolders the names come from
            ``dictionary``, and there is no classifier to export.
        mode: ``"kdpl"``, ``"kdpl-ca"``, ``"labels"`` where there are some, or a control, see ``MODES``; by default the
            first, or the second where there are no names.
        student, teacher: (name, pretrained); by default ViT-B/32 and ViT-L/14 of OpenAI's.
        views: crops of each picture, drawn once; 0 takes the pictures as they are.
        labels: share of the labels, 0 to 1, that ``"kdpl"`` learns from as well, where there are some.
        precision: of all frozen weights, as in ``load_vlm``; ``"bf16"`` suits a GPU.

    Asked again with the same ``out``, only what has changed is done again.

    Raises:
        ValueError: no such mode or learner, labels or names that the mode needs are missing, or a wrong share of them.
        FileNotFoundError: there is no such folder, or no picture in it.
    """
    start, folder, out = time.perf_counter(), as_path(folder), as_path(out)
    numbers = {"k": whole(k, "k", 0), "views": whole(views, "views", 0), "seed": seed_of(seed)}
    labels = numbers["labelled"] = real(labels, "the share of labels", 0, 1)
    classnames = _check_given(classnames, (student, teacher), learner, onnx)
    check_replaceable(out)
    world = folder_world(folder, classnames, labelled=labelled, templates=templates, dictionary=dictionary)
    mode = _chosen_mode(world, folder, mode, labels, numbers["k"])
    student, teacher = (model_pair(model) for model in (student or world.student, teacher or world.teacher))
    recipe = _recipe(learner, mode, student, epochs, lr, seed)
    job = Training(
        world=str(folder),
        learner=learner,
        mode=mode,
        student=student,
        teachers=(teacher,),
        recipe=recipe,
        data=training_digest(world, mode),
        classes="all",
        shots=0,  # all pictures
        precision=precision,
        **numbers,
    )
    lab = Lab(out / "cache", progress=True)
    lab.worlds[job.world] = world
    report(f"{len(world.train)} pictures, {len(world.classnames) or 'no'} class names, {mode} with {learner}.")
    learned = lab.learner(job)
    measured, gain = _measure(learned, lab, world, job)
    files = _write_files(learned, world, job, out, onnx, report)
    text = sealed(model_card(folder, world, job, learned, measured, gain, minutes=(time.perf_counter() - start) / 60))
    files["card"] = write_whole(out / "README.md", lambda part: part.write_text(text, encoding="utf-8"))
    return Adapted(learned, files, measured)


def _check_given(
    classnames: Sequence[str] | Mapping[str, str] | None,
    models: Sequence[tuple[str, str | None] | None],
    learner: str,
    onnx: bool,
) -> Sequence[str] | Mapping[str, str] | None:
    """The names; refuses those and models that are none, and ONNX that cannot be written, before a picture is seen."""
    for model in models:
        if model is not None:
            check_model(*model_pair(model))
    if onnx and learner in LEARNERS and not has_classifier(LEARNERS[learner]):
        raise ValueError(
            f"{LEARNERS[learner].__name__} has no classifier to write as ONNX: leave it out; kdpl predict takes "
            "learned.safetensors."
        )
    for module in ("onnx", "onnxscript") if onnx else ():
        optional(module, "onnx")
    if isinstance(classnames, Mapping):
        check_names(list(classnames.values()))
        return classnames
    return None if classnames is None else check_names(classnames)


def _chosen_mode(world: World, folder: str | Path, mode: str | None, labels: float, k: int) -> str:
    """The mode that was asked for, or the one that fits the folder; refused where it cannot be done."""
    if mode is not None and mode not in MODES:
        raise ValueError(f"There is no mode {mode!r}: choose one of {', '.join(MODES)}.")
    if len(world.classnames) == 1:
        raise ValueError(
            f"{world.classnames[0]!r} is the only class name, so every answer is right and nothing is learned: give "
            "two or more."
        )
    if labels and mode not in (None, "kdpl"):
        raise ValueError(f"labels = {labels}: give the share of labels, 0 to 1, that the mode kdpl may learn from.")
    mode = mode or ("kdpl" if world.classnames else "kdpl-ca")
    if mode != "kdpl-ca" and not world.classnames:
        method = "KDPL" if mode == "kdpl" else f"The mode {mode}"
        raise ValueError(
            f"{method} needs class names: give some, or choose the mode kdpl-ca, which takes a dictionary's."
        )
    has_labels = bool((world.train.labels >= 0).all())
    if (mode == "labels" or labels) and not has_labels:
        raise ValueError(f"The pictures of {folder} have no labels: use a subfolder for each class, or the mode kdpl.")
    check_chosen(mode, k, labels, len(world.train), len(world.dictionary))
    return mode


def _recipe(
    learner: str, mode: str, student: tuple[str, str | None], epochs: int | None, lr: float | None, seed: int
) -> Recipe:
    """The published recipe, or the one for the shipped models, with what was asked for otherwise."""
    if learner not in LEARNERS:
        raise ValueError(f"There is no learner {learner!r}: choose one of {', '.join(LEARNERS)}.")
    if unsuited(learner, mode):
        raise ValueError(unsuited(learner, mode))
    recipe = LEARNERS[learner].recipe
    if student[0] in shipped_models():
        recipe = replace(recipe, **EMOJI_RECIPES.get(learner, {}))
    asked = {"epochs": epochs, "lr": lr, "seed": seed}
    return replace(recipe, **{field: value for field, value in asked.items() if value is not None})


def _write_files(
    learned: Learner, world: World, job: Training, out: Path, onnx: bool, report: Report = lambda line: None
) -> dict[str, Path]:
    """The learned prompts, and where class names are fixed text features a classifier of them."""
    names = world.classnames or None
    classifiers = ["classifier.safetensors", *["classifier.onnx"] * onnx] if names and has_classifier(learned) else []
    for path in remove_earlier(out, classifiers):
        report(f"removed: {path}, which was of earlier prompts")
    files = {"learned": save_learner(learned, out / "learned.safetensors", job.recipe, names)}
    # Whoever shares the folder with git shares no features of the pictures.
    write_whole(out / ".gitignore", lambda part: part.write_text(IGNORED, encoding="utf-8"))
    if names and has_classifier(learned):
        files["classifier"] = export_classifier(learned, world.classnames, out / "classifier.safetensors")
        if onnx:
            files["onnx"] = export_onnx(classifier_of(learned, world.classnames), out / "classifier.onnx")
    return files


Gain = tuple[float, float, float]  # points of accuracy over no prompts: the mean and its 95 % interval


def _measure(learned: Learner, lab: Lab, world: World, job: Training) -> tuple[dict[str, float], Gain | None]:
    """Agreement with the teacher on the training pictures; accuracies and the gain, where there are labelled tests."""
    if not world.classnames:
        return {}, None
    vlm, names = learned.vlm, world.classnames
    zero_shot = Learner(vlm)

    def logits_of(learner: Learner, split: Split) -> Tensor:
        return all_logits(learner.classifier(names), lab.inputs(learner, split))

    def teacher_logits_of(split: Split) -> Tensor:
        return lab.teacher_logits(job, vlm, job.teachers[0], names, world.templates, split)

    target = teacher_logits_of(world.train)
    measured = {
        "agreement with the teacher, before": 100 * top1_agreement(target, logits_of(zero_shot, world.train)),
        "agreement with the teacher, after": 100 * top1_agreement(target, logits_of(learned, world.train)),
    }
    if not len(world.test) or (world.test.labels < 0).any():
        return measured, None
    labels = world.test.labels.to(vlm.device)
    before, after = logits_of(zero_shot, world.test), logits_of(learned, world.test)
    measured["test accuracy, zero-shot student"] = 100 * accuracy(before, labels)
    measured["test accuracy, learned"] = 100 * accuracy(after, labels)
    measured["test accuracy, teacher"] = 100 * accuracy(teacher_logits_of(world.test), labels)
    if len(labels.unique()) < 2:  # one class has no interval
        return measured, None
    hits = [100 * (z.argmax(1) == labels).double().cpu() for z in (before, after)]
    return measured, paired_bootstrap(*hits, groups=world.test.labels)  # pictures of a class may be of one thing
