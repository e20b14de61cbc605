"""Figures of images, and of what models say about them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .style import (
    INK,
    PALE,
    ROLES,
    STAR,
    Figure,
    axis_labels,
    captioned,
    draw_bars,
    draw_key,
    draw_line,
    grid,
    headline,
    name_rows,
    new_figure,
    shortened,
    show,
    style,
    with_alt,
    without_frame,
)


def similarity_heatmap(images: Sequence, names: Sequence[str], cosines) -> Figure:
    """Pictures (rows, as thumbnails) against names (columns): cosines (N, C)."""
    values = np.asarray(cosines)
    fig, ((ax,),) = grid(1.6 + 0.75 * len(names), 1.5 + 0.6 * len(images))
    sns.heatmap(
        values, annot=True, fmt=".2f", cmap="cividis", cbar_kws={"label": "cosine"}, ax=ax, annot_kws={"size": 8}
    )
    ax.set_xticks(np.arange(len(names)) + 0.5, [shortened(n) for n in names], rotation=35, ha="right")
    ax.set_yticks([])
    for row, image in enumerate(images):
        thumbnail = OffsetImage(np.asarray(image.resize((36, 36))), zoom=0.9)
        box = AnnotationBbox(
            thumbnail, (0, row + 0.5), (-24, 0), boxcoords="offset points", frameon=False, annotation_clip=False
        )
        ax.add_artist(box)
    best = values.argmax(axis=1)
    hits = int((best == np.arange(len(images))).sum()) if len(images) == len(names) else None
    ax.set_xlabel("name in the prompt")
    ax.set_title("Cosine of each picture with each name")
    summary = "" if hits is None else f" {hits} of {len(images)} pictures are nearest to their own name."
    return with_alt(fig, f"Heat map of cosines, {len(images)} pictures by {len(names)} names.{summary}")


def picture_row(images: Sequence, captions: Sequence[str], title: str = "") -> Figure:
    """Pictures side by side, eight to a row, each with a caption, whose long lines are broken."""
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    broken = [_broken(caption) for caption in captions]
    lines = max(caption.count("\n") + 1 for caption in broken)
    wide = max(1.25 * columns, 0.1 * len(title) + 0.3)  # eight fit a notebook's page, so that captions are not shrunk
    side = wide / columns  # of a picture, which a long title makes larger
    fig, axes = grid(wide, (side + 0.05 + 0.16 * lines) * rows + 0.35, rows, columns)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, caption in zip(axes.flat, images, broken):
        show(ax, image, caption, 8.5)
        ax.set_anchor("S")  # what height is left is left above, where captions are
    fig.suptitle(title, fontsize=11)
    return with_alt(fig, f"{title}: " + "; ".join(c.replace("\n", ", ") for c in captions))


def _broken(caption: str, width: int = 16) -> str:
    """The caption in lines that fit a picture's width."""
    return "\n".join(piece for line in caption.split("\n") for piece in textwrap.wrap(line, width) or [""])


def confident_mistakes(
    images: Sequence, said: Sequence[str], truth: Sequence[str], confidence: Sequence[float], title: str = ""
) -> Figure:
    """Pictures that a model named wrongly, with the probability (0…1) it gave its answer."""
    captions = [f"said {shortened(s)} ({p:.2f})\nis {shortened(t)}" for s, t, p in zip(said, truth, confidence)]
    return picture_row(images, captions, title or "The most confident mistakes")


# --- one picture's distributions


def chosen_names(rows: Mapping[str, np.ndarray], k: int, label: int | None = None) -> list[int]:
    """The ``k`` names most probable for the first role, then each other role's first choice, then the label."""
    first, *others = rows.values()
    wanted = [*np.argsort(-first, kind="stable")[:k], *(int(p.argmax()) for p in others)]
    return [int(c) for c in dict.fromkeys([*wanted, *([] if label is None else [label])])]


