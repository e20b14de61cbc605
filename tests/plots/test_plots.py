"""Figures draw what they are given, describe it in words, and can be read in grey."""

import io
import itertools
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from kdpl_utils import plots
from kdpl_utils.plots.style import looks_of

IMAGE = Image.new("RGB", (64, 64), "grey")
NAMES = ["sushi", "rice", "tea"]
FORMULAS = ["$$", "$\\frac$", "5 $ or 6 $"]  # the first two cannot be read as formulas
LONG = ["a very long name of a class of things that goes on", "moon viewing ceremony", "tea"]
THREE = {"teacher": [0.2, 0.7, 0.1], "student before": [0.4, 0.3, 0.3], "student after": [0.3, 0.6, 0.1]}
KL = {"student before": 1.5, "student after": 0.25}
BINS = (torch.linspace(0.05, 0.95, 10), torch.linspace(0, 1, 10), torch.full((10,), 4))
GAPS = {"activities": 12.1, "animals": 12.6, "travel": 12.5, "smileys": 13.2, "food": 40.0}
GAINS = {"activities": [0.1], "animals": [0.0], "travel": [0.2, 0.4], "smileys": [-0.4], "food": [3.0]}
KINDS = dict.fromkeys(GAPS, "in colour") | {"food": "in ink"}
POINTS = np.random.default_rng(0).dirichlet(np.ones(3), 30)

# A figure of names (three of them), and what its words must tell.
FIGURES = {
    "pictures": (lambda n: plots.picture_row([IMAGE] * 9, [f"c{i}\nis {n[0]}" for i in range(9)], "Nine"), "Nine: c0"),
    "two pictures": (lambda n: plots.picture_row([IMAGE] * 2, n[:2], "A title longer than the pictures"), "A title"),
    "mistakes": (lambda n: plots.confident_mistakes([IMAGE], n[:1], n[2:], [0.91], n[1]), r" \(0.91\), is "),
    "heat map": (lambda n: plots.similarity_heatmap([IMAGE] * 3, n, np.eye(3)[[0, 2, 1]]), "1 of 3 pictures"),
    "distributions": (
        lambda n: plots.distributions(IMAGE, n, THREE, n[2], 2, n[0]),
        r"teacher: .* 0.70; .*before: .* 0.40",
    ),
    "cosines": (
        lambda n: plots.distributions(IMAGE, n, {"student": [0.1, 0.9, -0.2]}, kind="cosine"),
        "cosine .* 0.90",
    ),
    "teacher and student": (
        lambda n: plots.teacher_student(IMAGE, n, THREE, KL, n[1], 6, [1.5, 0.25], [2, 1.0], 1, ["before", "after"]),
        "teacher: .* 0.70; .*1.50 bits .student before., 0.25 bits",
    ),
    "two models": (
        lambda n: plots.teacher_student(
            IMAGE, n, {"teacher": [0.2, 0.7, 0.1], "student": [0.1, 0.1, 0.8]}, {"student": 2.0}, everyone=[1, 2.0, 3]
        ),
        "2.00 bits .student.",
    ),
    "temperature": (
        lambda n: plots.temperature(IMAGE, n, [0.2, 0.7, 0.1], 0.8, BINS, 10.0, 0.12, n[1]),
        "Scale 10: .* 0.70, entropy 0.80 nats; ECE 12.0 %",
    ),
    "context step": (
        lambda n: plots.context_step(n, [0.1, 0.2, 0.3], np.eye(3), {"base": [50, 60.0], n[0]: [50, 45.0]}, 1, 0, n[1]),
        "Epoch 1, context vector 1: .*; base 60.0 %, .* 45.0 %",
    ),
    "simplex": (
        lambda n: plots.simplex(
            n, POINTS[0], POINTS[1], {"forward": 1.0}, {"forward": POINTS[2]}, POINTS[:, 0], POINTS, n[0], "forward"
        ),
        "Teacher: .*In bits: forward 1.00",
    ),
    "selected": (
        lambda n: plots.selected_names(n, [0.5, 0.3, 0.1], [True, False, True], n[0]),
        "3 names .*, 2 of them",
    ),
    "class pick": (
        lambda n: plots.class_pick([IMAGE] * 9, n * 9, [0.5] * 27, [True, False, True] * 9, "kept 90%"),
        "27 names, 18 of them true; first: .* kept 90%",
    ),
    "bars": (lambda n: plots.bars(n, {"teacher": [0.2, 0.7, 0.1], n[0]: [0.4, 0.3, 0.3]}, n[1]), "0.70; .* 0.40"),
    "reliability": (
        lambda n: plots.reliability({"teacher": ([0.1, 0.9], [0.2, np.nan], [5, 0]), n[0]: BINS}, n[1]),
        "accuracy by confidence for teacher, .*; the diagonal",
    ),
    "learning curves": (
        lambda n: plots.learning_curves(
            {n[0]: [[50, 60.0], [52, 62]], n[1]: [[50, 51], [49, 48]]}, dict.fromkeys(n, 48)
        ),
        "2 seeds: .* from 48.0 zero-shot to 61.0",
    ),
    "loss curves": (
        lambda n: plots.loss_curves({"A": {"reported": [2, 1.0], n[1]: [3, 2]}, n[2]: {"reported": [0, 0]}}, "nats", 3),
        "nats over epochs: A, reported from 2.00 to 1.00; A, .* from 3.00 to 2.00; .*, reported from 0.00 to 0.00",
    ),
    "ablation": (
        lambda n: plots.ablation([0, 1], {n[0]: [[1, 2], [5, 6.0]], n[1]: [[9, 8], [5, 6]]}, "H", n[2]),
        "highest mean 5.5 at alpha 1; .* highest mean 8.5 at alpha 0",
    ),
    "K": (lambda n: plots.k_curves([4, 8], {n[0]: [50, 80]}, n[1]), "from 50 at K = 4 to 80 at K = 8"),
    "slopes": (lambda n: plots.slopes({n[2]: 40.0}, {n[1]: {n[2]: [41.0, 43.0]}}), "40.0; means over seeds: .* 42.0"),
    "dots": (
        lambda n: plots.seed_dots({n[0]: [1.0, 3.0]}, 1.5, "H", n[1], line=n[2]),
        "mean over seeds: .* 2.0; .* 1.5",
    ),
    "forest": (
        lambda n: plots.forest(
            {"CoOp": {"base": (2.0, 1.0, 3.0)}, n[0]: {"base": (0.5, -1.0, 2.0), n[1]: (1, 0.5, 2)}}
        ),
        r"CoOp, base: \+2.0 from \+1.0 to \+3.0; .*, base: .*, no difference seen; .*: \+1.0 from",
    ),
    "pareto": (
        lambda n: plots.pareto(n, [1.31, 1.38, 8.2], [[1, 2], [9, 8], [0, 1]], [True, True, False]),
        r" 1\.31 → \+1.5 \(on the front\); .* 1\.38 → .*; .* 8.2 → \+0.5\.",
    ),
    "price": (lambda n: plots.pareto(n, [1, 4, 8], [[1.0], [2], [3]], [True] * 3, "gain", 4.0), "within 4 ms: "),
    "gain": (
        lambda n: plots.gain_vs_teacher(GAPS, GAINS, n[0], KINDS, dict(zip(GAPS, [*n, "smileys", "food"]))),
        "mean gain: activities: 12.1, .0.1; .*food: 40.0, .3.0",
    ),
}
each = pytest.mark.parametrize("draw, words", FIGURES.values(), ids=FIGURES)


