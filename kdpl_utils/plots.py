"""Arrays in, figure out.  No metric is computed here; each figure carries a sentence about its data in ``fig.alt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

# One colour (Okabe-Ito), hatch and marker for each role, everywhere.
ROLES = {
    "teacher": {"color": "#0072B2", "hatch": "", "marker": "s"},
    "student before": {"color": "#E69F00", "hatch": "//", "marker": "o"},
    "student after": {"color": "#009E73", "hatch": "..", "marker": "D"},
    "label": {"color": "#000000", "hatch": "xx", "marker": "*"},
}
# And one for each further method or setting, never a role's.
METHODS = (("#CC79A7", "^"), ("#56B4E9", "v"), ("#D55E00", "P"), ("#999999", "X"))


def _role(name: str, index: int) -> dict:
    colour, marker = METHODS[index % len(METHODS)]
    return ROLES.get(name) or {"color": colour, "hatch": ("", "\\\\", "--", "oo")[index % 4], "marker": marker}


def _done(fig: Figure, alt: str) -> Figure:
    fig.alt = alt
    plt.close(fig)  # returned, so shown once, by the cell that asks for it
    return fig


def similarity_heatmap(images: Sequence, names: Sequence[str], cosines) -> Figure:
    """Pictures (rows, as thumbnails) against names (columns): cosines (N, C)."""
    values = np.asarray(cosines)
    fig, ax = plt.subplots(figsize=(1.6 + 0.75 * len(names), 1.5 + 0.6 * len(images)), layout="constrained")
    sns.heatmap(
        values, annot=True, fmt=".2f", cmap="cividis", cbar_kws={"label": "cosine"}, ax=ax, annot_kws={"size": 8}
    )
    ax.set_xticks(np.arange(len(names)) + 0.5, names, rotation=35, ha="right")
    ax.set_yticks([])
    for row, image in enumerate(images):
        thumbnail = OffsetImage(np.asarray(image.resize((36, 36))), zoom=0.9)
        ax.add_artist(
            AnnotationBbox(
                thumbnail,
                (0, row + 0.5),
                xybox=(-24, 0),
                boxcoords="offset points",
                frameon=False,
                annotation_clip=False,
            )
        )
    best = values.argmax(axis=1)
    hits = int((best == np.arange(len(images))).sum()) if len(images) == len(names) else None
    ax.set_xlabel("name in the prompt")
    ax.set_title("Cosine of each picture with each name")
    told = "" if hits is None else f" {hits} of {len(images)} pictures are nearest to their own name."
    return _done(fig, f"Heat map of cosines, {len(images)} pictures by {len(names)} names.{told}")


def distributions(
    image,
    names: Sequence[str],
    rows: Mapping[str, Sequence[float]],
    label: str | None = None,
    k: int = 6,
    title: str = "",
) -> Figure:
    """One picture and the probabilities that several models give it: ``rows`` maps a role to (C,) probabilities.

    Shown are the ``k`` names most probable for the first role, and the label where it is one of the names.
    """
    values = {role: np.asarray(p) for role, p in rows.items()}
    chosen = list(np.argsort(-next(iter(values.values())))[:k])
    if label in names and names.index(label) not in chosen:
        chosen.append(names.index(label))
    fig, (left, ax) = plt.subplots(
        1, 2, figsize=(8.5, 0.75 + 0.45 * len(chosen) + 0.1 * len(values)), width_ratios=[1, 3.4], layout="constrained"
    )
    left.imshow(image)
    left.axis("off")
    left.set_title(f"label: {label}" if label else "no label", fontsize=9)
    height = 0.8 / len(values)
    for i, (role, p) in enumerate(values.items()):
        style = _role(role, i)
        ax.barh(
            np.arange(len(chosen)) + i * height,
            p[chosen],
            height,
            color=style["color"],
            hatch=style["hatch"],
            edgecolor="white",
            label=role,
        )
    ax.set_yticks(
        np.arange(len(chosen)) + height * (len(values) - 1) / 2,
        [("▸ " if names[c] == label else "") + names[c] for c in chosen],
    )
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="probability")
    ax.legend(loc="lower right", fontsize=8, frameon=False)
    ax.set_title(title, fontsize=10)
    tops = "; ".join(f"{role}: {names[int(p.argmax())]} {p.max():.2f}" for role, p in values.items())
    return _done(fig, f"Probabilities of one picture{f' of {label}' if label else ''}. Most probable for {tops}.")


def picture_row(images: Sequence, captions: Sequence[str], title: str = "") -> Figure:
    """Pictures side by side, eight to a row, each with a caption."""
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(1.5 * columns, 1.85 * rows + 0.3), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, caption in zip(axes.flat, images, captions):
        ax.imshow(image)
        ax.set_title(caption, fontsize=7.5)
    fig.suptitle(title, fontsize=11)
    return _done(fig, f"{title}: " + "; ".join(c.replace("\n", ", ") for c in captions))


def reliability(curves: Mapping[str, tuple], title: str = "Reliability") -> Figure:
    """Accuracy against confidence by bin: ``curves`` maps a name to (confidence, accuracy, count), each (bins,)."""
    fig, ax = plt.subplots(figsize=(4.8, 4.4), layout="constrained")
    ax.plot([0, 1], [0, 1], color="grey", ls=":", label="calibrated")
    for i, (name, (confidence, acc, count)) in enumerate(curves.items()):
        style, used = _role(name, i), np.asarray(count) > 0
        ax.plot(
            np.asarray(confidence)[used],
            np.asarray(acc)[used],
            marker=style["marker"],
            color=style["color"],
            ms=5,
            label=name,
        )
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence (highest probability)", ylabel="accuracy", title=title)
    ax.legend(frameon=False, fontsize=8)
    return _done(fig, f"{title}: accuracy by confidence for {', '.join(curves)}; the diagonal is perfect calibration.")


def learning_curves(
    curves: Mapping[str, np.ndarray], zero_shot: Mapping[str, float], ylabel: str = "top-1, %"
) -> Figure:
    """Curves (seeds, epochs) in one panel each, every seed thin and their mean bold, with the zero-shot line."""
    fig, axes = plt.subplots(1, len(curves), figsize=(4.2 * len(curves), 3.5), squeeze=False, layout="constrained")
    told = []
    for ax, (name, values) in zip(axes.flat, curves.items()):
        values, style = np.asarray(values), ROLES["student after"]
        epochs = np.arange(1, values.shape[1] + 1)
        ax.plot(epochs, values.T, color=style["color"], alpha=0.35, lw=0.9)
        ax.plot(epochs, values.mean(axis=0), color=style["color"], lw=2.2, label="learned (mean of seeds)")
        ax.axhline(zero_shot[name], color=ROLES["student before"]["color"], ls="--", label="zero-shot")
        ax.set(title=name, xlabel="epoch", ylabel=ylabel)
        told.append(f"{name} from {zero_shot[name]:.1f} zero-shot to {values[:, -1].mean():.1f}")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return _done(fig, f"Learning curves of {len(values)} seeds: " + "; ".join(told) + ".")


def slopes(
    before: Mapping[str, float], after: Mapping[str, Mapping[str, Sequence[float]]], ylabel: str = "top-1, %"
) -> Figure:
    """Paired slopes: from ``before[column]`` to each method's seeds, ``after[method][column]``, a panel a column."""
    fig, axes = plt.subplots(1, len(before), figsize=(3.3 * len(before), 3.6), squeeze=False, layout="constrained")
    told = []
    for ax, (column, start) in zip(axes.flat, before.items()):
        for i, (method, values) in enumerate(after.items()):
            colour, marker = METHODS[i % len(METHODS)]
            for value in values[column]:
                ax.plot([0, i + 1], [start, value], color=colour, alpha=0.35, lw=1)
            ax.plot([i + 1] * len(values[column]), values[column], ls="", marker=marker, color=colour)
            told.append(f"{method} {column} {np.mean(values[column]):.1f}")
        ax.plot(0, start, marker="s", color="grey")
        ax.axhline(start, color="grey", ls=":", lw=1)
        ax.set_xticks(range(len(after) + 1), ["zero-shot", *after], rotation=25, ha="right")
        ax.set(title=column, ylabel=ylabel)
        ax.margins(x=0.12)
    return _done(
        fig, f"Zero-shot {', '.join(f'{c} {v:.1f}' for c, v in before.items())}; means over seeds: {'; '.join(told)}."
    )


