"""Figures of curves and bars: many pictures, epochs and settings."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from .style import GREY, INK, ROLES, Figure, draw_line, grid, looks_of, marker, our_style, shortened


def draw_reliability(ax: Axes, curves) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1.2, label="calibrated")
    for look, (name, (confidence, accuracy, count)) in zip(looks_of(list(curves)), curves.items()):
        used = np.asarray(count) > 0
        draw_line(ax, np.asarray(confidence)[used], np.asarray(accuracy)[used], look, name)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="confidence (highest probability)", ylabel="accuracy")


@our_style
def reliability(curves, title) -> Figure:
    """Draw accuracy by confidence, and below the share of pictures in each bin.

    Args:
        curves: (confidence, accuracy, count), each (bins,), by name.
    """
    fig, ((ax,), (strip,)) = grid(4.8, 5.2, 2, 1, height_ratios=[4, 1], sharex=True)
    draw_reliability(ax, curves)
    ax.set(xlabel="", title=title)
    ax.legend()
    for i, (look, (_, _, count)) in enumerate(zip(looks_of(list(curves)), curves.values())):
        share = np.asarray(count) / max(1, int(sum(count)))
        width = 1 / len(share) / len(curves)
        left = np.arange(len(share)) / len(share) + i * width
        strip.bar(left, share, width, align="edge", color=look["color"], hatch=look["hatch"], edgecolor=INK, lw=0.4)
    strip.set(xlabel="confidence (highest probability)", ylabel="share of\npictures")
    names = ", ".join(curves)
    return fig.described(f"{title}: accuracy by confidence for {names}; the diagonal is perfect calibration.")


@our_style
def bars(names, rows, title) -> Figure:
    """Draw distributions over the same few names, one below the other: ``rows`` maps a role to (C,)."""
    fig, axes = grid(7, 0.7 + 1.15 * len(rows), len(rows), 1, sharex=True, sharey=True)
    summary = []
    for ax, look, (role, values) in zip(axes.flat, looks_of(list(rows)), rows.items()):
        p = np.asarray(values)
        ax.bar(range(len(p)), p, color=look["color"], hatch=look["hatch"], edgecolor=INK, lw=0.6)
        ax.set_title(role, loc="left", fontsize=9)
        summary.append(f"{role} highest at {names[int(p.argmax())]}, {p.max():.2f}")
    axes[-1, 0].set_xticks(range(len(names)), [shortened(name, 14) for name in names])
    fig.supylabel("probability", fontsize=9)
    fig.suptitle(title, fontsize=10)
    return fig.described(f"{title}: " + "; ".join(summary) + ".")


def side_by_side(titles, width, height, xlabel, ylabel) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, all on one vertical scale."""
    fig, axes = grid(width, height, 1, len(titles), sharey=True)
    for ax, title in zip(axes[0], titles):
        ax.set(xlabel=xlabel, title=title)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel(ylabel)
    return fig, list(axes[0])


def _legend_below(fig: Figure) -> None:
    fig.legend(*fig.axes[-1].get_legend_handles_labels(), loc="outside lower right", ncols=4)


@our_style
def learning_curves(curves, zero_shot) -> Figure:
    """Draw curves (seeds, epochs) in per cent, a panel each: seeds thin, their mean bold, zero-shot dashed."""
    fig, axes = side_by_side(list(curves), 4.2 * len(curves), 3.6, "training epoch", "top-1, %")
    summary = []
    for ax, (name, seeds) in zip(axes, curves.items()):
        seeds = np.asarray(seeds)
        before = zero_shot[name]
        epochs = np.arange(1, seeds.shape[1] + 1)
        ax.plot(epochs, seeds.T, color=ROLES["student after"]["color"], alpha=0.45, lw=0.9)
        draw_line(ax, epochs, seeds.mean(axis=0), ROLES["student after"], "learned (mean of seeds)", False)
        draw_line(ax, epochs[[0, -1]], [before, before], ROLES["student before"], "zero-shot", False)
        summary.append(f"{name} from {before:.1f} zero-shot to {seeds[:, -1].mean():.1f}")
    _legend_below(fig)
    return fig.described(f"Learning curves of {len(seeds)} seeds: " + "; ".join(summary) + ".")


