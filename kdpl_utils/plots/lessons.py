"""The panels that explorers redraw.  Axes are placed by hand: a redraw has to take less than a tenth of a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator

from .curves import draw_reliability, draw_words
from .pictures import chosen_names, draw_distributions, draw_selected
from .points import draw_pareto
from .style import (
    GREY,
    INK,
    PALE,
    ROLES,
    Figure,
    axis_labels,
    captioned,
    contact_sheet,
    draw_bars,
    draw_key,
    draw_line,
    draw_picture,
    headline,
    name_rows,
    new_figure,
    shortened,
    style,
    with_alt,
    without_frame,
)


def _title(fig: Figure, text: str) -> None:
    fig.text(0.012, 0.975, text, va="top", fontsize=10.5, weight="bold", color=INK)


def _meter(fig: Figure, x: float, y: float, width: float, height: float, value: float, limit: float) -> None:
    """A bar filled from certain to undecided, in nats; drawn without axes."""
    fig.add_artist(Rectangle((x, y), width, height, fc="white", ec=INK, lw=0.8))
    fig.add_artist(Rectangle((x, y), width * min(1.0, value / limit), height, fc=GREY, ec=INK, lw=0.8))
    fig.text(x + width / 2, y + height + 0.015, f"entropy {value:.2f} of {limit:.2f} nats", ha="center", fontsize=9.5)
    fig.text(x, y - 0.015, "certain", va="top", fontsize=8)
    fig.text(x + width, y - 0.015, "uniform", va="top", ha="right", fontsize=8)


def _few_ticks(ax: Axes, unit: bool = False) -> None:
    """Each tick costs a millisecond; ``unit`` is for axes from 0 to 1."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MultipleLocator(0.25) if unit else MaxNLocator(4))
    ax.tick_params(labelsize=8)


def prediction(
    image, names: Sequence[str], values: Sequence[float], kind: str, label: int | None = None, k: int = 8
) -> Figure:
    """One picture against a set of names: (C,) cosines, logits or probabilities (``kind`` names the axis)."""
    values = np.asarray(values)
    fig = new_figure(9, 3.9)
    _title(fig, f"The {kind} of each name")
    captioned(fig, image, names, label, 0.86)
    chosen = chosen_names({"student": values}, k, label)
    limits = {"cosine": (min(0.0, values.min() * 1.1), max(values.max() * 1.1, 0.1)), "probability": (0, 1)}
    low, high = limits.get(kind) or (min(0.0, values.min() * 1.1), max(values.max() * 1.1, 1))
    ax = fig.add_axes((0.44, 0.14, 0.53, 0.75))
    draw_distributions(ax, names, {"student": values}, chosen, label, (low, high), kind, rest=kind == "probability")
    best = chosen[0]
    return with_alt(fig, f"Largest {kind} of {len(names)} names: {names[best]}, {values[best]:.2f}.")


def temperature(
    image,
    names: Sequence[str],
    probabilities: Sequence[float],
    entropy: float,
    curve: tuple,
    scale: float,
    ece: float,
    label: int | None = None,
    k: int = 6,
) -> Figure:
    """What the scale does: one picture's (C,) probabilities, their entropy in nats, and everybody's reliability.

    Args:
        curve: (confidence, accuracy, count), each (bins,), of all pictures at this scale.
    """
    p = np.asarray(probabilities)
    fig = new_figure(10, 3.9)
    _title(fig, f"Logits are cosines times {scale:.3g}")
    captioned(fig, image, names, label, 0.86)
    ax = fig.add_axes((0.4, 0.38, 0.26, 0.5))
    draw_distributions(ax, names, {"student": p}, chosen_names({"student": p}, k, label), label)
    _meter(fig, 0.4, 0.1, 0.26, 0.055, entropy, float(np.log(len(names))))
    right = fig.add_axes((0.73, 0.14, 0.255, 0.73))
    draw_reliability(right, {"student": curve})
    _few_ticks(right, unit=True)
    headline(right, f"all pictures: ECE {100 * ece:.1f} %")
    alt = (
        f"Scale {scale:.3g}: {names[int(p.argmax())]} {p.max():.2f}, entropy {entropy:.2f} nats; ECE {100 * ece:.1f} %."
    )
    return with_alt(fig, alt)


