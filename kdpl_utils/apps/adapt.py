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
from ..protocol import all_logits
from ..support.disk import DamagedError, as_path, digest, file_lock, read_tensors, report_damaged, write_tensors
from ..support.statistics import paired_bootstrap
from ..train import Recipe, fit
from ..vlm import VLM, encode_names, logits
from ..worlds.dictionaries import load_dictionary
from ..worlds.emoji import EMOJI_RECIPES
from ..worlds.folders import Names, read_folder
from ..worlds.photos import files_key
from .card import Facts, model_card, read_card, write_card
from .encode import Encoded, Model, default_models, encode_once

MODES = ("kdpl", "kdpl-ca", "labels", "promptkd")  # for the controls, give the folder to kdpl reproduce --world
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
        mode: one of ``MODES``; by default ``"kdpl"``, or ``"kdpl-ca"`` without class names.
        student, teacher: (name, pretrained); by default ViT-B/32 and ViT-L/14 of OpenAI's.
        k: names that the teacher picks for a batch; 0 takes the usual number.
        label_fraction: the share of labels, 0 to 1, that ``"kdpl"`` learns from as well.

    Raises:
        ValueError: a choice that does not exist or does not fit the folder, or a file in ``out`` that is not ours.
        FileNotFoundError: the folder or weights are missing.
    """
    start = time.perf_counter()
    out = as_path(out)
    _check_replaceable(out)
    folder = as_path(folder).resolve()
    files = read_folder(folder, classnames, labelled)
    names = check_names(files.classnames) if files.classnames else []
    labels = [label for _, label in (*files.train, *files.test)]
    mode = mode or ("kdpl" if names else "kdpl-ca")
    _check_choice(mode, learner, names, folder, min(labels) >= 0, label_fraction, len(files.train))
    words = check_names(load_dictionary(dictionary), dictionary=True) if mode == "kdpl-ca" else []
    k = min(k or min(len(names) or K_UNKNOWN, K_MAX), len(words))
    if words and k < 2:
        raise ValueError(f"k is {k}, of {len(words)} names in the dictionary: let the teacher pick at least 2.")
    templates = check_templates(templates)
    student, teacher = default_models(student, teacher)
    for model in (student, teacher):
        check_model(*model)
    recipe = _recipe(learner, student, epochs=epochs, lr=lr, seed=seed)
    kind = getattr(learners, LEARNERS[learner])

    paths = [path for path, _ in (*files.train, *files.test)]
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
        own = {"classnames": names} if learner == "linear" else {"seed": seed}
        needs = {}
        if learner == "promptkd":
            needs["teacher"] = load_vlm(*teacher, precision=precision)  # its text features are the classes
        if earlier := _earlier(written, run, vlm, needs):
            report(f"{out} holds the prompts of these pictures and settings: nothing is repeated.")
            return earlier
        report(f"{len(files.train)} pictures, {len(names) or 'no'} class names, {mode} with {learner}.")
        larger = needs.get("teacher") or load_vlm(*teacher, precision=precision)
        learned = kind(vlm, **own, **needs)
        seen = _encode(out / "cache" / "features.safetensors", pictures, paths, learned, larger)
        for sentence in seen.left_out:
            report(f"Left out: {sentence}")
        by_student, by_teacher, by_words = _scores(seen, vlm, larger, names, templates, words)
        del larger, needs  # the teacher may need most of the memory

        def inputs(rows: range) -> Tensor | ImageBatches:
            """What the learner sees: features, or the images if it has visual prompts."""
            if not learned.visual_prompts():
                return seen.features[0][rows.start : rows.stop]
            images = ImageBatches(vlm, [paths[seen.rows[i]] for i in rows], keep=len(rows) <= KEPT)
            if images.kept is not None:
                images.kept.update(enumerate(seen.kept[rows.start : rows.stop]))
            return images

        n = sum(row < len(files.train) for row in seen.rows)  # the training pictures come first
        truth = torch.tensor(labels)[seen.rows].to(vlm.device)
        x = inputs(range(n))
        if mode == "labels":
            loss = supervision.from_labels(x, truth[:n], names)
        elif mode == "kdpl-ca":
            loss = supervision.from_dictionary(x, by_words[:n], words, k)
        elif mode == "promptkd":
            loss = from_promptkd(x, by_teacher[:n], names)
        elif label_fraction:
            known = torch.randperm(n, generator=torch.Generator().manual_seed(seed)) < round(label_fraction * n)
            loss = supervision.from_both(x, truth[:n], known.to(vlm.device), by_teacher[:n], names)
        else:
            loss = supervision.from_teacher(x, by_teacher[:n], names)
        fit(learned, loss, n, recipe)

        tests = range(n, len(seen.rows)) if min(labels) >= 0 else range(0)
        facts = Facts(folder.name, mode, label_fraction, student, teacher, recipe, names, n, len(tests))
        facts.left_out = len(seen.left_out)
        if words:
            some = by_words[: n : 1 + n // PICKING]
            facts.dictionary = str(dictionary) if isinstance(dictionary, str | Path) else "a list"
            facts.picked = [words[c] for c in select_classes(some, k).tolist()]
        if names:
            rows = tests or range(n)
            after = all_logits(learned.classifier(names), inputs(rows))
            found = {"zero-shot student": by_student[rows], "learned": after, "teacher": by_teacher[rows]}
            _measure(facts, found, truth[rows] if tests else None)
        written["card"].unlink(missing_ok=True)  # it vouches for the files that are replaced now
        save_learner(learned, written["learned"], recipe, names or None)
        if "classifier" in written:
            export_classifier(learned, names, written["classifier"])
        elif (out / "classifier.safetensors").exists():
            (out / "classifier.safetensors").unlink()
            report(f"removed: {out / 'classifier.safetensors'}, which belongs to earlier prompts")
        facts.minutes = (time.perf_counter() - start) / 60
        write_card(written["card"], model_card(facts, learned, "classifier" in written), run, facts.measured)
    return Adapted(learned, written, facts.measured)


def _check_choice(
    mode: str, learner: str, names: Sequence[str], folder: Path, has_labels: bool, fraction: float, n: int
) -> None:
    """Refuse a mode or a learner that does not exist or does not fit the folder."""
    if mode not in MODES:
        raise ValueError(f"There is no mode {mode!r} here: choose one of {', '.join(MODES)}.")
    if learner not in LEARNERS:
        raise ValueError(f"There is no learner {learner!r}: choose one of {', '.join(LEARNERS)}.")
    if len(names) == 1:
        raise ValueError(f"{names[0]!r} is the only class name, so every prediction is correct: give two or more.")
    if mode != "kdpl-ca" and not names:
        raise ValueError(f"The mode {mode} needs class names: give some, or choose kdpl-ca, which picks its own.")
    if learner == "linear" and mode == "kdpl-ca":
        raise ValueError("The learner linear has a row for each class, and kdpl-ca picks names: choose another one.")
    if mode == "promptkd" and learner != "promptkd":
        raise ValueError("The mode promptkd is the objective of the learner promptkd: choose both, or the mode kdpl.")
    if fraction and (mode != "kdpl" or not 0 < fraction <= 1 or not round(fraction * n)):
        raise ValueError(f"The label fraction is {fraction}: give the share of {n} labels that kdpl may learn from.")
    if (mode == "labels" or fraction) and not has_labels:
        raise ValueError(f"The pictures of {folder} have no labels: use a subfolder for each class, or the mode kdpl.")


def _recipe(learner: str, student: Model, **asked) -> Recipe:
    """The published recipe, or that of the shipped models, with what was asked for otherwise."""
    own = EMOJI_RECIPES.get(learner, {}) if student[0] in shipped_models() else {}
    asked = {name: value for name, value in asked.items() if value is not None}
    return replace(getattr(learners, LEARNERS[learner]).recipe, **{**own, **asked})


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


def _earlier(written: dict[str, Path], run: str, vlm: VLM, needs: dict[str, VLM]) -> Adapted | None:
    """What an earlier run with the same inputs wrote; None where a file is missing or damaged."""
    card = read_card(written["card"])
    if card.get("run") != run or ("classifier" in written and not holds(written["classifier"], "classifier")):
        return None
    try:
        return Adapted(load_learner(written["learned"], vlm, **needs), written, card["measured"])
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


@torch.no_grad()
def _scores(
    seen: Encoded, vlm: VLM, teacher: VLM, names: Sequence[str], templates: Sequence[str], words: Sequence[str]
) -> list[Tensor | None]:
    """Logits of student and teacher for the names and of the teacher for the words, all with the student's scale."""
    own, larger = seen.features
    return [
        logits(own, encode_names(vlm, names, templates), vlm.scale) if names else None,
        logits(larger, encode_names(teacher, names, templates), vlm.scale) if names else None,
        logits(larger, encode_names(teacher, words), vlm.scale) if words else None,
    ]


def _measure(facts: Facts, found: dict[str, Tensor], labels: Tensor | None) -> None:
    """Agreement with the teacher; with labels (N,) also accuracies, and the gain with its interval over classes."""
    before, after, teacher = found.values()
    facts.measured["agreement with the teacher, before"] = 100 * top1_agreement(teacher, before)
    facts.measured["agreement with the teacher, after"] = 100 * top1_agreement(teacher, after)
    if labels is None:
        return
    for what, scores in found.items():
        facts.measured[f"test accuracy, {what}"] = 100 * accuracy(scores, labels)
    if len(labels.unique()) > 1:  # one class has no interval
        points = [100 * hits(scores, labels).double() for scores in (before, after)]
        facts.gain = paired_bootstrap(*points, groups=labels.cpu())  # pictures of a class may be of one thing