def draw_distributions(
    ax: Axes,
    names: Sequence[str],
    rows: Mapping[str, np.ndarray],
    chosen: Sequence[int],
    label: int | None = None,
    xlim: tuple[float, float] = (0, 1),
    xlabel: str = "probability",
    rest: bool = True,
) -> None:
    """Grouped bars of the chosen names, and one group for all others where ``rest``."""
    without_frame(ax)
    height = 0.8 / len(rows)
    rest = bool(rest) and len(chosen) < len(names)
    y = np.arange(len(chosen) + rest)
    for i, (name, values) in enumerate(rows.items()):
        shown = values[chosen]
        shown = np.append(shown, max(0.0, 1 - shown.sum())) if rest else shown
        draw_bars(ax, y + (i - (len(rows) - 1) / 2) * height, shown, height, style(name, i))
    other = len(names) - len(chosen)
    ticks = [(STAR if c == label else "") + shortened(names[c], 21) for c in chosen]
    ticks += [f"{other:,} other name{'s' * (other > 1)}"] * rest
    name_rows(ax, y, ticks, chosen.index(label) if label in chosen else None)
    ax.set_ylim(len(y) - 0.45, -0.55)
    ax.set_xlim(xlim)
    if xlim == (0, 1):
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axis_labels(ax, xlabel)


def _tops(names: Sequence[str], rows: Mapping[str, np.ndarray]) -> str:
    return "; ".join(f"{role}: {names[int(p.argmax())]} {p.max():.2f}" for role, p in rows.items())


def distributions(
    image,
    names: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    label: str | None = None,
    k: int = 6,
    title: str = "",
) -> Figure:
    """One picture and the probabilities that several models give it: ``rows`` maps a role to (C,) probabilities.

    Shown are the ``k`` names most probable for the first role, the others' first choices, and the label where it is
    one of the names (with a star).
    """
    values = {role: np.asarray(p) for role, p in rows.items()}
    index = list(names).index(label) if label in names else None
    chosen = chosen_names(values, k, index)
    fig, ((left, ax),) = grid(8.5, 1.2 + (0.22 + 0.1 * len(values)) * (len(chosen) + 1), 1, 2, width_ratios=[1, 3.4])
    show(left, image, f"label: {shortened(label)}" if label else "no label")
    draw_distributions(ax, names, values, chosen, index, rest=abs(next(iter(values.values())).sum() - 1) < 1e-3)
    ax.set_title(title, fontsize=10, loc="left", pad=8)
    faces = [Patch(fc=style(r, i)["color"], hatch=style(r, i)["hatch"], ec=INK, label=r) for i, r in enumerate(values)]
    fig.legend(handles=faces, loc="outside lower right", ncols=len(values), fontsize=9, frameon=False)
    tops = _tops(names, values)
    return with_alt(fig, f"Probabilities of one picture{f' of {label}' if label else ''}. Most probable for {tops}.")


