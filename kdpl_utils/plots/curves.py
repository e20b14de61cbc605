"""Figures of many pictures, runs and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .style import GREY, INK, PALE, ROLES, Figure, draw_line, grid, looks_of, shortened, style, with_alt, without_frame


def draw_reliability(ax: Axes, curves: Mapping[str, tuple], size: float = 9) -> None:
    without_frame(ax).plot([0, 1], [0, 1], color=GREY, ls=":", lw=1.2, label="calibrated")
    for i, (name, (confidence, acc, count)) in enumerate(curves.items()):
        used = np.asarray(count) > 0
        draw_line(ax, np.asarray(confidence)[used], np.asarray(acc)[used], style(name, i), label=name)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.03))
    ax.set_xlabel("confidence (highest probability)", fontsize=size)
    ax.set_ylabel("accuracy", fontsize=size)


def reliability(curves: Mapping[str, tuple], title: str = "Reliability") -> Figure:
    """Accuracy against confidence by bin: ``curves`` maps a name to (confidence, accuracy, count), each (bins,).

    The strip below shows the share of pictures in each bin.
    """
    fig, ((ax,), (strip,)) = grid(4.8, 5.2, 2, 1, height_ratios=[4, 1], sharex=True)
    draw_reliability(ax, curves)
    ax.set_xlabel("")
    ax.set_title(title)
    ax.legend(frameon=False, fontsize=8)
    for i, (name, (_, _, count)) in enumerate(curves.items()):
        count, look = np.asarray(count), style(name, i)
        share = count / max(1, count.sum())
        width = 1 / len(share) / len(curves)
        left = np.arange(len(share)) / len(share) + i * width
        strip.bar(left, share, width, align="edge", color=look["color"], hatch=look["hatch"], edgecolor=INK, lw=0.4)
    without_frame(strip).set(xlabel="confidence (highest probability)", ylabel="share of\npictures")
    return with_alt(
        fig, f"{title}: accuracy by confidence for {', '.join(curves)}; the diagonal is perfect calibration."
    )


def entropy_histogram(entropies: Mapping[str, Sequence[float]], limit: float, unit: str = "nats") -> Figure:
    """How undecided each model is: ``entropies`` maps a role to (N,), ``limit`` is that of the uniform distribution."""
    fig, axes = grid(5.6, 0.7 + 1.25 * len(entropies), len(entropies), 1, sharex=True, sharey=True)
    bins, summary = np.linspace(0, limit, 25), []
    for i, (ax, (name, values)) in enumerate(zip(axes[:, 0], entropies.items())):
        values, look = np.asarray(values), style(name, i)
        share = np.full(len(values), 1 / len(values))
        without_frame(ax).hist(
            values, bins, weights=share, color=look["color"], hatch=look["hatch"], edgecolor=INK, lw=0.5
        )
        ax.axvline(values.mean(), color=INK, lw=1.5)
        ax.set_title(f"{name}: mean {values.mean():.2f} {unit}", fontsize=9, loc="left")
        summary.append(f"{name} {values.mean():.2f}")
    axes[-1, 0].set(xlim=(0, limit), xlabel=f"entropy of a picture's distribution, {unit} (right end: uniform)")
    fig.supylabel("share of pictures", fontsize=9)
    return with_alt(fig, f"Histograms of entropy in {unit}, of at most {limit:.2f}; means: {', '.join(summary)}.")


def learning_curves(
    curves: Mapping[str, np.ndarray], zero_shot: Mapping[str, float], ylabel: str = "top-1, %"
) -> Figure:
    """Curves (seeds, epochs) in one panel each, all on one scale: seeds thin, their mean bold, zero-shot dashed."""
    fig, axes = grid(4.2 * len(curves), 3.5, 1, len(curves), sharey=True)
    summary = []
    for ax, (name, values) in zip(axes.flat, curves.items()):
        values = np.asarray(values)
        draw_curves(ax, values, zero_shot[name])
        ax.set_title(name)
        summary.append(f"{name} from {zero_shot[name]:.1f} zero-shot to {values[:, -1].mean():.1f}")
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].legend(frameon=False, fontsize=8)
    return with_alt(fig, f"Learning curves of {len(values)} seeds: " + "; ".join(summary) + ".")


def draw_curves(ax: Axes, values: np.ndarray, zero_shot: float) -> None:
    epochs = np.arange(1, values.shape[1] + 1)
    without_frame(ax).plot(epochs, values.T, color=ROLES["student after"]["color"], alpha=0.45, lw=0.9)
    draw_line(ax, epochs, values.mean(axis=0), ROLES["student after"], label="learned (mean of seeds)", marker=False)
    draw_line(ax, epochs[[0, -1]], [zero_shot] * 2, ROLES["student before"], label="zero-shot", marker=False)
    ax.set_xlabel("training epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)


def slopes(
    before: Mapping[str, float], after: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str = "top-1, %"
) -> Figure:
    """Paired slopes from ``before[column]`` to each method's seeds, ``after[method][column]``; a panel a column.

    All panels are on one scale, so that a gain in one and a loss in the other can be compared.
    """
    fig, axes = grid(max(2.5, 1.1 + 0.5 * len(after)) * len(before), 3.8, 1, len(before), sharey=True)
    summary = []
    for ax, (column, start) in zip(axes.flat, before.items()):
        without_frame(ax).axhline(start, color=GREY, ls=":", lw=1)
        for i, (look, (method, values)) in enumerate(zip(looks_of(list(after)), after.items())):
            for value in values[column]:
                ax.plot([0, i + 1], [start, value], color=GREY, alpha=0.45, lw=0.9)
            draw_line(ax, [i + 1] * len(values[column]), values[column], look, ls="", width=0)
            summary.append(f"{method} {column} {np.mean(values[column]):.1f}")
        ax.plot(0, start, marker="o", ms=7, color=ROLES["student before"]["color"], markeredgecolor=INK)
        ax.set_xticks(range(len(after) + 1), ["zero-shot", *after], rotation=30, ha="right")
        ax.set_title(column)
        ax.margins(x=0.14)
    axes[0, 0].set_ylabel(ylabel)
    return with_alt(
        fig,
        f"Zero-shot {', '.join(f'{c} {v:.1f}' for c, v in before.items())}; means over seeds: {'; '.join(summary)}.",
    )


def seed_dots(
    values: Mapping[str, Sequence[float]],
    reference: float,
    xlabel: str,
    title: str = "",
    dots: str = "seeds",
    line: str = "zero-shot student",
) -> Figure:
    """Every seed (or what ``dots`` says) of every setting as a dot, their mean as a bar, the reference as a line."""
    fig, ((ax,),) = grid(6.4, 1.1 + 0.42 * len(values))
    for i, v in enumerate(values.values()):
        without_frame(ax).plot(v, [i] * len(v), ls="", marker="o", alpha=0.7, color=GREY, markeredgecolor=INK)
        ax.plot([np.mean(v)] * 2, [i - 0.28, i + 0.28], color=INK, lw=2, label="" if i else "mean")
    draw_line(ax, [reference] * 2, [-0.5, len(values) - 0.5], ROLES["student before"], False, label=line)
    ax.set_yticks(range(len(values)), list(values))
    ax.set(ylim=(len(values) - 0.5, -0.5), xlabel=xlabel)
    ax.set_title(title, pad=20)
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    summary = "; ".join(f"{name} {np.mean(v):.1f}" for name, v in values.items())
    return with_alt(fig, f"{xlabel}, mean over {dots}: {summary}; {line} {reference:.1f}.")


def forest(
    differences: Mapping[str, Mapping[str, tuple[float, float, float]]],
    xlabel: str = "difference over seeds, points, with its 95 % interval",
    title: str = "",
) -> Figure:
    """Paired differences on one scale: method → what was compared → (difference, low, high).

    A filled marker is an interval that leaves out 0; a hollow one reads "no difference seen".  So no method is white
    here: where its colour is white, it is drawn grey.
    """
    rows = list(dict.fromkeys(what for of_method in differences.values() for what in of_method))
    fig, ((ax,),) = grid(6.6, 1.2 + 0.22 * len(rows) * (len(differences) + 0.6))
    without_frame(ax).axvline(0, color=GREY, lw=1, ls=":")
    step = 0.8 / len(differences)
    summary = []
    for i, ((method, of_method), look) in enumerate(zip(differences.items(), looks_of(list(differences)))):
        colour = GREY if look["color"] == "#FFFFFF" else look["color"]
        for what, (difference, low, high) in of_method.items():
            y = rows.index(what) - 0.4 + step * (i + 0.5)
            is_seen = low > 0 or high < 0
            ax.plot([low, high], [y, y], color=colour, lw=2)
            face = colour if is_seen else "white"
            ax.plot(difference, y, marker=look["marker"], ms=6, ls="", color=face, mec=INK)
            seen = "" if is_seen else ", no difference seen"
            summary.append(f"{method}, {what}: {difference:+.1f} from {low:+.1f} to {high:+.1f}{seen}")
        ax.plot([], [], marker=look["marker"], color=colour, mec=INK, label=method)
    ax.set_yticks(range(len(rows)), rows)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=f"{xlabel}\nhollow: the interval holds 0, no difference seen")
    ax.set_title(title, pad=24)
    ax.legend(frameon=False, fontsize=8, ncols=len(differences), loc="lower right", bbox_to_anchor=(1, 1))
    return with_alt(fig, f"{xlabel}. {'; '.join(summary)}.")


def k_curves(ks: Sequence[int], curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Per cent against K on a logarithmic axis; curves of one value a K."""
    fig, ((ax,),) = grid(6, 3.6)
    for i, (name, values) in enumerate(curves.items()):
        draw_line(without_frame(ax), ks, values, style(name, i), label=name)
    ax.set(xscale="log", xlabel="K, names kept for a batch", ylabel="per cent", title=title, ylim=(0, 104))
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    summary = "; ".join(f"{n} from {v[0]:.0f} at K = {ks[0]} to {v[-1]:.0f} at K = {ks[-1]}" for n, v in curves.items())
    return with_alt(fig, f"{title}: {summary}.")


