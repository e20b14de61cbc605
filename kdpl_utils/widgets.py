"""Explorers: a few controls, one picture, one line of text.  They index what was computed before; no model runs here.

Each explorer is a function of arrays that returns an ``Explorer``; a notebook shows it by naming it last in a cell.
``inspect_pair`` (in ``inspection.py``) makes the arrays of the signature explorer from any two models.
"""

from __future__ import annotations

import base64
import difflib
import gc
import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import ipywidgets as W
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from . import plots
from .distill import forward_kl, reverse_kl, select_classes, symmetric_kl
from .evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    kl_bits,
    pareto_front,
    perturb,
    reliability_curve,
    selection_recall,
)

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class Explorer:
    """Controls with visible labels, one picture with alternative text, one line of text.

    ``draw(**values)`` gets each control's value by its name and returns a figure of ``plots`` and the line of text.
    What it raises is written where the picture was, and raised again: a stale picture never stands beside new values.

    Attributes:
        controls: the ipywidgets by name, in reading order.
        picture, text: ``HTML`` widgets.  (``ipywidgets.Image`` has no place for alternative text.)
        alt: the sentence about the picture's data.
        png: the picture as a file, which stays in a notebook when no kernel runs.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], **controls: W.ValueWidget):
        self.draw, self.controls = draw, controls
        self.picture, self.text, self.alt, self.png = W.HTML(), W.HTML(), "", b""
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.style.description_width = "10.5em"
            control.layout.width = "min(40em, 98%)"
            if isinstance(control, W.ToggleButtons):
                control.style.button_width, control.layout.width = "auto", "98%"
            if hasattr(control, "continuous_update"):
                control.continuous_update = False  # one redraw for a drag, not one for each pixel
            control.observe(self._changed, names="value")
        self.box = W.VBox([*controls.values(), self.text, self.picture])
        self._changed()

    @property
    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, _=None) -> None:
        try:
            with _dying_young():
                figure, text = self.draw(**self.values)
                self.png, self.alt = plots.png(figure), figure.alt
                width, height = figure.get_size_inches() * 100
                del figure
        except Exception as error:
            self.png, self.alt, self.picture.value = b"", "", ""
            self.text.value = (
                f'<div role="alert" class="kdpl-text"><b>{html.escape(f"{type(error).__name__}: {error}")}</b></div>'
            )
            raise
        self.text.value = f'<div role="status" class="kdpl-text">{html.escape(text)}</div>'
        self.picture.value = (
            f'<img class="kdpl-picture" alt="{html.escape(self.alt)}" width="{width:.0f}" height="{height:.0f}" '
            'style="max-width: 100%; height: auto" '
            f'src="data:image/png;base64,{base64.b64encode(self.png).decode()}">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """One output that holds both the live view and a picture, for pages where no kernel runs."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": self.alt}
        data["image/png"] = base64.b64encode(self.png).decode()
        return data, {"image/png": {"alt": self.alt}}

    def __repr__(self) -> str:
        return f"Explorer({', '.join(f'{name}={value!r}' for name, value in self.values.items())}): {self.alt}"