def context_step(
    words: Sequence[str],
    distances: Sequence[float],
    similarity: np.ndarray,
    curves: Mapping[str, Sequence[float]],
    step: int,
    position: int,
    started: str = "",
) -> Figure:
    """A context vector at one training step: its nearest words, the names' cosines (C, C), the accuracies so far.

    Args:
        words, distances: (k,) the nearest words of the vector at ``position``, nearest first.
        curves: (S,) per cent by step, "base" and "novel".
    """
    fig = new_figure(10, 3.7)
    _title(fig, f"Context vector {position + 1}" + (f" (was “{started}”)" if started else "") + f" after epoch {step}")
    ax = fig.add_axes((0.03, 0.15, 0.21, 0.68))
    draw_words(ax, words, distances)
    headline(ax, "nearest words")
    axis_labels(ax, "distance to the vector")
    middle = fig.add_axes((0.285, 0.15, 0.25, 0.68))
    middle.imshow(similarity, cmap="cividis", vmin=-0.2, vmax=1, interpolation="nearest")
    middle.set(xticks=[], yticks=[])
    axis_labels(middle, "cosine: dark −0.2, bright 1")
    headline(middle, f"{len(similarity)} class names, pairwise")
    right = without_frame(fig.add_axes((0.615, 0.15, 0.37, 0.65)))
    for i, (name, values) in enumerate(curves.items()):
        draw_line(right, range(len(values)), values, style(name, i), marker=False, label=name)
        right.plot(step, values[step], marker=style(name, i)["marker"], ms=8, color=style(name, i)["color"], mec=INK)
    right.axvline(step, color=INK, lw=1, ls=":")
    right.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    right.yaxis.set_major_locator(MaxNLocator(5))
    headline(right, "top-1, %")
    axis_labels(right, "training epoch (0: the words)")
    draw_key(fig, 0.7, 0.945, list(curves), markers=True)
    summary = ", ".join(f"{name} {values[step]:.1f} %" for name, values in curves.items())
    return with_alt(fig, f"Epoch {step}, context vector {position + 1}: nearest words {', '.join(words)}; {summary}.")


# --- three names: a triangle holds every distribution


def _place(p) -> np.ndarray:
    """(…, 3) probabilities → (…, 2) points of the triangle: name 1 below left, 2 below right, 3 on top."""
    return np.asarray(p) @ np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])


def simplex(
    names: Sequence[str],
    teacher: Sequence[float],
    student: Sequence[float],
    losses: Mapping[str, float],
    moves: Mapping[str, Sequence[float]],
    landscape: np.ndarray | None = None,
    points: np.ndarray | None = None,
    title: str = "",
    shades: str = "",
) -> Figure:
    """Two distributions over three names, and where each loss would pull the student.

    Args:
        losses: value of each loss in bits.
        moves: (3,) the student's probabilities after a small step down each loss.
        landscape: (P,) a loss in bits at the ``points`` (P, 3), drawn as shades; ``shades`` says which.
    """
    fig = new_figure(8.6, 4.3)
    _title(fig, title or "Where each KL pulls the student")
    ax = fig.add_axes((0.05, 0.04, 0.46, 0.8))
    corner = _place(np.eye(3))
    if landscape is not None:
        xy = _place(points)
        ax.tricontourf(xy[:, 0], xy[:, 1], np.asarray(landscape), levels=12, cmap="Greys", alpha=0.55, zorder=0)
    ax.plot(*corner[[0, 1, 2, 0]].T, color=INK, lw=1.2)
    for name, (x, y), (ha, va) in zip(names, corner, (("left", "top"), ("right", "top"), ("center", "bottom"))):
        ax.text(
            x, y + (0.03 if va == "bottom" else -0.03), shortened(name, 16), ha=ha, va=va, fontsize=9, weight="bold"
        )
    here = _place(student)
    looks = {loss: style(loss, i) for i, loss in enumerate(losses)}
    for loss in sorted(moves, key=lambda name: -np.hypot(*(_place(moves[name]) - here))):  # the shortest on top
        for colour, width in ((INK, 3.6), (looks[loss]["color"], 2)):
            arrow = dict(arrowstyle="-|>", color=colour, lw=width, shrinkA=0, shrinkB=0)
            ax.annotate("", _place(moves[loss]), here, arrowprops=arrow)
    for role, p in (("teacher", teacher), ("student", student)):
        look = style(role)
        ax.plot(*_place(p), marker=look["marker"], ms=11, color=look["color"], mec=INK, ls="", label=role, zorder=5)
    ax.set(xlim=(-0.06, 1.06), ylim=(-0.1, 0.96), aspect="equal")
    ax.axis("off")
    draw_key(fig, 0.03, 0.86, ["teacher", "student"], markers=True)
    if shades:
        fig.text(0.28, 0.035, f"the darker, the higher the {shades} KL there", ha="center", fontsize=8.5, color=INK)
    right = without_frame(fig.add_axes((0.68, 0.2, 0.29, 0.52)))
    for i, (loss, value) in enumerate(losses.items()):
        draw_bars(right, [i], [value], 0.6, style(loss, i))
        right.text(value, i, f" {value:.2f}", va="center", fontsize=9)
    name_rows(right, range(len(losses)), list(losses))
    right.set_ylim(len(losses) - 0.4, -0.6)
    right.set_xlim(0, max(1.0, 1.25 * max(losses.values())))
    axis_labels(right, "bits")
    headline(right, "the losses now; arrows: a step down each")
    summary = ", ".join(f"{loss} {value:.2f}" for loss, value in losses.items())
    p, q = (", ".join(f"{n} {v:.2f}" for n, v in zip(names, d)) for d in (teacher, student))
    return with_alt(fig, f"Teacher: {p}. Student: {q}. In bits: {summary}.")