@each
@pytest.mark.parametrize("names", [NAMES, LONG], ids=["short", "long"])
def test_figures(draw, words, names, monkeypatch):
    """Words tell the data; nothing is cut off, no two texts overlap, and each text is dark and large enough."""
    fig = draw(names)
    assert re.search(words, fig.alt), fig.alt
    assert not plt.get_fignums(), "the figure is returned, not left open to be shown twice"
    texts, draw_text = [], Text.draw
    monkeypatch.setattr(Text, "draw", lambda self, *a, **k: (texts.append(self), draw_text(self, *a, **k))[1])
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    renderer = canvas.get_renderer()
    (left, bottom), (right, top) = fig.get_tightbbox(renderer).get_points()
    assert min(left, bottom) > -0.02 and (fig.get_size_inches() - (right, top)).min() > -0.02, "something is cut off"
    texts = [t for t in dict.fromkeys(texts) if t.get_visible() and t.get_text().strip()]
    for text in texts:
        assert text.get_color() == "white" or contrast(text.get_color(), "white") >= 4.5, text
        assert text.get_fontsize() >= 7
    level = [(t, t.get_window_extent(renderer).shrunk(0.96, 0.9)) for t in texts if not t.get_rotation() % 90]
    for (a, box_a), (b, box_b) in itertools.combinations(level, 2):
        assert not box_a.overlaps(box_b), f"{a.get_text()!r} and {b.get_text()!r} overlap"


@each
def test_names_are_no_formulas_and_the_users_settings_change_nothing(draw, words):
    ours = plots.png(draw(FORMULAS), dpi=40)
    theirs = {"font.size": 20, "axes.edgecolor": "red", "lines.linewidth": 9, "text.parse_math": True}
    with plt.style.context("dark_background"), matplotlib.rc_context(theirs):
        assert plots.png(draw(FORMULAS), dpi=40) == ours


def test_a_figure_is_a_picture_with_words():
    """In a notebook the words are the plain text of the output, and the picture's alternative text."""
    fig = plots.k_curves([4, 8], {"recall": [50, 80]}, "t")
    assert fig._repr_mimebundle_() == ({"text/plain": fig.alt}, {"image/png": {"alt": fig.alt}})
    picture = Image.open(io.BytesIO(plots.png(fig, dpi=50)))
    assert picture.format == "PNG" and picture.size == tuple((fig.get_size_inches() * 50).astype(int))