@contextmanager
def _dying_young() -> Iterator[None]:
    """A figure is thousands of objects in cycles.  Collected at once they cost milliseconds; left to age beside
    PyTorch's modules they cost half a second at every twentieth redraw."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
            gc.collect(0)


def widget_errors(notebook: Mapping) -> list[str]:
    """Errors that an executed notebook hides: in the state of its widgets, and in outputs that look harmless.

    Args:
        notebook: as nbformat or json reads it.

    Returns:
        A line for each: "cell 3 (03-02): ValueError: …"; widgets without a cell by their model id.
    """
    found = []
    for number, cell in enumerate(notebook.get("cells", [])):
        for line in _errors(cell.get("outputs", [])):
            found.append(f"cell {number} ({cell.get('id', 'no id')}): {line}")
    states = notebook.get("metadata", {}).get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for model, entry in states.get("state", {}).items():
        state = entry.get("state", {})
        found += [f"widget {model}: {line}" for line in _errors(state.get("outputs") or [])]
        if 'role="alert"' in str(state.get("value", "")):
            found.append(f"widget {model}: {state['value']}")
    return found


def _errors(outputs: Sequence[Mapping]) -> list[str]:
    return [f"{o.get('ename')}: {o.get('evalue')}" for o in outputs if o.get("output_type") == "error"]


# --- controls


def _pick(n: int, what: str = "picture") -> W.IntSlider:
    return W.IntSlider(1, 1, max(n, 1), description=what)


def _steps(options: Sequence[float], value: float, what: str) -> W.SelectionSlider:
    return W.SelectionSlider(options=[(f"{x:.3g}", x) for x in options], value=value, description=what)


def _choice(options: Sequence, what: str, value=None) -> W.ToggleButtons:
    """All choices in sight, taken with the space bar.  JupyterLab keeps the arrow keys from lists and radio buttons."""
    options = list(options)
    return W.ToggleButtons(options=options, value=options[0] if value is None else value, description=what)


def _how_many(n_names: int, k: int) -> W.IntSlider:
    return W.IntSlider(min(k, n_names), min(2, n_names), min(12, n_names), description="names shown")


def _cached(x: Tensor | Sequence) -> Tensor:
    """On the CPU, in float32, without gradient: what callbacks index."""
    x = torch.stack([_cached(part) for part in x]) if isinstance(x, list | tuple) else torch.as_tensor(x)
    return x.detach().to("cpu", torch.float32)


def _label(labels: Tensor | None, i: int) -> int | None:
    return None if labels is None or labels[i] < 0 else int(labels[i])


def _match(images: Sequence, scores: Tensor, names: Sequence[str], labels: Tensor | None = None) -> None:
    shape = tuple(scores.shape[-2:])
    if shape != (len(images), len(names)):
        raise ValueError(f"{len(images)} images and {len(names)} names need logits of that shape, not {shape}.")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} images need as many labels, not {len(labels)}.")


# --- the explorers


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
    teacher, students, names = _cached(teacher_logits), _cached(student_logits), list(names)
    students = students[None] if students.ndim == 2 else students
    _match(images, teacher, names, labels)
    _match(images, students, names)
    n, last = len(images), len(students) - 1
    steps = [str(s) for s in (range(last + 1) if steps is None else steps)]
    kl = {t: np.stack([kl_bits(teacher, s, t).numpy() for s in students]) for t in TEMPERATURES}  # (S, N) each
    orders = {"KL before, worst first": -kl[1.0][0], "as given": np.zeros(n)}
    if last:
        orders["KL after, worst first"] = -kl[1.0][-1]
        orders["KL fell most"] = kl[1.0][-1] - kl[1.0][0]
        orders["KL rose most"] = kl[1.0][0] - kl[1.0][-1]
    else:
        orders = {"KL, worst first": orders["KL before, worst first"], "as given": orders["as given"]}
    orders = {name: np.argsort(key, kind="stable") for name, key in orders.items()}
    before = "student before" if last else "student"

    def draw(order, picture, temperature, names_shown, step=0):
        i = int(orders[order][picture - 1])
        p = torch.cat([teacher[None, i], students[[0, step], i]]).div(temperature).softmax(-1).numpy()
        bits, label = kl[temperature], _label(labels, i)
        rows, told = {"teacher": p[0], before: p[1]}, {before: float(bits[0, i])}
        title = f"{told[before]:.2f} bits from the teacher" + (" before training" if last else "")
        if last:
            rows["student after"], told["student after"] = p[2], float(bits[step, i])
            title += f", {told['student after']:.2f} " + ("after" if step == last else f"at epoch {steps[step]}")
        curve, everyone = (bits[:, i], bits.mean(axis=1)) if last else (None, bits[0])
        figure = plots.teacher_student(
            images[i], names, rows, told, label, names_shown, curve, everyone, step, steps, title
        )
        right = {role: names[int(q.argmax())] for role, q in rows.items()}
        answers = ", ".join(f"{role}: {name}" for role, name in right.items())
        truth = f" Label: {names[label]}." if label is not None else ""
        return figure, f"Picture {i + 1} of {n}.{truth} First answers: {answers}. {title}."

    controls = {"order": _choice(orders, "order"), "picture": _pick(n)}
    if last:
        controls["step"] = W.IntSlider(last, 0, last, description="training epoch")
    controls |= {
        "temperature": _steps(TEMPERATURES, 1.0, "temperature"),
        "names_shown": _how_many(len(names), k),
    }
    return Explorer(draw, **controls)


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
    cosines, names = _cached(image_features) @ _cached(text_features).T, list(names)
    _match(images, cosines, names, labels)
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
    cosines, names, labels, own = {t: _cached(c) for t, c in cosines.items()}, list(names), labels.cpu(), float(scale)
    for c in cosines.values():
        _match(images, c, names, labels)
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


def context_step(
    words: Sequence[Sequence[Sequence[str]]],
    distances: Sequence,
    text_features: Tensor,
    curves: Mapping[str, Sequence[float]],
    started: Sequence[str] = (),
) -> Explorer:
    """A learned context over training: what it reads like, what it does to the names, what that gains.

    Args:
        words: S × n_ctx × k nearest words, nearest first; distances: the same shape.
        text_features: (S, C, D) unit features of the names at each step.
        curves: (S,) per cent for "base" and "novel"; step 0 is before training.
        started: the n_ctx words of the start.
    """
    features = _cached(text_features)
    similarity, distances = (features @ features.transpose(1, 2)).numpy(), np.asarray(distances)
    if any(len(x) != len(words) for x in (distances, similarity, *curves.values())):
        raise ValueError("words, distances, text_features and curves must have the same number of steps.")

    def draw(step, position):
        at = position - 1
        was = started[at] if len(started) else ""
        figure = plots.context_step(words[step][at], distances[step][at], similarity[step], curves, step, at, was)
        off = similarity[step][~np.eye(similarity.shape[1], dtype=bool)].mean()
        told = ", ".join(f"{name} {values[step]:.1f} %" for name, values in curves.items())
        return figure, f"After epoch {step}: {told}; two different names have a cosine of {off:.2f} on average."

    last = len(words) - 1
    return Explorer(
        draw,
        step=W.IntSlider(last, 0, last, description="training epoch"),
        position=W.IntSlider(1, 1, len(words[0]), description="context vector"),
    )


def simplex(names: Sequence[str] = ("cat", "dog", "car"), teacher=(2.0, 1.0), student=(-1.0, 0.5)) -> Explorer:
    """Three names, two distributions, three losses.  Each distribution has two logits; the third name's is 0."""
    side = 16
    points = torch.tensor([[i, j, side - i - j] for i in range(side + 1) for j in range(side + 1 - i)]) / side
    points = (points + 0.01) / 1.03  # off the edges, where a KL is infinite
    losses = {"forward": forward_kl, "reverse": reverse_kl, "symmetric": symmetric_kl}

    def draw(teacher_1, teacher_2, student_1, student_2, temperature, shades):
        t = torch.tensor([[teacher_1, teacher_2, 0.0]]) / temperature
        s = (torch.tensor([[student_1, student_2, 0.0]]) / temperature).requires_grad_()
        values = {name: loss(t, s) for name, loss in losses.items()}
        moves = {name: (s - 2 * torch.autograd.grad(v, s)[0]).softmax(-1)[0].detach() for name, v in values.items()}
        bits = {name: v.item() / math.log(2) for name, v in values.items()}
        many, spread = t.expand(len(points), 3), points.log()
        forward, reverse = kl_bits(many, spread), kl_bits(spread, many)
        land = {"forward": forward, "reverse": reverse, "symmetric": (forward + reverse) / 2}[shades]
        p, q = t.softmax(-1)[0], s.detach().softmax(-1)[0]
        figure = plots.simplex(
            names, p, q, bits, moves, land, points, f"Where each KL pulls the student (T = {temperature:g})"
        )
        return figure, "In bits: " + ", ".join(f"{name} {value:.2f}" for name, value in bits.items()) + "."

    def logit(value, role, name):
        return W.FloatSlider(value, min=-4, max=4, step=0.25, description=f"{role}, {name}")

    return Explorer(
        draw,
        teacher_1=logit(teacher[0], "teacher", names[0]),
        teacher_2=logit(teacher[1], "teacher", names[1]),
        student_1=logit(student[0], "student", names[0]),
        student_2=logit(student[1], "student", names[1]),
        temperature=_steps(TEMPERATURES, 1.0, "temperature"),
        shades=_choice(losses, "shades show", "symmetric"),
    )