def teacher_student(
    image,
    names: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    kl: Mapping[str, float],
    label: int | None = None,
    k: int = 6,
    curve: Sequence[float] | None = None,
    everyone: Sequence[float] = (),
    step: int = 0,
    steps: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """One picture, its distributions, and where its KL stands: the signature figure.

    Args:
        rows: (C,) probabilities of "teacher" first, then of "student before" and "student after", or of "student".
        kl: KL(teacher‖student) in bits, of each student.
        label: index of the label among the names, if there is one.
        curve: (S,) KL of this picture at each step; without it the panel shows where it stands among ``everyone``.
        everyone: with a curve the mean over all pictures (S,), else each picture's KL (N,).
        step: which entry of the curve is drawn in ``rows``; ``steps`` are the S names of the axis.
    """
    values = {role: np.asarray(p) for role, p in rows.items()}
    chosen = chosen_names(values, k, label)
    lines = len(chosen) + (len(chosen) < len(names))
    height = max(3.0, 1.25 + (0.12 + 0.1 * len(values)) * lines)
    fig = new_figure(10, height)
    bottom, top = 0.5 / height, 1 - 0.7 / height
    captioned(fig, image, names, label, top)
    draw_distributions(fig.add_axes((0.4, bottom, 0.315, top - bottom)), names, values, chosen, label)
    draw_key(fig, 0.4, top + 0.14 / height, list(values))
    panel = without_frame(fig.add_axes((0.785, bottom, 0.195, top - bottom)))
    if curve is None:
        _draw_place(panel, next(iter(kl.values())), np.asarray(everyone))
    else:
        _draw_progress(panel, np.asarray(curve), np.asarray(everyone), step, steps)
    headline(panel, "KL from the teacher, bits")
    fig.text(0.012, 1 - 0.1 / height, title, va="top", fontsize=10.5, weight="bold", color=INK)
    summary = ", ".join(f"{value:.2f} bits ({role})" for role, value in kl.items())
    named = f" of {names[label]}" if label is not None else ""
    return with_alt(
        fig, f"One picture{named}. Most probable for {_tops(names, values)}. KL from the teacher: {summary}."
    )


def _draw_progress(ax: Axes, curve: np.ndarray, mean: np.ndarray, step: int, steps: Sequence[str]) -> None:
    last = len(curve) - 1
    ax.plot(mean, color="#666666", lw=1.4, ls=":")
    draw_line(ax, range(last + 1), curve, ROLES["student after"], marker=False)
    for at, role in ((0, "student before"), (step, "student after")):
        look = ROLES[role]
        ax.plot(at, curve[at], marker=look["marker"], ms=8, color=look["color"], mec=INK, ls="", clip_on=False)
    high = max(curve.max(), mean.max(), 1e-3)
    ax.set_xlim(-0.02 * last, 1.02 * last)
    ax.set_ylim(0, 1.3 * high)
    ax.text(last, 1.28 * high, "line: this picture\ndots: mean of all", ha="right", va="top", fontsize=8, color=INK)
    shown = sorted({0, last // 2, last})
    ax.set_xticks(shown, [steps[i] if len(steps) else i for i in shown])
    ax.yaxis.set_major_locator(MaxNLocator(4))
    axis_labels(ax, "training epoch" if last > 1 else "")


def _draw_place(ax: Axes, value: float, everyone: np.ndarray) -> None:
    count, edge = np.histogram(everyone, bins=20)
    ax.stairs(count, edge, fill=True, color=PALE, ec=INK, lw=0.6)
    ax.axvline(value, color=INK, lw=1.4)
    look = ROLES["student"]
    ax.plot(value, 0, marker=look["marker"], color=look["color"], mec=INK, ms=9, clip_on=False)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis_labels(ax, f"{len(everyone):,} pictures; line: this one")


def selected_names(
    names: Sequence[str], probability: Sequence[float], is_true: Sequence[bool], title: str = ""
) -> Figure:
    """The names a teacher picked for a batch, most probable first; those that are true of some picture are marked."""
    fig, ((ax,),) = grid(6.4, 0.9 + 0.24 * len(names))
    draw_selected(ax, names, probability, is_true)
    ax.set_title(title)
    true = f"{sum(map(bool, is_true))} of them true of a picture in the batch"
    return with_alt(fig, f"{len(names)} names the teacher picked, {true}; first: {names[0]}.")


def draw_selected(
    ax: Axes, names: Sequence[str], probability: Sequence[float], is_true: Sequence[bool], size: float = 8.5
) -> None:
    y, marked = np.arange(len(names)), np.asarray(is_true, bool)
    for rows, look in ((marked, ROLES["teacher"]), (~marked, {"color": PALE, "hatch": ""})):
        draw_bars(ax, y[rows], np.asarray(probability)[rows], 0.8, look)
    name_rows(without_frame(ax), y, [f"{'✓ ' if t else ''}{shortened(n)}" for n, t in zip(names, is_true)], size=size)
    ax.set_xlim(0, 1.08 * max(probability))
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    axis_labels(ax, "probability, mean over the batch")
