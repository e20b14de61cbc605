"""Figures of pictures, and of what models predict for one of them."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import MaxNLocator
from PIL import Image

from .curves import draw_reliability
from .style import GREY, INK, PALE, ROLES, Figure, draw_line, grid, looks_of, marker, new_figure, our_style, shortened


def draw_bars(ax: Axes, y, width, height: float, look: dict, label: str = "_") -> None:
    """Draw horizontal bars centred at y. They are one artist, so that a redraw stays fast."""
    y, width = np.asarray(y, float), np.asarray(width, float)
    low = y - height / 2
    high = y + height / 2
    zero = 0 * y
    corners = np.stack([zero, low, width, low, width, high, zero, high], axis=1).reshape(-1, 4, 2)
    face = {"facecolor": look["color"], "hatch": look["hatch"], "edgecolor": INK, "linewidth": 0.6}
    ax.add_collection(PolyCollection(corners, **face, label=label), autolim=False)


def name_rows(ax: Axes, names: list[str], size: float = 9) -> None:
    """Name the rows 0, 1, … of a panel, from the top."""
    ax.set_yticks(range(len(names)), names, fontsize=size)
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)


def show(ax: Axes, image: Image.Image, caption: str = "") -> None:
    """Draw a picture without ticks in axes of its own, small ones enlarged by whole pixels."""
    ax.imshow(image.convert("RGB"), interpolation="nearest" if max(image.size) <= 64 else "antialiased")
    ax.axis("off")
    ax.set_title(caption, fontsize=8.5)


@our_style
def picture_row(images, captions, title="") -> Figure:
    """Draw pictures side by side, eight to a row, each with a caption whose long lines are broken."""
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    broken = ["\n".join(textwrap.fill(line, 16) for line in caption.split("\n")) for caption in captions]
    lines = max(caption.count("\n") + 1 for caption in broken)
    width = max(1.25 * columns, 0.1 * len(title) + 0.3)  # eight fit a notebook's page
    fig, axes = grid(width, (width / columns + 0.05 + 0.16 * lines) * rows + 0.35, rows, columns)
    for ax in axes.flat:
        ax.axis("off")
        ax.set_anchor("S")  # the height that is left is left above, where captions are
    for ax, image, caption in zip(axes.flat, images, broken):
        show(ax, image, caption)
    fig.suptitle(title, fontsize=11)
    return fig.described(f"{title}: " + "; ".join(caption.replace("\n", ", ") for caption in captions))


def confident_mistakes(images, predicted, truth, confidence, title) -> Figure:
    """Draw pictures that a model misclassified, with the probability (0…1) of its top prediction."""
    mistakes = zip(predicted, truth, confidence)
    return picture_row(
        images, [f"{shortened(name)} ({p:.2f})\nis {shortened(true)}" for name, true, p in mistakes], title
    )


@our_style
def similarity_heatmap(images, names, cosines) -> Figure:
    """Draw the cosines (N, C) of pictures (rows, as thumbnails) with names (columns)."""
    values = np.asarray(cosines)
    fig, ((ax,),) = grid(1.6 + 0.75 * len(names), 1.5 + 0.6 * len(images))
    shades = ax.imshow(values, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if shades.norm(value) < 0.5 else INK
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    for row, image in enumerate(images):
        show(ax.inset_axes((-1.2, row - 0.45, 0.7, 0.9), transform=ax.transData), image)
    fig.colorbar(shades, label="cosine")
    ax.set_xticks(range(len(names)), [shortened(name) for name in names], rotation=35, ha="right")
    ax.set(yticks=[], xlabel="name in the prompt", title="Cosine of each picture with each name")
    hits = int((values.argmax(axis=1) == np.arange(len(images))).sum())
    summary = f" {hits} of {len(images)} pictures are nearest to their own name." if len(images) == len(names) else ""
    return fig.described(f"Heat map of cosines, {len(images)} pictures by {len(names)} names.{summary}")


def _chosen(rows, k, label=None) -> list[int]:
    """Return the ``k`` names most probable for the first role, the other roles' top predictions, and the label."""
    first, *others = rows.values()
    wanted = [*np.argsort(-first, kind="stable")[:k], *(p.argmax() for p in others), label]
    return list(dict.fromkeys(int(c) for c in wanted if c is not None))