def class_pick(
    images: Sequence, teacher_logits: Tensor, labels: Tensor, names: Sequence[str], dictionary: Sequence[str]
) -> Explorer:
    """The names a teacher picks for a batch out of a dictionary.

    Args:
        teacher_logits: (N, D) over the dictionary's D names.
        labels: (N,) indices of ``names``; those of them that the dictionary holds are marked.
    """
    logits, labels = _cached(teacher_logits), labels.cpu()
    _match(images, logits, dictionary, labels)
    position = {name: d for d, name in enumerate(dictionary)}
    true = torch.tensor([position.get(name, -1) for name in names])[labels]
    present = labels.unique()

    def batch(classes: int, size: int, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * classes + number)
        some = present[torch.randperm(len(present), generator=generator)[:classes]]
        members = torch.isin(labels, some).nonzero().flatten()
        return members[torch.randperm(len(members), generator=generator)[:size]]

    def draw(classes, size, number, k):
        b = batch(classes, size, number)
        chosen = select_classes(logits[b], k)
        p = logits[b].softmax(-1)[:, chosen]
        marks, recall = torch.isin(chosen, true[b]).tolist(), selection_recall(chosen, true[b])
        picked = [dictionary[d] for d in chosen.tolist()]
        mass = float(p.sum(1).mean())
        pictures = [images[i] for i in b.tolist()[:64]]
        figure = plots.class_pick(pictures, picked, p.mean(0).tolist(), marks, mass, recall)
        shown = len(true[b].unique())
        return figure, (
            f"{len(b)} pictures of {shown} classes, K = {k}: true names picked: {sum(marks)} (recall {recall:.0%}); "
            f"{mass:.0%} of the teacher's probability is kept, the rest is renormalised away."
        )

    most = len(present)
    sizes = [s for s in (4, 8, 16, 32, 64) if s <= len(labels)] or [len(labels)]
    ks = [k for k in (2, 4, 8, 16, 32, 64, 128, 512) if k < len(dictionary)] + [len(dictionary)]
    return Explorer(
        draw,
        classes=W.SelectionSlider(
            options=sorted({c for c in (1, 2, 4, 8, 16, most) if c <= most}), value=most, description="classes in it"
        ),
        size=W.SelectionSlider(options=sizes, value=sizes[-1] if sizes[-1] < 32 else 32, description="batch size"),
        number=W.IntSlider(1, 1, 8, description="which batch"),
        k=W.SelectionSlider(options=ks, value=ks[min(3, len(ks) - 1)], description="K, names kept"),
    )