def drawn_bars(ax) -> list[list[float]]:
    """Widths of the horizontal bars, a list for each series."""
    return [[float(np.ptp(path.vertices[:, 0])) for path in series.get_paths()] for series in ax.collections]


@pytest.mark.parametrize(
    "rows, label, names, widths",
    [
        (
            {"teacher": [0.2, 0.7, 0.1], "student": [0.4, 0.3, 0.3]},
            "c",
            ["b", "a", "★ c"],
            [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]],
        ),
        (
            {"teacher": [0.5, 0.3, 0.2], "student": [0.1, 0.2, 0.7]},
            None,
            ["a", "b", "c"],
            [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]],
        ),
        ({"teacher": [0.5, 0.3, 0.2]}, None, ["a", "b", "1 other name"], [[0.5, 0.3, 0.2]]),
        ({"over many more names": [0.2, 0.1, 0.05]}, None, ["a", "b"], [[0.2, 0.1]]),
    ],
)
def test_bars_are_the_probabilities(rows, label, names, widths):
    """First the two best of the first role, then others' top predictions and the label, then the sum of the rest."""
    ax = plots.distributions(IMAGE, ["a", "b", "c"], rows, label, k=2).axes[1]
    assert [text.get_text() for text in ax.get_yticklabels()] == names
    assert np.allclose(drawn_bars(ax), widths)


def test_no_difference_that_was_seen_is_drawn_white():
    """White says "no difference seen", also of the fourth method."""
    for interval, white in (((2.0, 1.0, 3.0), 0), ((2.0, -1.0, 3.0), 4)):
        lines = plots.forest({name: {"base": interval} for name in "abcd"}).axes[0].get_lines()
        assert sum(matplotlib.colors.to_hex(line.get_color()) == "#ffffff" for line in lines) == white


@pytest.mark.parametrize("name", ["learning curves", "loss curves", "ablation"])
def test_panels_are_compared_on_one_scale(name):
    a, b = FIGURES[name][0](NAMES).axes[:2]
    assert a.get_ylim() == b.get_ylim()


def test_of_twelve_points_no_name_lies_on_a_point_or_another_name():
    """As a run of lesson 10 gave them: pairs of one name, and five points close together."""
    ink = {"activities": 27.5, "animals": 15.6, "food": 45.8, "objects": 26.2, "smileys": 33.7, "travel": 25.0}
    colour = {"activities": 6.8, "animals": 10.2, "food": 12.5, "objects": 9.8, "smileys": 13.2, "travel": 13.0}
    gain = [2.4, -1.2, 3.4, 0.9, -0.8, 1.8, -0.1, -0.2, 0.4, -6.1, -1.7, -0.1]
    gaps = {f"{k}/{g}": x for k, of in (("ink", ink), ("colour", colour)) for g, x in of.items()}
    gains = {name: [value] for name, value in zip(gaps, gain)}
    names = {name: name.split("/")[1] for name in gaps}
    fig = plots.gain_vs_teacher(gaps, gains, "gap", {name: name.split("/")[0] for name in gaps}, names)
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ink", "colour"]
    fig.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts if text.get_text()]
    points = ax.transData.transform(list(zip(gaps.values(), gain)))
    assert len(boxes) == 12 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(box.contains(*point) for box in boxes for point in points)


def luminance(colour) -> float:
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


ROLES = {name: look for name, look in plots.ROLES.items() if name != "student"}


@pytest.mark.parametrize("looks", [list(ROLES.values()), list(plots.METHODS)], ids=["roles", "methods"])
def test_looks_differ_in_every_way(looks):
    for part in ("color", "hatch", "marker"):
        assert len({look[part] for look in looks}) == len(looks), part
    grey = sorted(116 * luminance(look["color"]) ** (1 / 3) - 16 for look in looks)  # CIE L*, 0…100
    assert min(np.diff(grey)) >= 25, f"too alike in grey: {np.round(grey)}"
    assert not {look["color"] for look in plots.METHODS} & {look["color"] for look in ROLES.values()}


def test_a_method_looks_the_same_in_every_figure():
    fixed = dict(zip(("CoOp", "KDPL", "class-agnostic", "forward", "reverse", "symmetric"), plots.METHODS[:3] * 2))
    for methods in (["CoOp", "KDPL"], ["reverse", "forward"], ["KDPL", "class-agnostic", "x", "y"], ["a", "CoOp"]):
        looks = looks_of(methods)
        assert [look for m, look in zip(methods, looks) if m in fixed] == [fixed[m] for m in methods if m in fixed]
        assert len({look["color"] for look in looks}) == len(methods)
    assert looks_of(["student"]) == looks_of(["student before"])
