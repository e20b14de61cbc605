"""Explorers of what models say about a picture, and how sure they are of it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import ipywidgets as W
import numpy as np
import torch
from torch import Tensor

from .. import plots
from ..evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    kl_bits,
    perturb,
    reliability_curve,
)
from ..support.tensors import as_labels
from ..support.values import real
from .controls import TEMPERATURES, _cached, _choice, _how_many, _label, _labels, _match, _names, _pick, _steps
from .explorer import Explorer


def teacher_student(
    images: Sequence,
    names: Sequence[str],
    teacher_logits: Tensor,
    student_logits: Tensor | Sequence[Tensor],
    labels: Tensor | None = None,
    steps: Sequence[str] | None = None,
    k: int = 6,
) -> Explorer:
    """The signature explorer: teacher, student before, student after and label, a picture at a time, worst first.

    Args:
        images: N pictures (PIL or arrays).
        names: C class names.
        teacher_logits: (N, C).
        student_logits: (N, C), or one for each training step (S, N, C), the first of them before training.
        labels: (N,) indices of names, −1 for none; or None.
        steps: S names of the steps; by default 0…S−1, epochs.
    """
    names = _names(names)
    teacher, students = _cached(teacher_logits), _cached(student_logits)
    if students.ndim == 2:
        students = students[None]
    _match(images, teacher, names)
    _match(images, students, names)
    labels = _labels(labels, images, names)
    n, last_step = len(images), len(students) - 1
    trained = last_step > 0
    steps = [str(step) for step in (range(last_step + 1) if steps is None else steps)]
    if len(steps) != last_step + 1:
        raise ValueError(f"There are {len(steps)} names for {last_step + 1} steps: give one for each.")
    kl_at = {}  # temperature → (S, N) bits
    for temperature in TEMPERATURES:
        kl_at[temperature] = np.stack([kl_bits(teacher, student, temperature).numpy() for student in students])
    orders = _orders(kl_at[1.0], trained)
    before = "student before" if trained else "student"

    def draw(order, picture, temperature, names_shown, step=0):
        i = int(orders[order][picture - 1])
        bits = kl_at[temperature]
        logits = torch.cat([teacher[None, i], students[[0, step], i]])
        teacher_p, before_p, after_p = logits.div(temperature).softmax(-1).numpy()
        rows = {"teacher": teacher_p, before: before_p}
        kl_by_role = {before: float(bits[0, i])}
        title = f"{bits[0, i]:.2f} bits from the teacher"
        curve, all_kl = None, bits[0]
        if trained:
            rows["student after"] = after_p
            kl_by_role["student after"] = float(bits[step, i])
            when = "after" if step == last_step else f"at epoch {steps[step]}"
            title += f" before training, {bits[step, i]:.2f} {when}"
            curve, all_kl = bits[:, i], bits.mean(axis=1)
        label = _label(labels, i)
        figure = plots.teacher_student(
            images[i], names, rows, kl_by_role, label, names_shown, curve, all_kl, step, steps, title
        )
        answers = ", ".join(f"{role}: {names[int(p.argmax())]}" for role, p in rows.items())
        truth = f" Label: {names[label]}." if label is not None else ""
        return figure, f"Picture {i + 1} of {n}.{truth} First answers: {answers}. {title}."

    controls = {"order": _choice(orders, "order"), "picture": _pick(n)}
    if trained:
        controls["step"] = W.IntSlider(last_step, 0, last_step, description="training epoch")
    controls["temperature"] = _steps(TEMPERATURES, 1.0, "temperature")
    controls["names_shown"] = _how_many(len(names), k)
    return Explorer(draw, **controls)


def _orders(kl: np.ndarray, trained: bool) -> dict[str, np.ndarray]:
    """Orders of the N pictures by their KL (S, N), by what an order is called."""
    as_given = np.zeros(kl.shape[1])
    if trained:
        sort_keys = {
            "KL before, worst first": -kl[0],
            "as given": as_given,
            "KL after, worst first": -kl[-1],
            "KL fell most": kl[-1] - kl[0],
            "KL rose most": kl[0] - kl[-1],
        }
    else:
        sort_keys = {"KL, worst first": -kl[0], "as given": as_given}
    return {order: np.argsort(sort_key, kind="stable") for order, sort_key in sort_keys.items()}


def prediction(
    images: Sequence,
    image_features: Tensor,
    names: Sequence[str],
    text_features: Tensor,
    scale: float,
    labels: Tensor | None = None,
    k: int = 8,
) -> Explorer:
    """One picture against names of your choice; cosines, logits or probabilities.

    Args:
        image_features: (N, D); text_features: (C, D) of all names to choose from; all unit vectors.
        labels: (N,) indices of names; or None.
    """
    cosines, names = _cached(image_features) @ _cached(text_features).T, _names(names)
    _match(images, cosines, names)
    labels = _labels(labels, images, names)
    place = {name.casefold(): c for c, name in enumerate(names)}

    def chosen(typed: str) -> list[int]:
        wanted = [w.strip().casefold() for w in typed.split(",") if w.strip()]
        if unknown := [w for w in wanted if w not in place]:
            near = ", ".join(difflib.get_close_matches(unknown[0], place, 3, 0.5)) or ", ".join(list(place)[:3])
            raise LookupError(f"{unknown[0]!r} is not among the {len(names)} encoded names: try {near}.")
        return [place[w] for w in dict.fromkeys(wanted)] or list(range(len(names)))

    def draw(picture, only, view):
        i = picture - 1
        try:
            columns, sorry = chosen(only), ""
        except LookupError as error:  # a word typed by a reader is no fault of the program
            columns, sorry = list(range(len(names))), f"{error.args[0]} Shown are all. "
        values, shown = cosines[i, columns], [names[c] for c in columns]
        values = values if view == "cosine" else values * float(scale)
        values = values.softmax(-1) if view == "probability" else values
        label = _label(labels, i)
        label = columns.index(label) if label in columns else None
        figure = plots.prediction(images[i], shown, values.numpy(), view, label, k)
        best = int(values.argmax())
        return figure, f"{sorry}Of {len(shown)} names the nearest is {shown[best]} ({view} {values[best]:.2f})."

    return Explorer(
        draw,
        picture=_pick(len(images)),
        only=W.Text(description="only these names", placeholder="comma-separated; empty for all"),
        view=_choice(["cosine", "logit", "probability"], "view", "probability"),
    )


def temperature(
    images: Sequence, names: Sequence[str], cosines: Mapping[str, Tensor], labels: Tensor, scale: float
) -> Explorer:
    """What the scale does to one picture's distribution and to everybody's calibration.

    Args:
        cosines: (N, C) for each set of templates, by a name for it.
        labels: (N,); scale: the model's own, where the slider starts.
    """
    cosines, names = {t: _cached(c) for t, c in cosines.items()}, _names(names)
    own = real(scale, "scale", 0, above=True)
    labels = _labels(labels, images, names, least=0)
    for c in cosines.values():
        _match(images, c, names)
    scales = sorted({*np.geomspace(1, 200, 20).round(3).tolist(), own})
    curves, eces = {}, {}
    for t, c in cosines.items():
        for s in scales:
            p = (c * s).softmax(-1)
            curves[t, s], eces[t, s] = reliability_curve(p, labels), expected_calibration_error(p, labels)

    def draw(scale, templates, picture):
        p = (cosines[templates][picture - 1 : picture] * scale).softmax(-1)
        curve, ece, nats = curves[templates, scale], eces[templates, scale], float(entropy(p))
        label = _label(labels, picture - 1)
        figure = plots.temperature(images[picture - 1], names, p[0].numpy(), nats, curve, scale, ece, label)
        mean = (curve[0].nan_to_num() * curve[2]).sum() / curve[2].sum()
        right = (curve[1].nan_to_num() * curve[2]).sum() / curve[2].sum()
        note = " (the model's own)" if scale == own else ""
        return figure, (
            f"Scale {scale:.3g}{note}: mean confidence {mean:.1%}, accuracy {right:.1%}, ECE {ece:.1%}. "
            "The scale moves the first and the last, never the accuracy."
        )

    return Explorer(
        draw,
        scale=_steps(scales, own, "scale"),
        templates=_choice(cosines, "templates"),
        picture=_pick(len(images)),
    )


def calibration_bench(
    logits: Mapping[str, Tensor],
    labels: Tensor,
    temperatures: Sequence[float] = TEMPERATURES,
    noises: Sequence[float] = (0.0, 0.5, 1.0),
    effect: Mapping[str, np.ndarray] | None = None,
    metric: str = "student's H, %",
    zero_shot: float | None = None,
    seed: int = 0,
) -> Explorer:
    """Teachers made less certain or less right, and what their students became.

    Args:
        logits: (N, C) of each teacher.
        effect: for each teacher (temperatures, noises, seeds), from runs made before.
        zero_shot: the same metric before training.
    """
    labels, bench = as_labels(labels).cpu(), {}
    for name, scores in logits.items():
        for noise in noises:
            for t in temperatures:
                p = perturb(_cached(scores), t, noise, seed).softmax(-1)
                bench[name, t, noise] = (
                    reliability_curve(p, labels),
                    entropy(p).numpy(),
                    expected_calibration_error(p, labels),
                    accuracy(p, labels),
                )
    limits = {name: math.log(scores.shape[1]) for name, scores in logits.items()}

    first = next(iter(logits))

    def draw(temperature, noise, teacher=first):
        curve, nats, ece, right = bench[teacher, temperature, noise]
        runs = None if effect is None else np.asarray(effect[teacher])[:, list(noises).index(noise)]
        now = list(temperatures).index(temperature)
        what = f"{teacher} at temperature {temperature:g}" + (f", noise {noise:g}" if noise else "")
        figure = plots.calibration_bench(
            curve, nats, limits[teacher], ece, what, temperatures, now, runs, metric, zero_shot
        )
        student_result = "" if runs is None else f" {metric}: {runs[now].mean():.1f}."
        return (
            figure,
            f"{what}: right for {right:.1%}, ECE {ece:.1%}, mean entropy {nats.mean():.2f} nats.{student_result}",
        )

    start = 1.0 if 1.0 in temperatures else temperatures[0]
    which = {"teacher": _choice(logits, "teacher")} if len(logits) > 1 else {}  # one is no choice
    return Explorer(
        draw,
        **which,
        temperature=_steps(temperatures, start, "temperature"),
        noise=_steps(noises, noises[0], "noise"),
    )
