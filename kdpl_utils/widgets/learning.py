"""Explorers of what is learned, by which loss and from which names, and what it costs and gains."""

from __future__ import annotations

import math

import ipywidgets as W
import numpy as np
import torch
from torch import Tensor

from .. import plots
from ..distill import forward_kl, reverse_kl, select_classes, symmetric_kl
from ..evaluate import kl_bits, selection_recall
from ..support.statistics import pareto_front
from .explorer import TEMPERATURES, Explorer, choice, label_names, ladder, table


def context_step(words, distances, text_features, curves, started=()) -> Explorer:
    """A learned context over training: its nearest words, its effect on the names, and the accuracy.

    Args:
        words: S × n_ctx × k nearest words, nearest first; distances: the same shape.
        text_features: (S, C, D) unit features of the names at each step.
        curves: (S,) per cent for "base" and "novel"; step 0 is before training.
        started: the n_ctx words of the start.
    """
    features = text_features.detach().float().cpu()
    similarity = (features @ features.transpose(1, 2)).numpy()
    last = len(words) - 1

    def draw(step, position):
        at = position - 1
        was = started[at] if started else ""
        figure = plots.context_step(words[step][at], distances[step][at], similarity[step], curves, step, at, was)
        off = similarity[step][~np.eye(similarity.shape[1], dtype=bool)].mean()
        percentages = ", ".join(f"{name} {values[step]:.1f} %" for name, values in curves.items())
        return figure, f"After epoch {step}: {percentages}; two different names have a cosine of {off:.2f} on average."

    return Explorer(
        draw,
        step=W.IntSlider(last, 0, last, description="training epoch"),
        position=W.IntSlider(1, 1, len(words[0]), description="context vector"),
    )


def simplex(names=("cat", "dog", "car"), teacher=(2.0, 1.0), student=(-1.0, 0.5)) -> Explorer:
    """Three names, two distributions, three losses. Each distribution has two logits; the third name's is 0."""
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
        teacher_rows = t.expand(len(points), 3)
        on_grid = {"forward": kl_bits(teacher_rows, points.log()), "reverse": kl_bits(points.log(), teacher_rows)}
        on_grid["symmetric"] = (on_grid["forward"] + on_grid["reverse"]) / 2
        both = (x.detach().softmax(-1)[0] for x in (t, s))
        title = f"Where does each KL pull the student? (T = {temperature:g})"
        figure = plots.simplex(names, *both, bits, moves, on_grid[shades], points, title, shades)
        values = ", ".join(f"{name} {value:.2f}" for name, value in bits.items())
        return figure, f"In bits: {values}. The darker, the higher the {shades} KL."

    logits = {}
    for role, start in (("teacher", teacher), ("student", student)):
        for i, value in enumerate(start):
            slider = W.FloatSlider(value, min=-4, max=4, step=0.25, description=f"{role}, {names[i]}")
            logits[f"{role}_{i + 1}"] = slider
    return Explorer(
        draw,
        **logits,
        temperature=ladder(TEMPERATURES, 1.0, "temperature"),
        shades=choice(losses, "shades show", "symmetric"),
    )


def class_pick(images, teacher_logits, labels, names, dictionary) -> Explorer:
    """The names a teacher picks for a batch out of a dictionary.

    Args:
        teacher_logits: (N, D) over the dictionary's D names.
        labels: (N,) indices of ``names``; those of them that the dictionary holds are marked.
    """
    logits = table(teacher_logits, images, dictionary)
    position = {name: d for d, name in enumerate(dictionary)}
    true = torch.tensor([position.get(name, -1) for name in label_names(labels, images, names)])
    labels = torch.as_tensor(labels).cpu()
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
        marks = torch.isin(chosen, true[b]).tolist()
        recall = selection_recall(chosen, true[b])
        mass = p.sum(1).mean()
        picked = [dictionary[d] for d in chosen.tolist()]
        summary = f"probability kept {mass:.0%}, true names found {recall:.0%}"
        figure = plots.class_pick([images[i] for i in b.tolist()], picked, p.mean(0).tolist(), marks, summary)
        n = len(labels[b].unique())
        return figure, (
            f"{len(b)} pictures of {n} class{'es' * (n > 1)}, K = {k:,}: {sum(marks)} of the selected names are true "
            f"(recall {recall:.0%}); together they hold {mass:.0%} of the teacher's probability."
        )

    most = len(present)
    sizes = [s for s in (4, 8, 16, 32, 64) if s <= len(labels)] or [len(labels)]
    ks = [k for k in (2, 4, 8, 16, 32, 64, 128, 512) if k < len(dictionary)] + [len(dictionary)]
    return Explorer(
        draw,
        classes=ladder(sorted({c for c in (1, 2, 4, 8, 16, most) if c <= most}), most, "classes in it"),
        size=ladder(sizes, min(32, sizes[-1]), "batch size"),
        number=W.IntSlider(1, 1, 8, description="which batch"),
        k=ladder(ks, ks[min(3, len(ks) - 1)], "K, names kept"),
    )


def price(names, cost, gain, ylabel="gain of the student, points") -> Explorer:
    """Which teachers a budget admits: cost (M,) in ms a picture, gain (M, seeds)."""
    gain = np.asarray(gain, float)
    means = gain.mean(axis=1)
    front = pareto_front(cost, means.tolist())
    between = np.geomspace(min(cost) * 0.8, max(cost) * 2, 14)
    budgets = sorted([*cost, *(b for b in between.tolist() if not np.isclose(b, cost, rtol=0.02).any())])

    def draw(budget):
        figure = plots.pareto(names, cost, gain, front, ylabel, budget)
        within = [i for i, c in enumerate(cost) if c <= budget]
        if not within:
            return figure, f"No teacher costs {budget:.3g} ms or less; the cheapest costs {min(cost):.3g} ms."
        best = max(within, key=lambda i: means[i])
        return figure, (
            f"{len(within)} of {len(names)} teachers; the best of them is {names[best]}: {means[best]:+.1f} points."
        )

    return Explorer(draw, budget=ladder(budgets, budgets[-1], "budget, ms a picture"))
