"""Figures of what is learned, and from which names. Explorers redraw them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from PIL import Image

from .pictures import draw_bars, name_rows, show
from .style import INK, PALE, ROLES, Figure, draw_line, looks_of, marker, new_figure, our_style, shortened

PALE_BARS = {"color": PALE, "hatch": ""}


@our_style
def context_step(words, distances, similarity, curves, step, position, started="") -> Figure:
    """Draw a context vector at one step: its nearest words, the names' cosines (C, C), the accuracies so far.

    Args:
        words, distances: (k,) the nearest words of the vector at ``position``, nearest first.
        curves: (S,) per cent by step, "base" and "novel".
    """
    was = f" (was “{started}”)" if started else ""
    fig = new_figure(10, 3.7, f"Context vector {position + 1}{was} after epoch {step}")
    left = fig.add_axes((0.03, 0.15, 0.21, 0.65), title="nearest words")
    draw_bars(left, range(len(words)), distances, 0.8, PALE_BARS)
    for i, word in enumerate(words):
        left.text(0, i, f" {shortened(word, 16)}", va="center")
    left.set(xlim=(0, 1.05 * max(distances)), ylim=(len(words) - 0.5, -0.5), yticks=[], xlabel="distance to the vector")
    middle = fig.add_axes((0.285, 0.15, 0.25, 0.65), title=f"{len(similarity)} class names, pairwise")
    middle.imshow(similarity, cmap="cividis", vmin=-0.2, vmax=1, interpolation="nearest")
    middle.set(xticks=[], yticks=[], xlabel="cosine: dark −0.2, bright 1")
    right = fig.add_axes((0.615, 0.15, 0.37, 0.65), xlabel="training epoch (0: the words)", title="top-1, %")
    for look, (name, values) in zip(looks_of(list(curves)), curves.items()):
        draw_line(right, range(len(values)), values, look, markers=False)
        right.plot(step, values[step], **marker(look), label=name)
    right.axvline(step, color=INK, lw=1, ls=":")
    right.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    right.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1.12))
    summary = ", ".join(f"{name} {values[step]:.1f} %" for name, values in curves.items())
    return fig.described(f"Epoch {step}, context vector {position + 1}: nearest words {', '.join(words)}; {summary}.")


def _place(p) -> np.ndarray:
    """Return the points (2, …) of a triangle for probabilities (…, 3): left, right, top."""
    return (np.asarray(p) @ np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])).T


@our_style
def simplex(names, teacher, student, losses, moves, landscape, points, title, shades) -> Figure:
    """Draw two distributions over three names, and where each loss pulls the student.

    Args:
        losses: value of each loss in bits.
        moves: (3,) the student's probabilities after a small step down each loss.
        landscape: (P,) the loss called ``shades``, in bits, at the ``points`` (P, 3), drawn as shades.
    """
    fig = new_figure(8.6, 4.3, title)
    ax = fig.add_axes((0.05, 0.07, 0.46, 0.8), xlim=(-0.06, 1.06), ylim=(-0.1, 0.96), aspect="equal")
    ax.axis("off")
    ax.tricontourf(*_place(points), np.asarray(landscape), levels=12, cmap="Greys", alpha=0.55, zorder=0)
    ax.plot(*_place(np.eye(3)[[0, 1, 2, 0]]), color=INK, lw=1.2)
    for name, x, y, side in zip(names, (0, 1, 0.5), (-0.07, -0.07, 0.89), ("left", "right", "center")):
        ax.text(x, y, shortened(name, 16), ha=side, weight="bold")
    fig.text(0.28, 0.02, f"the darker, the higher the {shades} KL there", ha="center", fontsize=8.5)
    here = _place(student)
    looks = dict(zip(losses, looks_of(list(losses))))
    for loss in sorted(moves, key=lambda name: -np.hypot(*(_place(moves[name]) - here))):  # the shortest on top
        for colour, width in ((INK, 3.6), (looks[loss]["color"], 2)):
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", _place(moves[loss]), here, arrowprops=arrow)
    for role, p in (("teacher", teacher), ("student", student)):
        ax.plot(*_place(p), **marker(ROLES[role], 11), label=role, zorder=5)
    ax.legend(loc="upper left")
    right = fig.add_axes((0.68, 0.2, 0.29, 0.52), title="the losses now; arrows: a step down each")
    for i, (loss, value) in enumerate(losses.items()):
        draw_bars(right, [i], [value], 0.6, looks[loss])
        right.text(value, i, f" {value:.2f}", va="center")
    name_rows(right, list(losses))
    right.set(xlim=(0, max(1.0, 1.25 * max(losses.values()))), xlabel="bits")
    summary = ", ".join(f"{loss} {value:.2f}" for loss, value in losses.items())
    p, q = (", ".join(f"{name} {v:.2f}" for name, v in zip(names, of)) for of in (teacher, student))
    return fig.described(f"Teacher: {p}. Student: {q}. In bits: {summary}.")


def _draw_selected(ax: Axes, names, probability, is_true) -> None:
    widths = np.asarray(probability)
    for look, shown in ((ROLES["teacher"], np.asarray(is_true, bool)), (PALE_BARS, ~np.asarray(is_true, bool))):
        draw_bars(ax, np.flatnonzero(shown), widths[shown], 0.8, look)
    words = [f"{'✓ ' if true else ''}{shortened(name)}" for name, true in zip(names, is_true)]
    name_rows(ax, words, 8.5 if len(names) <= 18 else 7.5)
    ax.set(xlim=(0, 1.08 * widths.max()), xlabel="probability, mean over the batch")


@our_style
def selected_names(names, probability, is_true, title) -> Figure:
    """Draw the names selected for a batch, most probable first, those true of a picture marked."""
    height = 1.1 + 0.22 * len(names)
    fig = new_figure(7.4, height, title)
    ax = fig.add_axes((0.3, 0.5 / height, 0.67, 1 - 0.95 / height))
    _draw_selected(ax, names, probability, is_true)
    true = f"{sum(map(bool, is_true))} of them true of a picture in the batch"
    return fig.described(f"{len(names)} names the teacher picked, {true}; first: {names[0]}.")


@our_style
def class_pick(images, names, probability, is_true, summary) -> Figure:
    """Draw a batch and the first 24 of the K names selected for it: names, mean probabilities, whether true."""
    fig = new_figure(9.4, 4.4, f"K = {len(names)} names picked for {len(images)} pictures")
    columns = 4 if len(images) <= 16 else 8
    side = 68
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    for i, image in enumerate(images):
        small = image.convert("RGB").resize((side - 4, side - 4))
        sheet.paste(small, (i % columns * side, i // columns * side))
    show(fig.add_axes((0.012, 0.03, 0.36, 0.79), anchor="N"), sheet)
    fig.text(0.012, 0.86, summary, fontsize=9.5)
    ax = fig.add_axes((0.57, 0.13, 0.41, 0.79))
    _draw_selected(ax, names[:24], probability[:24], is_true[:24])
    if len(names) > 24:
        ax.text(0.98, 0.03, f"… and {len(names) - 24} more", transform=ax.transAxes, ha="right")
    return fig.described(f"{len(names)} names, {sum(map(bool, is_true))} of them true; first: {names[0]}. {summary}.")