# --- class-agnostic


def class_pick(
    images: Sequence,
    names: Sequence[str],
    probability: Sequence[float],
    is_true: Sequence[bool],
    mass: float,
    recall: float,
    shown: int = 24,
) -> Figure:
    """A batch and the K names selected for it, most probable first: (K,) names, mean probability, whether true.

    Args:
        mass: share of the teacher's probability that falls on the K names; recall: share of true names among them.
    """
    fig = new_figure(9.4, 4.4)
    _title(fig, f"K = {len(names)} names picked for {len(images)} pictures")
    columns = 4 if len(images) <= 16 else 8
    draw_picture(fig, contact_sheet(images, columns), 0.012, 0.03, 0.36, 0.79)
    ax = fig.add_axes((0.57, 0.13, 0.41, 0.79))
    draw_selected(ax, names[:shown], probability[:shown], is_true[:shown], 8.5 if len(names) <= 18 else 7.5)
    if len(names) > shown:
        ax.text(0.98, 0.03, f"… and {len(names) - shown} more", transform=ax.transAxes, ha="right", fontsize=9)
    summary = f"probability kept {100 * mass:.0f} %      true names found {100 * recall:.0f} %"
    fig.text(0.012, 0.86, summary, fontsize=9.5, color=INK)
    true = f"{sum(map(bool, is_true))} of them true"
    return with_alt(fig, f"{len(names)} names, {true}; first: {names[0]}. {summary.replace('      ', ', ')}.")