def seed_dots(values: Mapping[str, Sequence[float]], reference: float, xlabel: str, title: str = "") -> Figure:
    """Every seed of every setting as a dot, with the mean as a bar and a reference line."""
    fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.42 * len(values)), layout="constrained")
    for i, v in enumerate(values.values()):
        ax.plot(v, [i] * len(v), ls="", marker="o", alpha=0.6, color=ROLES["teacher"]["color"])
        ax.plot([np.mean(v)] * 2, [i - 0.28, i + 0.28], color="black", lw=2)
    ax.axvline(reference, color=ROLES["student before"]["color"], ls="--", label="zero-shot student")
    ax.set_yticks(range(len(values)), list(values))
    ax.set(ylim=(len(values) - 0.5, -0.5), xlabel=xlabel, title=title)
    ax.legend(frameon=False, fontsize=8)
    told = "; ".join(f"{name} {np.mean(v):.1f}" for name, v in values.items())
    return _done(fig, f"{xlabel}, mean over seeds: {told}; zero-shot student {reference:.1f}.")


def selected_names(
    names: Sequence[str], probability: Sequence[float], is_true: Sequence[bool], title: str = ""
) -> Figure:
    """The names a teacher picked for a batch, most probable first; those that are true of some picture are marked."""
    fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.24 * len(names)), layout="constrained")
    colours = [ROLES["teacher"]["color"] if t else "#BBBBBB" for t in is_true]
    ax.barh(range(len(names)), probability, color=colours, hatch="", edgecolor="white")
    ax.set_yticks(range(len(names)), [f"{'✓ ' if t else ''}{n}" for n, t in zip(names, is_true)], fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="probability, mean over the batch", title=title)
    true = f"{sum(map(bool, is_true))} of them true of a picture in the batch"
    return _done(fig, f"{len(names)} names the teacher picked, {true}; first: {names[0]}.")


def k_curves(ks: Sequence[int], curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Per cent against K on a logarithmic axis; curves of one value a K."""
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for i, (name, values) in enumerate(curves.items()):
        style = _role(name, i)
        ax.plot(ks, values, marker=style["marker"], color=style["color"], label=name)
    ax.set(xscale="log", xlabel="K, names kept for a batch", ylabel="per cent", title=title, ylim=(0, 103))
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8)
    told = "; ".join(f"{n} from {v[0]:.0f} at K = {ks[0]} to {v[-1]:.0f} at K = {ks[-1]}" for n, v in curves.items())
    return _done(fig, f"{title}: {told}.")
