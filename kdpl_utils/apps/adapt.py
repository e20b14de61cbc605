"""From a folder of one's own pictures to learned prompts, a classifier to take away, and a page that says how good."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..evaluate import accuracy, top1_agreement
from ..experiments.lab import Lab, emoji_recipe
from ..experiments.training import Training, taught_by
from ..learners import LEARNERS, Learner
from ..learners.classifier import classifier_of, export_classifier, export_onnx
from ..learners.saving import save_learner
from ..loading import load_vlm, shipped_models
from ..protocol import all_logits
from ..support.disk import write_whole
from ..vlm import encode_names, logits
from ..worlds.photo_worlds import folder_world
from ..worlds.world import Split, World
from .card import model_card


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
    report: Callable[[str], None] = lambda line: None,
) -> Adapted:
    """Learn prompts from a folder of pictures, mostly without labels, and write everything that came of it.

    Args:
        folder: as ``folder_world`` reads it: with a subfolder for each class, or just pictures.
        out: gets ``learned.safetensors``, ``classifier.safetensors``, ``classifier.onnx`` and ``README.md``.
        classnames: what may be in the pictures; without them and without subfolders the names come from
            ``dictionary``, and there is no classifier to export.
        mode: ``"kdpl"``, ``"kdpl-ca"``, or ``"labels"`` where there are some; by default the first, or the second
            where there are no names.
        student, teacher: (name, pretrained); by default ViT-B/32 and ViT-L/14 of OpenAI's.
        views: crops of each picture, drawn once; 0 takes the pictures as they are.
        labels: share of the labels, 0 to 1, that ``"kdpl"`` learns from as well, where there are some.
        precision: of all frozen weights, as in ``load_vlm``; ``"bf16"`` suits a GPU.

    Asked again with the same ``out``, only what has changed is done again.

    Raises:
        ValueError: what was asked for does not fit together; one sentence says what to change.
    """
    start, out = time.perf_counter(), Path(out)
    world = folder_world(folder, classnames, dictionary=dictionary)
    labelled = bool((world.train.labels >= 0).all())
    if not 0 <= labels <= 1 or (labels and mode not in (None, "kdpl")):
        raise ValueError(f"labels = {labels}: give the share of labels, 0 to 1, that the mode kdpl may learn from.")
    mode = mode or ("kdpl" if world.classnames else "kdpl-ca")
    if mode == "kdpl" and not world.classnames:
        raise ValueError("KDPL needs class names: give some, or choose the mode kdpl-ca, which takes a dictionary's.")
    if (mode == "labels" or labels) and not labelled:
        raise ValueError(f"The pictures of {folder} have no labels: use a subfolder for each class, or the mode kdpl.")
    student, teacher = student or world.student, teacher or world.teacher
    recipe = replace(LEARNERS[learner].recipe, seed=seed)
    if student[0] in shipped_models():
        recipe = emoji_recipe(learner, recipe)
    recipe = replace(recipe, epochs=epochs or recipe.epochs, lr=lr or recipe.lr)
    job = Training(
        str(folder), learner, mode, seed, tuple(student), (tuple(teacher),), recipe, taught_by(world, mode), "all", 0,
        labelled=labels, k=k, views=views, precision=precision,
    )  # fmt: skip
    lab = Lab(out / "cache", progress=True)
    lab.worlds[job.world] = world
    report(f"{len(world.train)} pictures, {len(world.classnames) or 'no'} class names, {mode} with {learner}.")
    learned = lab.learner(job)
    measured = _measure(learned, lab, world, job)
    files = {"learned": save_learner(learned, out / "learned.safetensors", recipe)}
    if world.classnames:
        files["classifier"] = export_classifier(learned, world.classnames, out / "classifier.safetensors")
        if onnx:
            files["onnx"] = export_onnx(classifier_of(learned, world.classnames), out / "classifier.onnx")
    minutes = (time.perf_counter() - start) / 60
    text = model_card(folder, world, job, learned, measured, minutes)
    files["card"] = write_whole(out / "README.md", lambda part: part.write_text(text, encoding="utf-8"))
    return Adapted(learned, files, measured)


def _measure(learned: Learner, lab: Lab, world: World, job: Training) -> dict[str, float]:
    """Agreement with the teacher on the training pictures; accuracies, where there are labelled test pictures."""
    if not world.classnames:
        return {}
    vlm, names = learned.vlm, world.classnames
    above = load_vlm(*job.teachers[0], lab.device, job.precision)
    before = Learner(vlm)

    def scored(learner: Learner, split: Split) -> Tensor:
        inputs, classify = lab.inputs(learner, split.images, split.key), learner.classifier(names)
        return all_logits(classify, inputs)

    text = encode_names(above, names, world.templates)

    def taught(split: Split) -> Tensor:
        seen = lab.cache.features(above, split.images, split.key)
        return logits(seen, text, above.scale).to(vlm.device)

    target = taught(world.train)
    found = {
        "agreement with the teacher, before": 100 * top1_agreement(target, scored(before, world.train)),
        "agreement with the teacher, after": 100 * top1_agreement(target, scored(learned, world.train)),
    }
    if len(world.test) and (world.test.labels >= 0).all():
        labels = world.test.labels.to(vlm.device)
        found["test accuracy, zero-shot student"] = 100 * accuracy(scored(before, world.test), labels)
        found["test accuracy, learned"] = 100 * accuracy(scored(learned, world.test), labels)
        found["test accuracy, teacher"] = 100 * accuracy(taught(world.test), labels)
    return found