def ablation(
    alphas: Sequence[float],
    values: Mapping[str, Mapping[str, np.ndarray]],
    zero_shot: Mapping[str, float] | None = None,
) -> Explorer:
    """Every seed at every alpha: ``values[setting][metric]`` is (alphas, seeds), ``zero_shot[metric]`` a number."""
    settings, metrics = list(values), list(next(iter(values.values())))
    both = "all, side by side"

    def draw(metric, setting, pairs):
        shown = {s: np.asarray(values[s][metric]) for s in (settings if setting == both else [setting])}
        figure = plots.ablation(alphas, shown, metric, zero_shot and zero_shot[metric], pairs, f"{metric} by alpha")
        told = []
        for name, seeds in shown.items():
            mean = seeds.mean(axis=1)
            told.append(f"{name}: {mean.min():.1f} to {mean.max():.1f}, best at {alphas[int(mean.argmax())]:g}")
        return figure, f"Means over {seeds.shape[1]} seeds, {metric}. " + "; ".join(told) + "."

    return Explorer(
        draw,
        metric=_choice(metrics, "metric"),
        setting=_choice([*settings, both] if len(settings) > 1 else settings, "setting"),
        pairs=W.Checkbox(True, description="join the runs of a seed", indent=True),
    )


def price(names: Sequence[str], cost: Sequence[float], gain, ylabel: str = "gain of the student, points") -> Explorer:
    """Which teachers a budget admits: cost (M,) in ms a picture, gain (M, seeds)."""
    gain = np.asarray(gain, dtype=float)
    gain = gain[:, None] if gain.ndim == 1 else gain
    front = pareto_front(cost, gain.mean(axis=1).tolist())
    between = np.geomspace(min(cost) * 0.8, max(cost) * 1.25, 13)
    budgets = sorted([*cost, *(b for b in between.tolist() if not np.isclose(b, cost, rtol=0.02).any())])

    def draw(budget):
        within = [i for i, c in enumerate(cost) if c <= budget]
        figure = plots.price(names, cost, gain, front, budget, ylabel)
        if not within:
            return figure, f"No teacher costs {budget:.3g} ms or less; the cheapest costs {min(cost):.3g} ms."
        best = max(within, key=lambda i: gain[i].mean())
        return (
            figure,
            f"{len(within)} of {len(names)} teachers; the best of them is {names[best]}: {gain[best].mean():+.1f}.",
        )

    return Explorer(draw, budget=_steps(budgets, budgets[-1], "budget, ms a picture"))


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
    labels, bench = labels.cpu(), {}
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

    def draw(teacher, temperature, noise):
        curve, nats, ece, right = bench[teacher, temperature, noise]
        runs = None if effect is None else np.asarray(effect[teacher])[:, list(noises).index(noise)]
        now = list(temperatures).index(temperature)
        what = f"{teacher} at temperature {temperature:g}" + (f", noise {noise:g}" if noise else "")
        figure = plots.calibration_bench(
            curve, nats, limits[teacher], ece, what, temperatures, now, runs, metric, zero_shot
        )
        told = "" if runs is None else f" {metric}: {runs[now].mean():.1f}."
        return figure, f"{what}: right for {right:.1%}, ECE {ece:.1%}, mean entropy {nats.mean():.2f} nats.{told}"

    start = 1.0 if 1.0 in temperatures else temperatures[0]
    return Explorer(
        draw,
        teacher=_choice(logits, "teacher"),
        temperature=_steps(temperatures, start, "temperature"),
        noise=_steps(noises, noises[0], "noise"),
    )