def _one_picture(image, names, rows, label, k, title, right=0.97, kind="probability") -> tuple[Figure, str]:
    """Return a figure of a picture and bars of some names, and the top predictions in words.

    Where the rows are whole distributions, one more group of bars sums up all other names.

    Args:
        right: where the bars end, as a share of the figure.
    """
    rows = {role: np.asarray(values) for role, values in rows.items()}
    index = list(names).index(label) if label in names else None
    chosen = _chosen(rows, k, index)
    others = len(names) - len(chosen)
    has_rest = bool(others and kind == "probability" and abs(next(iter(rows.values())).sum() - 1) < 1e-3)
    height = max(3.4, 1.3 + (0.12 + 0.1 * len(rows)) * (len(chosen) + has_rest))
    fig = new_figure(10, height, title)

    left = fig.add_axes((0.012, 1 - 2.3 / height, 0.175, 1.75 / height), anchor="N")
    show(left, image)
    caption = f"★ label\n{shortened(label, 22)}" if label else "no label"
    left.text(0.5, -0.05, caption, transform=left.transAxes, ha="center", va="top", weight="bold")

    ax = fig.add_axes((0.4, 0.5 / height, right - 0.4, 1 - 1.2 / height))
    thick = 0.8 / len(rows)
    for i, ((role, values), look) in enumerate(zip(rows.items(), looks_of(list(rows)))):
        widths = [*values[chosen], *[max(0.0, 1 - values[chosen].sum())] * has_rest]
        draw_bars(ax, np.arange(len(widths)) + (i - (len(rows) - 1) / 2) * thick, widths, thick, look, role)
    words = [("★ " if c == index else "") + shortened(names[c], 21) for c in chosen]
    name_rows(ax, words + [f"{others:,} other name{'s' * (others > 1)}"] * has_rest)
    if index is not None:
        ax.get_yticklabels()[chosen.index(index)].set_weight("bold")
    if kind == "probability":
        ax.set(xlim=(0, 1), xticks=(0, 0.25, 0.5, 0.75, 1))
    else:
        ax.set_xlim(min(0, 1.1 * values[chosen].min()), max(0.1, 1.1 * values[chosen].max()))
    ax.set_xlabel(kind)
    if len(rows) > 1:
        ax.legend(ncols=len(rows), loc="lower left", bbox_to_anchor=(-0.02, 0.98))
    return fig, "; ".join(f"{role}: {names[int(p.argmax())]} {p.max():.2f}" for role, p in rows.items())


@our_style
def distributions(image, names, rows, label=None, k=6, title="", kind="probability") -> Figure:
    """Draw one picture and the probabilities that several models give it: ``rows`` maps a role to (C,).

    The names are the ``k`` most probable for the first role, the others' top predictions, and the label. With another
    ``kind`` the rows are cosines or logits.
    """
    fig, tops = _one_picture(image, names, rows, label, k, title, kind=kind)
    return fig.described(f"The {kind} of each name for one picture{f' of {label}' if label else ''}. Highest: {tops}.")


@our_style
def teacher_student(
    image, names, rows, kl, label=None, k=6, curve=None, everyone=(), step=0, steps=(), title=""
) -> Figure:
    """Draw one picture, its distributions, and its KL: the signature figure.

    Args:
        rows: (C,) probabilities of "teacher" first, then of "student before" and "student after", or of "student".
        kl: KL(teacher‖student) in bits, of each student.
        curve: (S,) KL of this picture at each step; without it the panel shows its place among ``everyone``.
        everyone: with a curve the mean over all pictures (S,), else each picture's KL (N,).
        step: the entry of the curve that ``rows`` shows; ``steps`` are the S names of the axis.
    """
    fig, tops = _one_picture(image, names, rows, label, k, title, 0.715)
    bars = fig.axes[-1].get_position()
    ax = fig.add_axes((0.785, bars.y0, 0.195, bars.height), title="KL from the teacher, bits")
    if curve is None:
        count, edge = np.histogram(everyone, bins=20)
        value = next(iter(kl.values()))
        ax.stairs(count, edge, fill=True, color=PALE, ec=INK, lw=0.6)
        ax.axvline(value, color=INK, lw=1.4)
        ax.plot(value, 0, clip_on=False, **marker(ROLES["student"], 9))
        ax.set_xlabel(f"{len(everyone):,} pictures; line: this one")
    else:
        last = len(curve) - 1
        high = 1.3 * max(*curve, *everyone, 1e-3)
        ax.plot(everyone, color=GREY, lw=1.4, ls=":")
        draw_line(ax, range(last + 1), curve, ROLES["student after"], markers=False)
        for at, role in ((0, "student before"), (step, "student after")):
            ax.plot(at, curve[at], clip_on=False, **marker(ROLES[role]))
        ax.text(last, 0.98 * high, "line: this picture\ndots: mean of all", ha="right", va="top", fontsize=8)
        ax.set(xlim=(-0.02 * last, 1.02 * last), ylim=(0, high), xlabel="training epoch" if last > 1 else "")
        shown = sorted({0, last // 2, last})
        ax.set_xticks(shown, [steps[i] for i in shown])
    ax.yaxis.set_major_locator(MaxNLocator(4))
    summary = ", ".join(f"{value:.2f} bits ({role})" for role, value in kl.items())
    named = f" of {label}" if label else ""
    return fig.described(f"One picture{named}. Most probable for {tops}. KL from the teacher: {summary}.")


@our_style
def temperature(image, names, probabilities, entropy, curve, scale, ece, label=None) -> Figure:
    """Draw the effect of the scale: one picture's (C,) probabilities, their entropy in nats, and the reliability.

    Args:
        curve: (confidence, accuracy, count), each (bins,), of all pictures at this scale.
    """
    title = f"Logits are cosines times {scale:.3g}"
    fig, tops = _one_picture(image, names, {"student": probabilities}, label, 6, title, 0.66)
    fig.axes[-1].set_title(f"entropy {entropy:.2f} of {np.log(len(names)):.2f} nats")
    ax = fig.add_axes((0.735, 0.15, 0.25, 0.68), title=f"all pictures: ECE {100 * ece:.1f} %")
    draw_reliability(ax, {"student": curve})
    return fig.described(f"Scale {scale:.3g}: {tops}, entropy {entropy:.2f} nats; ECE {100 * ece:.1f} %.")
