"""Explorers of what models predict for a picture, and how confident they are."""

from __future__ import annotations

import difflib
import itertools

import ipywidgets as W
import numpy as np
import torch

from .. import plots
from ..evaluate import accuracy, entropy, expected_calibration_error, kl_bits, perturb, reliability_curve
from .explorer import TEMPERATURES, Explorer, choice, label_names, ladder, pick, table


def teacher_student(images, names, teacher_logits, student_logits, labels=None, steps=None, k=6) -> Explorer:
    """The signature explorer: teacher, student before, student after and label, a picture at a time, worst first.

    Args:
        images: N pictures.
        names: C class names.
        teacher_logits: (N, C).
        student_logits: (N, C), or one for each training step (S, N, C), the first of them before training.
        labels: (N,) indices of names, −1 for none; or None.
        steps: S names of the steps; by default 0…S−1, epochs.
    """
    teacher = table(teacher_logits, images, names)
    students = table(student_logits, images, names)
    students = students if students.ndim == 3 else students[None]
    labels = label_names(labels, images, names)
    last = len(students) - 1
    steps = steps or [str(step) for step in range(last + 1)]
    kl_at = {t: np.stack([kl_bits(teacher, student, t).numpy() for student in students]) for t in TEMPERATURES}
    first = kl_at[1.0][0]
    final = kl_at[1.0][-1]
    keys = {"KL before, worst first" if last else "KL, worst first": -first, "as given": 0 * first}
    if last:
        keys |= {"KL after, worst first": -final, "KL fell most": final - first, "KL rose most": first - final}
    orders = {name: np.argsort(key, kind="stable") for name, key in keys.items()}
    before = "student before" if last else "student"

    def draw(order, picture, temperature, names_shown, step=0):
        i = int(orders[order][picture - 1])
        bits = kl_at[temperature]
        logits = {"teacher": teacher[i], before: students[0, i]}
        kl = {before: float(bits[0, i])}
        title = f"{bits[0, i]:.2f} bits from the teacher"
        if last:
            logits["student after"] = students[step, i]
            kl["student after"] = float(bits[step, i])
            when = "after" if step == last else f"at epoch {steps[step]}"
            title += f" before training, {bits[step, i]:.2f} {when}"
        rows = {role: (x / temperature).softmax(-1).numpy() for role, x in logits.items()}
        progress = {"curve": bits[:, i], "everyone": bits.mean(axis=1)} if last else {"everyone": bits[0]}
        progress |= {"step": step, "steps": steps, "title": title}
        figure = plots.teacher_student(images[i], names, rows, kl, labels[i], names_shown, **progress)
        tops = ", ".join(f"{role}: {names[int(p.argmax())]}" for role, p in rows.items())
        truth = f" Label: {labels[i]}." if labels[i] else ""
        return figure, f"Picture {i + 1} of {len(images)}.{truth} Top predictions: {tops}. {title}."

    controls = {"order": choice(orders, "order"), "picture": pick(len(images))}
    if last:
        controls["step"] = W.IntSlider(last, 0, last, description="training epoch")
    controls["temperature"] = ladder(TEMPERATURES, 1.0, "temperature")
    controls["names_shown"] = W.IntSlider(min(k, len(names)), min(2, len(names)), min(12, len(names)))
    return Explorer(draw, **controls)