@our_style
def loss_curves(curves, ylabel, start) -> Figure:
    """Draw a panel for each run, from ``start``: ``curves[run][what]`` has a value for each epoch 1, 2, …"""
    fig, axes = side_by_side(list(curves), max(5, 1.95 * len(curves)), 3.1, "training epoch", ylabel)
    summary = []
    for ax, (run, lines) in zip(axes, curves.items()):
        ax.axhline(0, color=INK, lw=0.8)
        ax.axhline(start, color=GREY, ls=":", lw=1.2, label="before training")
        for look, (what, values) in zip(looks_of(list(lines)), lines.items()):
            draw_line(ax, np.arange(1, len(values) + 1), values, look, what)
            summary.append(f"{run}, {what} from {values[0]:.2f} to {values[-1]:.2f}")
    _legend_below(fig)
    return fig.described(f"{ylabel} over epochs: " + "; ".join(summary) + ".")


@our_style
def ablation(alphas, values, ylabel, title="") -> Figure:
    """Draw every seed at every weight alpha of the two KL directions, one panel a setting; values (alphas, seeds).

    A thin line joins the runs of one seed: they share pictures and order.
    """
    xlabel = "alpha (0: reverse KL, 1: forward KL)"
    fig, axes = side_by_side(list(values), max(6, 4.3 * len(values)), 4, xlabel, ylabel)
    summary = []
    for ax, (setting, seeds) in zip(axes, values.items()):
        mean = np.mean(seeds, axis=1)
        ax.plot(alphas, seeds, color=GREY, lw=0.8, alpha=0.7, marker="o", ms=4, mfc="white")
        draw_line(ax, alphas, mean, looks_of(["mean"])[0], f"mean of {np.shape(seeds)[1]} seeds")
        ax.set_xticks(alphas)
        summary.append(f"{setting} highest mean {mean.max():.1f} at alpha {alphas[int(mean.argmax())]:g}")
    _legend_below(fig)
    fig.suptitle(title, fontsize=11)
    return fig.described(f"{ylabel} against alpha, every seed: {'; '.join(summary)}.")


@our_style
def k_curves(ks, curves, title) -> Figure:
    """Draw per cent against K on a logarithmic axis; each curve has a value for each K."""
    fig, (ax,) = side_by_side([title], 6, 3.6, "K, names kept for a batch", "per cent")
    for look, (name, values) in zip(looks_of(list(curves)), curves.items()):
        draw_line(ax, ks, values, look, name)
    ax.set(xscale="log", ylim=(0, 104))
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.legend()
    summary = "; ".join(f"{n} from {v[0]:.0f} at K = {ks[0]} to {v[-1]:.0f} at K = {ks[-1]}" for n, v in curves.items())
    return fig.described(f"{title}: {summary}.")


@our_style
def slopes(before, after) -> Figure:
    """Draw the way from ``before[column]`` to each seed of ``after[method][column]`` in per cent, a panel a column."""
    fig, axes = side_by_side(list(before), max(2.5, 1.1 + 0.5 * len(after)) * len(before), 3.8, "", "top-1, %")
    summary = []
    for ax, (column, start) in zip(axes, before.items()):
        ax.axhline(start, color=GREY, ls=":", lw=1)
        for i, (look, (method, values)) in enumerate(zip(looks_of(list(after)), after.items()), 1):
            seeds = np.asarray(values[column], float)
            ax.plot([0, i], np.stack([0 * seeds + start, seeds]), color=GREY, alpha=0.45, lw=0.9)
            ax.plot(0 * seeds + i, seeds, **marker(look, 5.5))
            summary.append(f"{method} {column} {seeds.mean():.1f}")
        ax.plot(0, start, **marker(ROLES["student before"], 7))
        ax.set_xticks(range(len(after) + 1), ["zero-shot", *after], rotation=30, ha="right")
        ax.margins(x=0.14)
    starts = ", ".join(f"{column} {value:.1f}" for column, value in before.items())
    return fig.described(f"Zero-shot {starts}; means over seeds: {'; '.join(summary)}.")
