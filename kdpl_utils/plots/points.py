"""Figures of seeds and intervals, of costs and gains: each point or row has a name."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from .curves import side_by_side
from .style import GREY, INK, PALE, ROLES, Figure, draw_line, grid, looks_of, marker, our_style, shortened


def _rows(names, height, xlabel, title) -> tuple[Figure, Axes]:
    """Return a figure with a named row for each name, from the top."""
    fig, ((ax,),) = grid(6.5, 1.2 + height * len(names))
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    fig.suptitle(title, fontsize=10.5)
    return fig, ax


def _legend_above(ax: Axes) -> None:
    ax.legend(ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


@our_style
def seed_dots(values, reference, xlabel, title="", dots="seeds", line="zero-shot student") -> Figure:
    """Draw every seed (or other ``dots``) of each setting, their mean as a bar, and the reference as a line."""
    fig, ax = _rows(list(values), 0.42, xlabel, title)
    for i, seeds in enumerate(values.values()):
        ax.plot(seeds, [i] * len(seeds), ls="", marker="o", alpha=0.7, color=GREY, mec=INK)
        ax.plot([np.mean(seeds)] * 2, [i - 0.28, i + 0.28], color=INK, lw=2, label="_" if i else "mean")
    draw_line(ax, [reference] * 2, [-0.5, len(values) - 0.5], ROLES["student before"], line, False)
    _legend_above(ax)
    summary = "; ".join(f"{name} {np.mean(seeds):.1f}" for name, seeds in values.items())
    return fig.described(f"{xlabel}, mean over {dots}: {summary}; {line} {reference:.1f}.")


@our_style
def forest(differences, xlabel="difference over seeds, points, with its 95 % interval", title="") -> Figure:
    """Draw paired differences: method → what was compared → (difference, low, high).

    A hollow marker is an interval that holds 0. No method is white here: a white look is drawn grey.
    """
    rows = list(dict.fromkeys(what for of_method in differences.values() for what in of_method))
    below = f"{xlabel}\nhollow: the interval holds 0, no difference seen"
    fig, ax = _rows(rows, 0.22 * (len(differences) + 0.6), below, title)
    ax.axvline(0, color=GREY, lw=1, ls=":")
    step = 0.8 / len(differences)
    summary = []
    for i, (look, (method, of_method)) in enumerate(zip(looks_of(list(differences)), differences.items())):
        look = look | {"color": look["color"].replace("#FFFFFF", GREY)}
        for what, (difference, low, high) in of_method.items():
            y = rows.index(what) - 0.4 + step * (i + 0.5)
            holds_zero = low <= 0 <= high
            ax.plot([low, high], [y, y], color=look["color"], lw=2)
            ax.plot(difference, y, **marker(look, 6, holds_zero))
            seen = ", no difference seen" if holds_zero else ""
            summary.append(f"{method}, {what}: {difference:+.1f} from {low:+.1f} to {high:+.1f}{seen}")
        ax.plot([], [], **marker(look, 6) | {"ls": "-"}, label=method)
    _legend_above(ax)
    return fig.described(f"{xlabel}. {'; '.join(summary)}.")


@our_style
def pareto(names, cost, gain, front, ylabel="gain of the student, points", budget=None) -> Figure:
    """Draw every seed's gain (M, seeds) over each teacher's cost (M,) in ms a picture.

    Args:
        front: (M,) whether no cheaper teacher is as good. These points are filled and joined.
        budget: teachers beyond it are shaded.
    """
    cost = np.asarray(cost, float)
    gain = np.asarray(gain, float)
    front = np.asarray(front, bool)
    mean = gain.mean(axis=1)
    title = "What does a larger teacher cost, and what does it gain?"
    fig, (ax,) = side_by_side([title], 7, 4, "teacher, ms a picture", ylabel)
    ax.axhline(0, color=GREY, lw=1, ls=":")
    ax.plot(np.repeat(cost, gain.shape[1]), gain.ravel(), ls="", marker="o", ms=3.5, color="white", mec=GREY)
    order = np.flatnonzero(front)[np.argsort(cost[front])]
    ax.plot(cost[order], mean[order], color=ROLES["teacher"]["color"], lw=1.6, drawstyle="steps-post")
    for c, m, name, is_on in zip(cost, mean, names, front):
        ax.plot(c, m, **marker(ROLES["teacher"], 9, not is_on))
        ax.annotate(shortened(name), (c, m), (7, 7), textcoords="offset points", fontsize=8)
    ax.set(xscale="log", xlim=(cost.min() / 1.5, cost.max() * 2.6))
    ticks = [c for c in np.unique(cost) if not np.any((cost < c) & (cost > c / 1.3))]  # numbers need room
    ax.set_xticks(ticks, [f"{c:.3g}" for c in ticks])
    ax.minorticks_off()
    ax.margins(y=0.22)
    points = zip(names, cost, mean, front)
    summary = "; ".join(f"{n} {c:.3g} → {m:+.1f}{' (on the front)' if is_on else ''}" for n, c, m, is_on in points)
    if budget is not None:
        ax.axvspan(budget, ax.get_xlim()[1], color=PALE, zorder=0)
        ax.axvline(budget, color=INK, lw=1.2)
        ax.set_title(f"A budget of {budget:.3g} ms a picture")
        within = ", ".join(name for name, c in zip(names, cost) if c <= budget)
        summary = f"within {budget:.3g} ms: {within or 'no teacher'}"
    return fig.described(f"{ylabel} against ms a picture: {summary}.")


@our_style
def gain_vs_teacher(teacher, gain, xlabel, kinds, labels) -> Figure:
    """Draw the student's gain (seeds, in points) against the teacher's lead, one point a domain.

    Args:
        kinds: which of two kinds each domain is of. The first is filled, the second hollow.
        labels: the words beside the points.
    """
    title = "Does the student gain more where its teacher is further ahead?"
    fig, (ax,) = side_by_side([title], 7.4, 5, xlabel, "student's gain over zero-shot, points")
    ax.axhline(0, color=GREY, lw=1, ls=":")
    means = {name: float(np.mean(seeds)) for name, seeds in gain.items()}
    first = next(iter(kinds.values()))
    for name, x in teacher.items():
        ax.plot([x] * len(gain[name]), gain[name], lw=1.2, marker="o", ms=3.5, color=GREY, mfc="white")
        ax.plot(x, means[name], **marker(ROLES["student after"], 7, kinds[name] != first))
    for kind in dict.fromkeys(kinds.values()):
        ax.plot([], [], **marker(ROLES["student after"], 7, kind != first), label=kind)
    ax.margins(x=0.2, y=0.15)
    ax.legend()
    _name_points(ax, [shortened(labels[name]) for name in teacher], [(x, means[name]) for name, x in teacher.items()])
    summary = "; ".join(f"{name}: {x:.1f}, {means[name]:+.1f}" for name, x in teacher.items())
    return fig.described(f"Gain of the student by domain. {xlabel}, and mean gain: {summary}.")


def _name_points(ax: Axes, names, points) -> None:
    """Write a name beside each point (x, y), where no point and no other name stands."""
    ax.figure.draw_without_rendering()  # sizes are known from here on
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in ax.transData.transform(points)]
    heights = (5, -12, 16, -23, 27, -34, 38, -45, 49, -56)  # in typographic points
    places = sorted([(x, y) for y in heights for x in (8, -8, 30, -30)], key=lambda place: np.hypot(*place))
    dot = ax.figure.dpi / 72
    for name, point in zip(names, points):
        text = ax.annotate(name, point, (0, 0), textcoords="offset points", fontsize=8)
        here = text.get_window_extent().padded(1)
        boxes = [here.translated(x * dot - (x < 0) * here.width, y * dot) for x, y in places]
        outside = [box.x0 < ax.bbox.x0 or box.x1 > ax.bbox.x1 for box in boxes]
        best = int(np.argmin([sum(box.overlaps(other) for other in taken) + o for box, o in zip(boxes, outside)]))
        taken.append(boxes[best])
        x, y = places[best]
        text.set(position=(x, y), ha="left" if x > 0 else "right")
        if (x, y) not in places[:4]:  # a line shows whose name it is
            line = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
            ax.annotate("", point, (x, y + 3), textcoords="offset points", arrowprops=line)