def prediction(images, image_features, names, text_features, scale, labels=None) -> Explorer:
    """One picture against names of your choice; cosines, logits or probabilities.

    Args:
        image_features: (N, D); text_features: (C, D) of all names to choose from; all unit vectors.
        labels: (N,) indices of names, −1 for none; or None.
    """
    cosines = table(image_features.cpu() @ text_features.cpu().T, images, names)
    labels = label_names(labels, images, names)
    place = {name.casefold(): c for c, name in enumerate(names)}

    def chosen(typed: str) -> tuple[list[int], str]:
        wanted = [word.strip().casefold() for word in typed.split(",") if word.strip()]
        unknown = [word for word in wanted if word not in place]
        columns = [place[word] for word in dict.fromkeys(wanted) if word in place]
        if not unknown:
            return columns or list(range(len(names))), ""
        near = difflib.get_close_matches(unknown[0], place, 3, 0.5) or list(place)[:3]
        return list(range(len(names))), (
            f"{unknown[0]!r} is not among the {len(names)} encoded names: try {', '.join(near)}. All names are shown. "
        )

    def draw(picture, only, view):
        columns, note = chosen(only)
        values = cosines[picture - 1, columns] * (1 if view == "cosine" else float(scale))
        values = values.softmax(-1) if view == "probability" else values
        shown = [names[c] for c in columns]
        rows = {"student": values.numpy()}
        title = f"The {view} of each name"
        figure = plots.distributions(images[picture - 1], shown, rows, labels[picture - 1], 8, title, view)
        best = int(values.argmax())
        return figure, f"{note}Of {len(shown)} names, {shown[best]} has the highest {view}, {values[best]:.2f}."

    return Explorer(
        draw,
        picture=pick(len(images)),
        only=W.Text(description="only these names", placeholder="comma-separated; empty for all"),
        view=choice(["cosine", "logit", "probability"], "view", "probability"),
    )


def temperature(images, names, cosines, labels, scale) -> Explorer:
    """What the scale does to one picture's distribution and to the calibration over all pictures.

    Args:
        cosines: (N, C) for each set of templates, by a name for it.
        labels: (N,); scale: the model's own, where the slider starts.
    """
    cosines = {name: table(c, images, names) for name, c in cosines.items()}
    labelled = label_names(labels, images, names)
    labels = torch.as_tensor(labels)
    own = float(scale)
    scales = sorted({*np.geomspace(1, 200, 20).round(3).tolist(), own})
    measured = {}
    for (name, c), s in itertools.product(cosines.items(), scales):
        p = (c * s).softmax(-1)
        ece = expected_calibration_error(p, labels)
        confidence = float(p.max(-1).values.mean())
        words = f"mean confidence {confidence:.1%}, accuracy {accuracy(p, labels):.1%}, ECE {ece:.1%}"
        measured[name, s] = reliability_curve(p, labels), ece, words

    def draw(scale, templates, picture):
        i = picture - 1
        p = (cosines[templates][[i]] * scale).softmax(-1)
        nats = float(entropy(p))
        curve, ece, words = measured[templates, scale]
        figure = plots.temperature(images[i], names, p[0].numpy(), nats, curve, scale, ece, labelled[i])
        note = " (the model's own)" if scale == own else ""
        return figure, f"Scale {scale:.3g}{note}: {words}. The scale changes confidence and ECE, never the accuracy."

    return Explorer(
        draw,
        scale=ladder(scales, own, "scale"),
        templates=choice(cosines, "templates"),
        picture=pick(len(images)),
    )


def calibration_bench(logits, labels) -> Explorer:
    """Teachers made less confident, by temperature, or less correct, by noise: ``logits`` (N, C) of each by name."""
    noises = (0.0, 0.5, 1.0)
    measured = {}
    for name, scores in logits.items():
        scores = scores.detach().float().cpu()
        for t, noise in itertools.product(TEMPERATURES, noises):
            p = perturb(scores, t, noise).softmax(-1)
            ece = expected_calibration_error(p, labels)
            words = f"accuracy {accuracy(p, labels):.1%}, ECE {ece:.1%}, mean entropy {entropy(p).mean():.2f} nats"
            measured[name, t, noise] = reliability_curve(p, labels), words

    first = next(iter(logits))

    def draw(temperature, noise, teacher=first):
        curve, words = measured[teacher, temperature, noise]
        what = f"{teacher} at temperature {temperature:g}" + (f", noise {noise:g}" if noise else "")
        return plots.reliability({"teacher": curve}, what), f"{what}: {words}."

    controls = {"teacher": choice(logits, "teacher")} if len(logits) > 1 else {}  # one is no choice
    controls["temperature"] = ladder(TEMPERATURES, 1.0, "temperature")
    return Explorer(draw, **controls, noise=ladder(noises, 0.0, "noise"))
