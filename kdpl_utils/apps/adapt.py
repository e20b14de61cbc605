"""From a folder of your own pictures to learned prompts, a classifier to take away, and a card that says how good."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import learners, supervision
from ..choices import LEARNERS
from ..clip.batches import ImageBatches
from ..clip.models import check_model, shipped_models, weights_identity
from ..clip.words import TEMPLATE, check_names, check_templates
from ..distill import select_classes
from ..evaluate import accuracy, hits, top1_agreement
from ..learners.classifier import export_classifier, has_classifier
from ..learners.promptkd import from_promptkd
from ..learners.saving import holds, load_learner, save_learner
from ..loading import load_vlm
from ..support.disk import DamagedError, as_path, digest, file_lock, read_tensors, report_damaged, write_tensors
from ..support.statistics import paired_bootstrap
from ..train import fit
from ..vlm import VLM, encode_names, logits
from ..worlds.dictionaries import load_dictionary
from ..worlds.emoji import EMOJI_RECIPES
from ..worlds.folders import Names, read_folder
from ..worlds.photos import files_key
from .card import as_code, listed, read_card, verdict, write_card
from .encode import Encoded, Model, default_models, encode_once

MODES = ("kdpl", "kdpl-ca", "labels", "promptkd")
K_MAX = 1000  # names picked for a batch, as published; fewer where there are fewer classes
K_UNKNOWN = 100  # … and where nobody knows how many there are
PICKING = 2000  # pictures that pick the names for the card: probabilities of all would fill the memory
KEPT = 2000  # pictures kept preprocessed in memory, for learners that look at them again and again


@dataclass(frozen=True)
class Adapted:
    """The learned prompts; files by kind (learned, classifier, card); and what was measured, in per cent."""

    learner: learners.Learner
    files: dict[str, Path]
    measured: dict[str, float]


def adapt_folder(
    folder: str | Path,
    out: str | Path,
    classnames: Names | None = None,
    mode: str | None = None,
    learner: str = "coop",
    student: Model | str | None = None,
    teacher: Model | str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    k: int = 0,
    label_fraction: float = 0.0,
    precision: str = "fp32",
    seed: int = 0,
    dictionary: str | Path | Sequence[str] = "imagenet21k",
    labelled: bool | None = None,
    templates: Sequence[str] = (TEMPLATE,),
    report: Callable[[str], None] = lambda line: None,
) -> Adapted:
    """Learn prompts from a folder of pictures, mostly without labels. Asked again the same, it repeats nothing.

    Args:
        folder, classnames, labelled, templates: as in ``folder_world``; without names the teacher picks them from
            ``dictionary``, and there is no classifier to export.
        out: gets ``learned.safetensors``, ``classifier.safetensors``, ``README.md``, and features in ``cache/``.
        mode: one of ``MODES``; by default ``"kdpl"``, or ``"kdpl-ca"`` without class names. For the controls, give the
            folder to ``kdpl reproduce --world``.
        student, teacher: (name, pretrained); by default ViT-B/32 and ViT-L/14 of OpenAI's.
        k: names that the teacher picks for a batch; 0 takes the usual number.
        label_fraction: the share of labels, 0 to 1, that ``"kdpl"`` learns from as well.

    Raises:
        ValueError: a choice that does not fit the folder, or a file in ``out`` that is not ours.
        FileNotFoundError: the folder or weights are missing.
    """
    start = time.perf_counter()
    out = as_path(out)
    _check_replaceable(out)
    files = read_folder(as_path(folder).resolve(), classnames, labelled)
    names = check_names(files.classnames) if files.classnames else []
    paths, labels = zip(*files.train, *files.test)
    mode = mode or ("kdpl" if names else "kdpl-ca")
    _check_choice(mode, learner, names, min(labels) >= 0, label_fraction)
    words = check_names(load_dictionary(dictionary), dictionary=True) if mode == "kdpl-ca" else []
    k = min(max(2, k or min(len(names) or K_UNKNOWN, K_MAX)), len(words))
    templates = check_templates(templates)
    student, teacher = default_models(student, teacher)
    for model in (student, teacher):
        check_model(*model)
    kind = getattr(learners, LEARNERS[learner])
    changes = EMOJI_RECIPES.get(learner, {}) if student[0] in shipped_models() else {}
    asked = {"epochs": epochs, "lr": lr, "seed": seed}
    recipe = replace(kind.recipe, **{**changes, **{name: value for name, value in asked.items() if value is not None}})

    # A published tag such as "openai" names other weights for each model.
    models = [(model[0], weights_identity(*model)) for model in (student, teacher)]
    pictures = digest(files_key(paths, True), models, precision)
    texts = (list(names), list(words), templates, labels)
    run = digest(pictures, mode, learner, recipe, k, label_fraction, len(files.train), texts)
    written = {"learned": out / "learned.safetensors", "card": out / "README.md"}
    if names and has_classifier(kind):
        written["classifier"] = out / "classifier.safetensors"
    with file_lock(out / "cache" / "lock", f"learning from {folder}"):
        vlm = load_vlm(*student, precision=precision)
        own: dict[str, object] = {"classnames": names} if learner == "linear" else {"seed": seed}
        if learner == "promptkd":
            own["teacher"] = load_vlm(*teacher, precision=precision)  # its text features are the classes
        if earlier := _earlier(written, run, vlm, own):
            report(f"{out} holds the prompts of these pictures and settings: nothing is repeated.")
            return earlier
        report(f"{len(files.train)} pictures, {len(names) or 'no'} class names, {mode} with {learner}.")
        larger = own.get("teacher") or load_vlm(*teacher, precision=precision)
        learned = kind(vlm, **own)
        seen = _encode(out / "cache" / "features.safetensors", pictures, paths, learned, larger)
        for sentence in seen.left_out:
            report(f"Left out: {sentence}")
        own_features, teacher_features = seen.features
        if names:
            before = logits(own_features, encode_names(vlm, names, templates), vlm.scale)
            target = logits(teacher_features, encode_names(larger, names, templates), vlm.scale)
        if words:
            by_words = logits(teacher_features, encode_names(larger, words), vlm.scale)
        del larger, own  # the teacher may need most of the memory

        inputs = own_features
        if learned.visual_prompts():
            inputs = ImageBatches(vlm, [paths[row] for row in seen.rows], keep=len(paths) <= KEPT)
            if inputs.kept is not None:
                inputs.kept.update(enumerate(seen.kept))
        n = sum(row < len(files.train) for row in seen.rows)  # the training pictures come first
        truth = torch.tensor(labels)[seen.rows].to(vlm.device)
        if mode == "labels":
            loss = supervision.from_labels(inputs, truth, names)
        elif mode == "kdpl-ca":
            loss = supervision.from_dictionary(inputs, by_words, words, k)
        elif mode == "promptkd":
            loss = from_promptkd(inputs, target, names)
        elif label_fraction:
            known = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) < round(label_fraction * n)
            known = torch.cat([known, torch.zeros(len(truth) - n, dtype=torch.bool)]).to(vlm.device)
            loss = supervision.from_both(inputs, truth, known, target, names)
        else:
            loss = supervision.from_teacher(inputs, target, names)
        fit(learned, loss, n, recipe)

        tests = range(n, len(truth)) if min(labels) >= 0 else range(0)
        measured: dict[str, float] = {}
        gain = None
        if names:
            rows = torch.tensor(tests or range(n))
            classify = learned.classifier(names)
            with torch.no_grad():
                after = torch.cat([classify(inputs[batch]) for batch in rows.split(256)])
            measured, gain = _measure(before[rows], after, target[rows], truth[rows] if tests else None)
        written["card"].unlink(missing_ok=True)  # it vouches for the files that are replaced now
        save_learner(learned, written["learned"], recipe, names or None)
        if "classifier" in written:
            export_classifier(learned, names, written["classifier"])
        elif (out / "classifier.safetensors").exists():
            (out / "classifier.safetensors").unlink()
            report(f"removed: {out / 'classifier.safetensors'}, which belongs to earlier prompts")
        chosen = f"Class names ({len(names)}): {listed(names)}"
        if words:
            picked = [words[c] for c in select_classes(by_words[: n : 1 + n // PICKING], k).tolist()]
            source = as_code(str(dictionary)) if isinstance(dictionary, str | Path) else "a list"
            chosen = f"Names that the teacher picked most from {source}: {listed(picked)}"
        loads = [
            "kd.load_vlm({})".format(", ".join(repr(part) for part in pair if part)) for pair in (student, teacher)
        ]
        load = f"load_learner('learned.safetensors', {loads[0]}"
        if "classifier" in written:
            load = f"load_classifier('classifier.safetensors', {loads[0]}"
        elif learner == "promptkd":
            load += f", teacher={loads[1]}"
        write_card(
            written["card"],
            run,
            measured,
            verdict(gain, len(tests)) if gain else "",
            folder=as_code(as_path(folder).resolve().name),
            method=f"{kind.__name__}, {mode}",
            labels=f"share of the labels used: {1 if mode == 'labels' else label_fraction:.0%}",
            parameters=f"{learned.n_parameters():,}",
            student=as_code(" ".join(filter(None, student))),
            teacher=as_code(" ".join(filter(None, teacher))),
            data=f"{n} training and {len(tests)} labelled test pictures; {len(seen.left_out)} could not be read",
            names=chosen,
            recipe=f"{recipe.epochs} epochs, batches of {recipe.batch_size}, learning rate {recipe.lr:g}, seed {seed}",
            minutes=f"{(time.perf_counter() - start) / 60:.1f}",
            load=f"{load})",
            more="" if "classifier" in written else ", names",
            on="the labelled test pictures" if tests else "the pictures it was learned from",
        )
    return Adapted(learned, written, measured)


def _check_choice(mode: str, learner: str, names: Sequence[str], has_labels: bool, fraction: float) -> None:
    """Refuse a mode that does not exist here or does not fit the folder."""
    if mode not in MODES:
        raise ValueError(f"There is no mode {mode!r} here: choose from {', '.join(MODES)}; reproduce has the controls.")
    if len(names) == 1 or (mode != "kdpl-ca" and not names):
        raise ValueError(f"The mode {mode} needs at least two class names, and there are {len(names)}: give more.")
    if mode == "promptkd" and learner != "promptkd":
        raise ValueError("The mode promptkd is the objective of the learner promptkd: choose both, or the mode kdpl.")
    if not 0 <= fraction <= 1 or (fraction and mode != "kdpl"):
        raise ValueError(f"The label fraction is {fraction}: give the share of labels that kdpl may learn from.")
    if (mode == "labels" or fraction) and not has_labels:
        raise ValueError("The pictures have no labels: use a subfolder for each class, or the mode kdpl.")


def _check_replaceable(out: Path) -> None:
    """Refuse a folder in which somebody else's file has the name of one that is to be written."""
    kinds = {"README.md": "card", "learned.safetensors": "learner", "classifier.safetensors": "classifier"}
    has_our_card = bool(read_card(out / "README.md"))
    for name, kind in kinds.items():
        is_ours = has_our_card if kind == "card" else holds(out / name, kind) or (has_our_card and _damaged(out / name))
        if (out / name).exists() and not is_ours:
            raise ValueError(
                f"{out / name} was not written by this command, or was changed since: move it, or give another folder."
            )


