"""Figures in which each point has a name: what a teacher costs and buys, and what it is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from .style import GREY, INK, PALE, ROLES, Figure, grid, shortened, with_alt, without_frame


def _apart(ticks: np.ndarray, limits: tuple[float, float], least: float = 0.12) -> list[bool]:
    """Which ticks (M,) of a logarithmic axis have room for a number: a share ``least`` of the axis from the last."""
    places = np.log(ticks / limits[0]) / np.log(limits[1] / limits[0])
    written, last = [], -np.inf
    for place in places:
        written.append(place - last >= least)
        last = place if written[-1] else last
    return written


def draw_pareto(
    ax: Axes, names: Sequence[str], cost: Sequence[float], gain: np.ndarray, front: Sequence[bool], budget: float | None
) -> None:
    """Every seed's gain (names, seeds) over the cost of each name; the front's points are filled and joined."""
    cost, gain, front = np.asarray(cost, float), np.asarray(gain, float), np.asarray(front, bool)
    mean = gain.mean(axis=1)
    without_frame(ax).axhline(0, color=GREY, lw=1, ls=":")
    ax.plot(np.repeat(cost, gain.shape[1]), gain.ravel(), ls="", marker="o", ms=3.5, color="white", mec=GREY)
    order = np.flatnonzero(front)[np.argsort(cost[front])]
    ax.plot(cost[order], mean[order], color=ROLES["teacher"]["color"], lw=1.6, drawstyle="steps-post")
    for c, m, name, on in zip(cost, mean, names, front):
        ax.plot(c, m, marker="s", ms=9, color=ROLES["teacher"]["color"] if on else "white", mec=INK)
        ax.annotate(shortened(name), (c, m), (7, 7), textcoords="offset points", fontsize=8)
    ax.set_xscale("log")
    ax.set_xlim(cost.min() / 1.5, cost.max() * 2.6)
    ticks = np.unique(cost)
    ax.set_xticks(ticks, [f"{c:.3g}" if apart else "" for c, apart in zip(ticks, _apart(ticks, ax.get_xlim()))])
    ax.minorticks_off()
    if budget is not None:
        ax.axvspan(budget, ax.get_xlim()[1], color=PALE, zorder=0, hatch="//", ec="white", lw=0)
        ax.axvline(budget, color=INK, lw=1.2)
    ax.margins(y=0.22)


def pareto(
    names: Sequence[str],
    cost: Sequence[float],
    gain: np.ndarray,
    front: Sequence[bool],
    xlabel: str = "teacher, ms a picture",
    ylabel: str = "gain of the student, points",
) -> Figure:
    """Cost against gain: ``cost`` (M,), ``gain`` (M, seeds), ``front`` (M,) whether nothing cheaper is as good."""
    fig, ((ax,),) = grid(6.2, 3.9)
    draw_pareto(ax, names, cost, gain, front, None)
    ax.set(xlabel=xlabel, ylabel=ylabel, title="What a larger teacher costs and buys")
    summary = "; ".join(
        f"{n} {c:.3g} → {np.mean(g):+.1f}{' (on the front)' if f else ''}"
        for n, c, g, f in zip(names, cost, gain, front)
    )
    return with_alt(fig, f"{ylabel} against {xlabel}: {summary}.")


# Around a point, in typographic points: (beside it, which side, above it), nearest first.
HEIGHTS = (5, -12, 16, -23, 27, -34, 38, -45, 49, -56)
PLACES = tuple(
    (beside, side, above) for above in HEIGHTS for beside in (8, 30)[: 1 + (abs(above) > 12)] for side in (1, -1)
)
# From a name that found no place close by to its point, which in a crowd is not the nearest one.
LEADER = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}


def name_points(ax: Axes, names: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """A name beside each point (x, y), where no point and no other name stands; the axes have all else already."""
    ax.figure.draw_without_rendering()  # sizes are known from here on
    centres = ax.transData.transform(points)
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    for i, (name, point) in enumerate(zip(names, points)):
        text = ax.annotate(shortened(name), point, (0, 0), textcoords="offset points", fontsize=8)
        boxes = [_moved_to(text, place) for place in PLACES]
        costs = [_cost(box, i, centres, taken, ax.bbox) for box in boxes]
        best = int(np.argmin(costs))
        beside, side, above = PLACES[best]
        _moved_to(text, PLACES[best])
        taken.append(boxes[best])
        if abs(above) > 12:
            ax.annotate("", point, (side * beside, above + 3), textcoords="offset points", arrowprops=LEADER)


def _moved_to(text: Annotation, place: tuple[float, int, float]) -> Bbox:
    """Where the text stands once it is moved to one of ``PLACES``."""
    beside, side, above = place
    text.set_position((side * beside, above))
    text.set_ha("left" if side > 0 else "right")
    return text.get_window_extent().padded(1)


def _cost(box: Bbox, i: int, centres: np.ndarray, taken: Sequence[Bbox], inside: Bbox) -> float:
    """0 for a place that is free, in the axes, and nearest to its own point, so that nobody takes it for another's."""
    covered = sum(box.overlaps(other) for other in taken)
    is_outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1)
    is_anothers = _distances(box, centres).argmin() != i
    return 10 * covered + 10 * is_outside + is_anothers