def ablation(
    alphas: Sequence[float],
    values: Mapping[str, np.ndarray],
    ylabel: str = "H of base and novel, top-1 %",
    reference: float | None = None,
    pairs: bool = True,
    title: str = "",
) -> Figure:
    """Every seed at every weight alpha of the two KL directions, one panel a setting; values (alphas, seeds).

    With ``pairs`` a thin line joins the runs of one seed: they share pictures and order.
    """
    fig, axes = grid(max(6, 4.3 * len(values)), 4, 1, len(values), sharey=True)
    summary, look = [], style("mean")  # one for all panels, as there is one legend
    for ax, (setting, seeds) in zip(axes.flat, values.items()):
        seeds = np.asarray(seeds, dtype=float)
        if pairs:
            without_frame(ax).plot(alphas, seeds, color=GREY, lw=0.8, alpha=0.7)
        spread = np.repeat(alphas, seeds.shape[1])
        without_frame(ax).plot(spread, seeds.ravel(), ls="", marker="o", ms=4, color="white", markeredgecolor=GREY)
        draw_line(ax, alphas, seeds.mean(axis=1), look, label=f"mean of {seeds.shape[1]} seeds")
        if reference is not None:
            draw_line(
                ax, [min(alphas), max(alphas)], [reference] * 2, ROLES["student before"], False, label="zero-shot"
            )
        ax.set_xticks(alphas)
        ax.set_xlabel("alpha (0: reverse KL, 1: forward KL)")
        ax.set_title(setting)
        best = int(seeds.mean(axis=1).argmax())
        summary.append(f"{setting} highest mean {seeds.mean(axis=1)[best]:.1f} at alpha {alphas[best]:g}")
    axes[0, 0].set_ylabel(ylabel)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False, fontsize=8.5)
    fig.suptitle(title, fontsize=11)
    return with_alt(fig, f"{ylabel} against alpha, every seed: {'; '.join(summary)}.")