def _damaged(path: Path) -> bool:
    """Whether a file is no whole safetensors file, as one of ours that was cut short."""
    try:
        read_tensors(path)
    except DamagedError:
        return True
    except OSError:
        pass
    return False


def _earlier(written: dict[str, Path], run: str, vlm: VLM, own: dict) -> Adapted | None:
    """What an earlier run with the same inputs wrote; None where a file is missing or damaged."""
    card = read_card(written["card"])
    if card.get("run") != run or ("classifier" in written and not holds(written["classifier"], "classifier")):
        return None
    teacher = {"teacher": own["teacher"]} if "teacher" in own else {}
    try:
        return Adapted(load_learner(written["learned"], vlm, **teacher), written, card["measured"])
    except (ValueError, FileNotFoundError):
        report_damaged(written["learned"])
        return None


def _encode(file: Path, key: str, paths: Sequence[str], learned: learners.Learner, teacher: VLM) -> Encoded:
    """Features of student and teacher, from the file if it is of these pictures and models."""
    try:
        header, tensors = read_tensors(file)
        if header["key"] == key:
            features = [tensors[model].to(learned.vlm.device) for model in ("student", "teacher")]
            return Encoded(tensors["rows"].tolist(), features, [], json.loads(header["left out"]))
    except (DamagedError, KeyError):
        report_damaged(file)
    except FileNotFoundError:
        pass
    is_kept = bool(learned.visual_prompts()) and len(paths) <= KEPT
    seen = encode_once([(learned.vlm, None), (teacher, None)], paths, lambda _, pixels: pixels if is_kept else None)
    tensors = {"rows": torch.tensor(seen.rows), "student": seen.features[0], "teacher": seen.features[1]}
    write_tensors(file, tensors, {"key": key, "left out": json.dumps(seen.left_out)})
    return seen if is_kept else seen._replace(kept=[])


def _measure(
    before: Tensor, after: Tensor, teacher: Tensor, labels: Tensor | None
) -> tuple[dict[str, float], tuple[float, float, float] | None]:
    """Agreement with the teacher; with labels (N,) also accuracies, and the gain with its interval over classes."""
    measured = {
        "agreement with the teacher, before": 100 * top1_agreement(teacher, before),
        "agreement with the teacher, after": 100 * top1_agreement(teacher, after),
    }
    if labels is None:
        return measured, None
    for what, scores in {"zero-shot student": before, "learned": after, "teacher": teacher}.items():
        measured[f"test accuracy, {what}"] = 100 * accuracy(scores, labels)
    if len(labels.unique()) < 2:  # one class has no interval
        return measured, None
    points = [100 * hits(scores, labels).double() for scores in (before, after)]
    return measured, paired_bootstrap(*points, groups=labels.cpu())  # pictures of a class may be of one thing