def _distances(box: Bbox, points: np.ndarray) -> np.ndarray:
    """How far each point (x, y) is from the box, 0 inside; (N,)."""
    outside = np.maximum(np.maximum(box.min - points, points - box.max), 0)
    return np.hypot(*outside.T)


def _diamond(hollow: bool) -> dict:
    return {"marker": "D", "ms": 7, "color": "white" if hollow else ROLES["student after"]["color"], "mec": INK}


def gain_vs_teacher(
    teacher: Mapping[str, float],
    gain: Mapping[str, Sequence[float]],
    xlabel: str = "teacher's top-1 there, %",
    kinds: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """The student's gain (seeds, in points) against the teacher's accuracy, one point a domain.

    ``kinds`` says of each domain which of two it is of: the first is filled, the second hollow. ``labels`` are what
    stands beside the points, by default the domains' names.
    """
    kinds, labels = kinds or {}, labels or {}
    found = list(dict.fromkeys(kinds.values()))
    if len(found) > 2:
        raise ValueError(f"kinds has {', '.join(found)}: give two at most, one filled and one hollow.")
    fig, ((ax,),) = grid(*((6.2, 3.9) if len(teacher) <= 6 else (7.4, 5)))
    without_frame(ax).axhline(0, color=GREY, lw=1, ls=":")
    for name, accuracy in teacher.items():
        seeds = np.asarray(gain[name], float)
        ax.plot([accuracy] * 2, [seeds.min(), seeds.max()], color=GREY, lw=1.2)
        ax.plot([accuracy] * len(seeds), seeds, ls="", marker="o", ms=3.5, color="white", mec=GREY)
        is_hollow = name in kinds and kinds[name] != found[0]
        ax.plot(accuracy, seeds.mean(), **_diamond(is_hollow))
    ax.margins(x=0.2, y=0.15)
    ax.set(
        xlabel=xlabel,
        ylabel="student's gain over zero-shot, points",
        title="The student's gain by what its teacher knows",
    )
    if found:
        shown = [Line2D([], [], ls="", **_diamond(kind != found[0])) for kind in found]
        ax.legend(shown, found, fontsize=8, frameon=False)
    points = [(accuracy, float(np.mean(gain[name]))) for name, accuracy in teacher.items()]
    name_points(ax, [labels.get(name, name) for name in teacher], points)
    summary = "; ".join(f"{n}: {teacher[n]:.1f}, {np.mean(gain[n]):+.1f}" for n in teacher)
    return with_alt(fig, f"Gain of the student by domain. {xlabel}, and mean gain: {summary}.")