def context_words(words: Sequence[Sequence[str]], distances, started: Sequence[str] = ()) -> Figure:
    """The nearest words of each context vector, nearest first: words and distances (n_ctx, k)."""
    distances = np.asarray(distances)
    fig, axes = grid(2.1 * len(words) + 0.3, 0.9 + 0.3 * len(words[0]), 1, len(words), sharex=True)
    for i, (ax, row, d) in enumerate(zip(axes.flat, words, distances)):
        draw_words(ax, row, d)
        ax.set_title(f"vector {i + 1}" + (f"\n(was “{started[i]}”)" if len(started) else ""), fontsize=9)
    fig.supxlabel("distance to the learned vector (shorter: nearer)", fontsize=9)
    summary = "; ".join(f"vector {i + 1}: {', '.join(row)}" for i, row in enumerate(words))
    return with_alt(fig, f"Nearest words of the vocabulary, nearest first. {summary}.")


def draw_words(ax: Axes, words: Sequence[str], distances: Sequence[float]) -> None:
    without_frame(ax).barh(range(len(words)), distances, 0.8, color=PALE, edgecolor=INK, linewidth=0.5)
    for i, word in enumerate(words):
        ax.text(0.0, i, f" {shortened(word, 16)}", va="center", fontsize=9, color=INK)
    ax.set_yticks([])
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_ylim(len(words) - 0.5, -0.5)


