"""Explorers of what is learned, by which loss and from which names, and what it costs and gains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ipywidgets as W
import numpy as np
import torch
from torch import Tensor

from .. import plots
from ..distill import forward_kl, reverse_kl, select_classes, symmetric_kl
from ..evaluate import (
    accuracy,
    kl_bits,
    pareto_front,
    selection_recall,
)
from .controls import TEMPERATURES, _cached, _choice, _label, _labels, _match, _names, _pick, _steps
from .explorer import Explorer


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
        percentages = ", ".join(f"{name} {values[step]:.1f} %" for name, values in curves.items())
        return figure, f"After epoch {step}: {percentages}; two different names have a cosine of {off:.2f} on average."

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
        teacher_rows, grid_logits = t.expand(len(points), 3), points.log()
        forward = kl_bits(teacher_rows, grid_logits)
        reverse = kl_bits(grid_logits, teacher_rows)
        kl_on_grid = {"forward": forward, "reverse": reverse, "symmetric": (forward + reverse) / 2}[shades]
        p, q = t.softmax(-1)[0], s.detach().softmax(-1)[0]
        title = f"Where each KL pulls the student (T = {temperature:g})"
        figure = plots.simplex(names, p, q, bits, moves, kl_on_grid, points, title, shades)
        values = ", ".join(f"{name} {value:.2f}" for name, value in bits.items())
        return figure, f"In bits: {values}. The darker, the higher the {shades} KL."

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
    names, dictionary = _names(names), _names(dictionary, "dictionary")
    logits, labels = _cached(teacher_logits), _labels(labels, images, names, least=0)
    _match(images, logits, dictionary)
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
            f"{len(b)} pictures of {shown} class{'es' * (shown > 1)}, K = {k:,}: the picked names hold {sum(marks)} "
            f"true ones (recall {recall:.0%}) and {mass:.0%} of the teacher's probability."
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
        sentences = []
        for name, seeds in shown.items():
            mean = seeds.mean(axis=1)
            sentences.append(f"{name}: {mean.min():.1f} to {mean.max():.1f}, best at {alphas[int(mean.argmax())]:g}")
        return figure, f"Means over {seeds.shape[1]} seeds, {metric}. " + "; ".join(sentences) + "."

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
    between = np.geomspace(min(cost) * 0.8, max(cost) * 2, 14)  # at first beyond the last one's name
    budgets = sorted([*cost, *(b for b in between.tolist() if not np.isclose(b, cost, rtol=0.02).any())])

    def draw(budget):
        within = [i for i, c in enumerate(cost) if c <= budget]
        figure = plots.price(names, cost, gain, front, budget, ylabel)
        if not within:
            return figure, f"No teacher costs {budget:.3g} ms or less; the cheapest costs {min(cost):.3g} ms."
        best = max(within, key=lambda i: gain[i].mean())
        gained = f"{names[best]}: {gain[best].mean():+.1f} points"
        return figure, f"{len(within)} of {len(names)} teachers; the best of them is {gained}."

    return Explorer(draw, budget=_steps(budgets, budgets[-1], "budget, ms a picture"))


def domain_lens(
    domains: Mapping[str, tuple[Sequence, Tensor, Mapping[str, Tensor]]], names: Sequence[str], k: int = 6
) -> Explorer:
    """The same models in several domains: ``domains[name]`` is (images, labels (N,), logits (N, C) of each role)."""
    names, data, shares = _names(names), {}, {}
    for domain, (images, labels, logits) in domains.items():
        scores = {role: _cached(x) for role, x in logits.items()}
        labels = _labels(labels, images, names, least=0)
        for x in scores.values():
            _match(images, x, names)
        data[domain] = images, labels, scores
        shares[domain] = {role: accuracy(x, labels) for role, x in scores.items()}

    def draw(domain, picture):
        images, labels, scores = data[domain]
        i = min(picture, len(images)) - 1
        rows = {role: x[i].softmax(-1).numpy() for role, x in scores.items()}
        label = _label(labels, i)
        figure = plots.domain_lens(images[i], names, rows, shares, domain, label, k)
        percentages = ", ".join(f"{role} {share:.1%}" for role, share in shares[domain].items())
        return figure, f"{domain}, picture {i + 1} of {len(images)}. Right there: {percentages}."

    return Explorer(
        draw,
        domain=_choice(domains, "domain"),
        picture=_pick(min(len(images) for images, _, _ in domains.values())),
    )