def calibration_bench(
    curve: tuple,
    entropies: Sequence[float],
    limit: float,
    ece: float,
    teacher: str,
    temperatures: Sequence[float],
    now: int,
    effect: np.ndarray | None = None,
    metric: str = "student's H, %",
    zero_shot: float | None = None,
) -> Figure:
    """A teacher made more or less certain: reliability, (N,) entropies in nats, and what its student became.

    Args:
        curve: (confidence, accuracy, count), each (bins,).
        temperatures: (T,), of which ``now`` is the one drawn.
        effect: (T, seeds) what a student reached with it, from runs made before; None where there are none.
    """
    fig = new_figure(10.2, 3.7)
    _title(fig, teacher)
    boxes = (0.06, 0.39, 0.72) if effect is not None else (0.08, 0.58, 0)
    width = 0.26 if effect is not None else 0.36
    left = fig.add_axes((boxes[0], 0.16, width, 0.63))
    draw_reliability(left, {"teacher": curve})
    _few_ticks(left, unit=True)
    headline(left, f"reliability, ECE {100 * ece:.1f} %")
    middle = without_frame(fig.add_axes((boxes[1], 0.16, width, 0.63)))
    entropies = np.asarray(entropies)
    share = np.full(len(entropies), 1 / len(entropies))
    bins = np.linspace(0, limit, 21)
    share, _ = np.histogram(entropies, bins, weights=share)
    middle.stairs(share, bins, fill=True, color=ROLES["teacher"]["color"], ec=INK, lw=0.6)
    middle.axvline(entropies.mean(), color=INK, lw=1.5)
    middle.set(xlim=(0, limit))
    _few_ticks(middle)
    headline(middle, f"entropy, mean {entropies.mean():.2f} nats")
    axis_labels(middle, f"nats (uniform: {limit:.2f})", "share of pictures")
    summary = ""
    if effect is not None:
        right = without_frame(fig.add_axes((boxes[2], 0.16, width, 0.63)))
        mean, x = effect.mean(axis=1), np.arange(len(temperatures))
        right.fill_between(x, effect.min(axis=1), effect.max(axis=1), color=PALE)
        draw_line(right, x, mean, ROLES["student after"], label="after (band: all seeds)")
        if zero_shot is not None:
            draw_line(right, x[[0, -1]], [zero_shot] * 2, ROLES["student before"], False, label="before")
        right.axvline(now, color=INK, lw=1, ls=":")
        right.set_xticks(x, [f"{t:g}" for t in temperatures], fontsize=8)
        axis_labels(right, "teacher's temperature (band: all seeds)")
        headline(right, metric)
        draw_key(fig, boxes[2] - 0.01, 0.955, ["student before", "student after"][zero_shot is None :], markers=True)
        summary = f" {metric}: {mean[now]:.1f}, seeds {effect[now].min():.1f} to {effect[now].max():.1f}."
    return with_alt(fig, f"{teacher}: ECE {100 * ece:.1f} %, mean entropy {entropies.mean():.2f} nats.{summary}")


def domain_lens(
    image,
    names: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    accuracy: Mapping[str, Mapping[str, float]],
    domain: str,
    label: int | None = None,
    k: int = 6,
) -> Figure:
    """One picture of one domain, and each role's accuracy (0…1) in all of them: ``accuracy[domain][role]``."""
    values = {role: np.asarray(p) for role, p in rows.items()}
    fig = new_figure(10, 4.2)
    _title(fig, f"{domain}")
    captioned(fig, image, names, label, 0.86)
    ax = fig.add_axes((0.4, 0.13, 0.245, 0.72))
    draw_distributions(ax, names, values, chosen_names(values, k, label), label)
    draw_key(fig, 0.4, 0.91, list(values))
    right = without_frame(fig.add_axes((0.79, 0.13, 0.195, 0.72)))
    height = 0.8 / len(values)
    for i, role in enumerate(values):
        share = [100 * accuracy[d][role] for d in accuracy]
        draw_bars(right, np.arange(len(accuracy)) + (i - (len(values) - 1) / 2) * height, share, height, style(role, i))
    name_rows(right, range(len(accuracy)), [shortened(d, 18) for d in accuracy], list(accuracy).index(domain), 8)
    right.set_ylim(len(accuracy) - 0.45, -0.55)
    right.set(xlim=(0, 100))
    axis_labels(right, "top-1, %")
    summary = ", ".join(f"{role} {names[int(p.argmax())]} {p.max():.2f}" for role, p in values.items())
    share = ", ".join(f"{role} {100 * accuracy[domain][role]:.1f} %" for role in values)
    return with_alt(
        fig, f"A picture{'' if label is None else ' of ' + names[label]} from {domain}: {summary}. Top-1: {share}."
    )


def price(
    names: Sequence[str], cost: Sequence[float], gain: np.ndarray, front: Sequence[bool], budget: float, ylabel: str
) -> Figure:
    """Cost against gain, with the teachers beyond the budget hatched out: (M,), (M, seeds), (M,)."""
    fig = new_figure(7.6, 4)
    _title(fig, f"A budget of {budget:.3g} ms a picture")
    ax = fig.add_axes((0.1, 0.15, 0.87, 0.72))
    draw_pareto(ax, names, cost, gain, front, budget)
    axis_labels(ax, "teacher, ms a picture", ylabel)
    within = [n for n, c in zip(names, cost) if c <= budget]
    return with_alt(fig, f"{ylabel} against ms a picture. Within {budget:.3g} ms: {', '.join(within) or 'no teacher'}.")