def loss_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str, start: float | None = None) -> Figure:
    """A panel for each run, all on one scale: ``curves[run][what]`` has a value for each epoch 1, 2, …

    Args:
        start: a value that all runs begin from, as a dotted line.
    """
    fig, axes = grid(max(5, 1.95 * len(curves)), 3.1, 1, len(curves), sharey=True)
    summary = []
    for ax, (run, lines) in zip(axes.flat, curves.items()):
        without_frame(ax).axhline(0, color=INK, lw=0.8)
        if start is not None:
            ax.axhline(start, color=GREY, ls=":", lw=1.2, label="before training")
        for look, (what, values) in zip(looks_of(list(lines)), lines.items()):
            draw_line(ax, np.arange(1, len(values) + 1), values, look, label=what)
            summary.append(f"{run}, {what} from {values[0]:.2f} to {values[-1]:.2f}")
        ax.set_title(run)
        ax.set_xlabel("training epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel(ylabel)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False, fontsize=8.5)
    return with_alt(fig, f"{ylabel} over epochs: " + "; ".join(summary) + ".")


def bars(names: Sequence[str], rows: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Distributions over the same few names, one panel below the other on one scale: ``rows`` maps a role to (C,)."""
    fig, axes = grid(7, 0.7 + 1.15 * len(rows), len(rows), 1, sharex=True, sharey=True)
    summary = []
    for i, (ax, (role, values)) in enumerate(zip(axes[:, 0], rows.items())):
        p = np.asarray(values)
        look = style(role, i)
        without_frame(ax).bar(range(len(p)), p, color=look["color"], hatch=look["hatch"], edgecolor=INK, lw=0.6)
        ax.set_title(role, fontsize=9, loc="left")
        summary.append(f"{role} highest at {names[int(p.argmax())]}, {p.max():.2f}")
    axes[-1, 0].set_xticks(range(len(names)), [shortened(name, 14) for name in names])
    fig.supylabel("probability", fontsize=9)
    fig.suptitle(title, fontsize=10)
    return with_alt(fig, f"{title}: " + "; ".join(summary) + ".")