def domain_lens(
    domains: Mapping[str, tuple[Sequence, Tensor, Mapping[str, Tensor]]], names: Sequence[str], k: int = 6
) -> Explorer:
    """The same models in several domains: ``domains[name]`` is (images, labels (N,), logits (N, C) of each role)."""
    names, data, shares = list(names), {}, {}
    for domain, (images, labels, logits) in domains.items():
        scores = {role: _cached(x) for role, x in logits.items()}
        for x in scores.values():
            _match(images, x, names, labels)
        data[domain] = images, labels.cpu(), scores
        shares[domain] = {role: accuracy(x, labels.cpu()) for role, x in scores.items()}

    def draw(domain, picture):
        images, labels, scores = data[domain]
        i = min(picture, len(images)) - 1
        rows = {role: x[i].softmax(-1).numpy() for role, x in scores.items()}
        label = _label(labels, i)
        figure = plots.domain_lens(images[i], names, rows, shares, domain, label, k)
        told = ", ".join(f"{role} {share:.1%}" for role, share in shares[domain].items())
        return figure, f"{domain}, picture {i + 1} of {len(images)}. Right there: {told}."

    return Explorer(
        draw,
        domain=_choice(domains, "domain"),
        picture=_pick(min(len(images) for images, _, _ in domains.values())),
    )
