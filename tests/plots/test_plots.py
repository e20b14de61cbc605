"""Figures are drawn from what they are given, say in words what they show, and can be read in grey."""

import io
import itertools
import re

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import BboxImage
from matplotlib.text import Text
from PIL import Image

from kdpl_utils import plots
from kdpl_utils.plots.style import looks_of

IMAGE = Image.new("RGB", (64, 64), "white")
NAMES = ["sushi", "rice", "tea"]
RANDOM = np.random.default_rng(0)
THREE = {"teacher": [0.2, 0.7, 0.1], "student before": [0.4, 0.3, 0.3], "student after": [0.3, 0.6, 0.1]}
BINS = (np.linspace(0.05, 0.95, 10), np.linspace(0, 1, 10), np.full(10, 4))
LONG = ["a very long name of a class of things that goes on", "moon viewing ceremony", "tea"]

FIGURES = {
    "heat map": (lambda: plots.similarity_heatmap([IMAGE] * 3, NAMES, np.eye(3)[[0, 2, 1]]), "1 of 3 pictures"),
    "distributions": (
        lambda: plots.distributions(
            IMAGE, NAMES, {"teacher": [0.2, 0.7, 0.1], "student before": [0.4, 0.3, 0.3]}, "tea", k=2
        ),
        "teacher: rice 0.70; student before: sushi 0.40",
    ),
    "pictures": (lambda: plots.picture_row([IMAGE] * 9, [f"c{i}" for i in range(9)], "Nine"), "Nine: c0; .*c8"),
    "reliability": (
        lambda: plots.reliability({"teacher": (torch.tensor([0.1, 0.9]), [0.2, np.nan], torch.tensor([5, 0]))}),
        "teacher; the diagonal",
    ),
    "curves": (
        lambda: plots.learning_curves({"base": [[50, 60.0], [52, 62]]}, {"base": 48}),
        "2 seeds: base from 48.0 .* to 61.0",
    ),
    "slopes": (lambda: plots.slopes({"base": 40.0}, {"CoOp": {"base": [41.0, 43.0]}}), "base 40.0.*CoOp base 42.0"),
    "dots": (lambda: plots.seed_dots({"a": [1.0, 3.0]}, 1.5, "H"), "a 2.0; zero-shot student 1.5"),
    "forest": (
        lambda: plots.forest(
            {"CoOp": {"base": (2.0, 1.0, 3.0)}, "KDPL": {"base": (0.5, -1.0, 2.0), "novel": (1, 0.5, 2)}}
        ),
        r"CoOp, base: \+2.0 from \+1.0 to \+3.0; KDPL, base: .*, no difference seen; KDPL, novel: \+1.0 .* \+2.0",
    ),
    "dots of sentences": (
        lambda: plots.seed_dots({"a": [1.0, 3.0]}, 1.5, "H", dots="sentences", line="{}"),
        "mean over sentences: a 2.0; {} 1.5",
    ),
    "selected": (
        lambda: plots.selected_names(NAMES, [0.5, 0.3, 0.1], [True, False, True]),
        "3 names .*, 2 of them true.*first: sushi",
    ),
    "k": (lambda: plots.k_curves([4, 8], {"recall": [50, 80]}, "t"), "recall from 50 at K = 4 to 80 at K = 8"),
    "loss curves": (
        lambda: plots.loss_curves({"A": {"reported": [2, 1.0], "true": [3, 2]}, "B": {"reported": [0, 0]}}, "nats", 3),
        "nats over epochs: A, reported from 2.00 to 1.00; A, true from 3.00 to 2.00; B, reported from 0.00 to 0.00",
    ),
    "bars": (
        lambda: plots.bars(NAMES, {"teacher": [0.2, 0.7, 0.1], "student": [0.4, 0.3, 0.3]}, "Two"),
        "Two: teacher highest at rice, 0.70; student highest at sushi, 0.40",
    ),
    "pictures with long captions": (
        lambda: plots.picture_row([IMAGE] * 8, [f"said {name} ({0.5})\nis {name}" for name in LONG[:2] * 4], "Eight"),
        "Eight: said a very",
    ),
    "mistakes": (
        lambda: plots.confident_mistakes([IMAGE], ["rice"], ["tea"], [0.91]),
        r"said rice \(0.91\), is tea",
    ),
    "entropy": (
        lambda: plots.entropy_histogram({"teacher": [0.1, 0.3], "student before": [1.0, 1.1]}, np.log(3)),
        "teacher 0.20, student before 1.05",
    ),
    "ablation": (
        lambda: plots.ablation([0, 1], {"a": [[1, 2], [5, 6.0]], "b": [[9, 8], [5, 6]]}, "H", 3.0, title="H"),
        "a highest mean 5.5 at alpha 1; b highest mean 8.5 at alpha 0",
    ),
    "pareto": (
        lambda: plots.pareto(["s", "l"], [1, 8], [[1, 2], [0, 1]], [True, False]),
        r"s 1 → \+1.5 \(on the front\); l 8 → \+0.5\.",
    ),
    "pareto of near costs": (
        lambda: plots.pareto(["s", "m", "l"], [1.31, 1.38, 8.2], [[1, 2], [9, 8], [0, 1]], [True, True, False]),
        r"s 1\.31 → .*; m 1\.38 →",
    ),
    "gain": (
        lambda: plots.gain_vs_teacher({"near": 80.0, "far": 20.0}, {"near": [3, 4.0], "far": [-1, 0]}),
        "teacher's top-1 there, %, and mean gain: near: 80.0, .3.5; far: 20.0, -0.5",
    ),
    "gain of near domains": (
        lambda: plots.gain_vs_teacher(
            {"activities": 12.1, "animals": 12.6, "travel": 12.5, "smileys": 13.2, "food": 40.0},
            {"activities": [0.1], "animals": [0.0], "travel": [0.2], "smileys": [-0.4], "food": [3.0]},
        ),
        "activities: 12.1, .0.1",
    ),
    "words": (
        lambda: plots.context_words([["a", "of"], ["photo", "x"]], [[0.1, 0.2], [0.3, 0.4]], ["a", "photo"]),
        "vector 1: a, of; vector 2: photo, x",
    ),
    "teacher and student": (
        lambda: plots.teacher_student(
            IMAGE, LONG, THREE, {"student before": 1.5, "student after": 0.25}, 1, 6, [1.5, 0.25], [2, 1.0], 1
        ),
        "moon viewing ceremony. Most probable for teacher: moon.* 0.70.*1.50 bits .student before., 0.25 bits",
    ),
    "two models": (
        lambda: plots.teacher_student(
            IMAGE,
            LONG,
            {"teacher": THREE["teacher"], "student": [0.1, 0.1, 0.8]},
            {"student": 2.0},
            everyone=[1, 2.0, 3],
        ),
        "2.00 bits .student.",
    ),
    "prediction": (lambda: plots.prediction(IMAGE, LONG, [0.1, 0.9, -0.2], "cosine", 2), "moon viewing ceremony, 0.90"),
    "temperature": (
        lambda: plots.temperature(IMAGE, LONG, THREE["teacher"], 0.8, BINS, 10.0, 0.12, 1),
        "Scale 10: moon viewing ceremony 0.70, entropy 0.80 nats; ECE 12.0 %",
    ),
    "context step": (
        lambda: plots.context_step(
            ["a", "of"], [0.1, 0.2], np.eye(3), {"base": [50, 60.0], "novel": [50, 45.0]}, 1, 0, "a"
        ),
        "Epoch 1, context vector 1: nearest words a, of; base 60.0 %, novel 45.0 %",
    ),
    "simplex": (
        lambda: plots.simplex(NAMES, [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], {"forward": 1.0}, {"forward": [0.2, 0.2, 0.6]}),
        "Teacher: sushi 0.20, rice 0.70.*In bits: forward 1.00",
    ),
    "class pick": (
        lambda: plots.class_pick([IMAGE] * 9, NAMES, [0.5, 0.3, 0.1], [True, False, True], 0.9, 0.5),
        "3 names, 2 of them true; first: sushi. probability kept 90 %, true names found 50 %",
    ),
    "calibration bench": (
        lambda: plots.calibration_bench(
            BINS, [0.5, 1.0], 1.1, 0.2, "large", [1, 2], 1, np.array([[50, 51], [52, 54.0]]), "H", 49.0
        ),
        "large: ECE 20.0 %, mean entropy 0.75 nats. H: 53.0, seeds 52.0 to 54.0",
    ),
    "domain lens": (
        lambda: plots.domain_lens(
            IMAGE, LONG, THREE, {d: dict.fromkeys(THREE, 0.5) for d in ("here", "there")}, "there", 0
        ),
        "from there: teacher moon.*Top-1: teacher 50.0 %",
    ),
    "price": (
        lambda: plots.price(["s", "l"], [1, 8], np.array([[1.0], [2]]), [True, True], 2.0, "gain"),
        "Within 2 ms: s\\.",
    ),
}


def drawn(fig: matplotlib.figure.Figure) -> FigureCanvasAgg:
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return canvas


@pytest.mark.parametrize("draw, told", FIGURES.values(), ids=FIGURES)
def test_figures(draw, told, monkeypatch):
    fig, texts, draw_text = draw(), [], Text.draw
    # Ticks beyond the limits of an axis exist, but are not drawn.
    monkeypatch.setattr(Text, "draw", lambda self, *a, **k: (texts.append(self), draw_text(self, *a, **k))[1])
    assert re.search(told, fig.alt), fig.alt
    assert not plt.get_fignums(), "the figure is returned, not left open to be shown twice"
    renderer = drawn(fig).get_renderer()
    box = fig.get_tightbbox(renderer)
    width, height = fig.get_size_inches()
    assert box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02, (
        "something is cut off"
    )
    # No two texts lie on each other; each is dark enough on white (WCAG asks for 4.5 to 1) and 7 points or more.
    texts = [t for t in dict.fromkeys(texts) if t.get_visible() and t.get_text().strip()]
    boxes = [(t, t.get_window_extent(renderer).shrunk(0.96, 0.9)) for t in texts]
    level = [(t, extent) for t, extent in boxes if not t.get_rotation() % 90]  # the box of a slanted text says little
    for (a, box_a), (b, box_b) in itertools.combinations(level, 2):
        assert not box_a.overlaps(box_b), f"{a.get_text()!r} and {b.get_text()!r} overlap"
    for text, extent in boxes:
        for picture in fig.findobj(BboxImage):
            assert not extent.overlaps(picture.get_window_extent(renderer)), f"{text.get_text()!r} lies on the picture"
        on_dark = text.get_color() == "w"  # seaborn's numbers on dark cells
        assert on_dark or contrast(text.get_color(), "white") >= 4.5, text
        assert text.get_fontsize() >= 7


def test_a_figure_is_a_picture_with_words():
    """In a notebook the words are the plain text of the output, and the picture's alternative text."""
    fig = plots.k_curves([4, 8], {"recall": [50, 80]}, "t")
    data, metadata = fig._repr_mimebundle_()
    assert data == {"text/plain": fig.alt} and metadata == {"image/png": {"alt": fig.alt}}
    picture = Image.open(io.BytesIO(plots.png(fig, dpi=50)))
    assert picture.format == "PNG" and picture.size == tuple((fig.get_size_inches() * 50).astype(int))


def test_figures_take_what_they_are_given():
    """Pure: the same arrays give the same picture, and stay as they are."""
    rows = {role: np.array(p) for role, p in THREE.items()}
    kept = {role: p.copy() for role, p in rows.items()}
    first, again = (plots.png(plots.distributions(IMAGE, NAMES, rows, "tea")) for _ in range(2))
    assert first == again and all((rows[r] == kept[r]).all() for r in rows)


def test_no_difference_that_was_seen_is_drawn_white():
    """White says "no difference seen", also of the fourth method."""
    seen = {name: {"base": (2.0, 1.0, 3.0)} for name in ("a", "b", "c", "d")}
    lines = plots.forest(seen).axes[0].get_lines()
    assert all(matplotlib.colors.to_hex(line.get_color()) != "#ffffff" for line in lines)
    unseen = plots.forest({name: {"base": (2.0, -1.0, 3.0)} for name in seen}).axes[0].get_lines()
    white = [line for line in unseen if matplotlib.colors.to_hex(line.get_color()) == "#ffffff"]
    assert len(white) == len(seen) and all(line.get_marker() != "None" for line in white), "the hollow markers alone"


FORMULAS = ["$$", "$\\frac$", "5 $ or 6 $"]  # the first two cannot be read as formulas


@pytest.mark.parametrize("draw", [draw for draw, _ in FIGURES.values()], ids=FIGURES)
def test_a_dollar_begins_no_formula(draw):
    """Whatever text of a figure a class name stands in, it is drawn as it is."""
    fig = draw()
    for text, name in zip(fig.findobj(Text), itertools.cycle(FORMULAS)):
        text.set_text(name if text.get_text() else "")
    assert plots.png(fig, dpi=40)


def test_names_at_ticks_and_in_keys_are_no_formulas():
    """Ticks are made, and keys measured, only when a figure is drawn."""
    a, b, c = FORMULAS
    for fig in (
        plots.slopes({a: 40.0}, {b: {a: [41.0, 43.0]}, c: {a: [42.0]}}),
        plots.seed_dots({a: [1.0, 3.0], b: [2.0]}, 1.5, c, b),
        plots.k_curves([4, 8], {a: [50, 80], b: [1, 2]}, c),
        plots.similarity_heatmap([IMAGE] * 3, FORMULAS, np.eye(3)),
        plots.teacher_student(IMAGE, FORMULAS, THREE, {"student before": 1.5, "student after": 0.25}, 1),
    ):
        assert plots.png(fig, dpi=40)


def bars(ax) -> list[list[float]]:
    """Widths of the horizontal bars, a list for each series."""
    return [[float(np.ptp(path.vertices[:, 0])) for path in series.get_paths()] for series in ax.collections]


def test_bars_are_the_probabilities():
    rows = {"teacher": [0.2, 0.7, 0.1], "student after": [0.4, 0.3, 0.3]}
    ax = plots.distributions(IMAGE, NAMES, rows, "tea", k=2).axes[1]
    assert bars(ax) == [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]]  # the teacher's two best, then the label
    assert [t.get_text() for t in ax.texts] == ["rice", "sushi", "★ tea"]


def test_what_is_not_shown_is_summed_up():
    rows = {"teacher": [0.5, 0.3, 0.1, 0.1], "student": [0.1, 0.2, 0.3, 0.4]}
    ax = plots.distributions(IMAGE, ["a", "b", "c", "d"], rows, k=1).axes[1]
    assert [t.get_text() for t in ax.texts] == ["a", "d", "2 other names"]  # the student's first choice is there too
    assert np.allclose(bars(ax), [[0.5, 0.1, 0.4], [0.1, 0.4, 0.5]])


def test_what_does_not_sum_to_one_is_not_summed_up():
    ax = plots.distributions(IMAGE, ["a", "b", "c"], {"over many more": [0.2, 0.1, 0.05]}, k=1).axes[1]
    assert [t.get_text() for t in ax.texts] == ["a"]


# --- colours


def luminance(colour) -> float:
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lightness(y: float) -> float:
    """CIE L*, 0…100, of a luminance 0…1."""
    return 116 * (y ** (1 / 3) if y > 0.008856 else 7.787 * y + 16 / 116) - 16


ROLES = {name: look for name, look in plots.ROLES.items() if name != "student"}


@pytest.mark.parametrize("looks", [list(ROLES.values()), list(plots.METHODS)], ids=["roles", "methods"])
def test_looks_differ_in_every_way(looks):
    for part in ("color", "hatch", "marker", "line"):
        assert len({look[part] for look in looks}) >= (len(looks) if part != "line" else 3), part
    grey = sorted(lightness(luminance(look["color"])) for look in looks)
    assert min(np.diff(grey)) >= 25, f"too alike in grey: {np.round(grey)}"
    assert not {look["color"] for look in plots.METHODS} & {look["color"] for look in ROLES.values()}


def test_a_method_looks_the_same_in_every_figure():
    fixed = {name: plots.METHODS[i] for i, name in enumerate(("CoOp", "KDPL", "class-agnostic"))}
    fixed |= {name: plots.METHODS[i] for i, name in enumerate(("forward", "reverse", "symmetric"))}
    assert all(plots.style.style(name, 3) == look for name, look in fixed.items()), "one by one, too"
    for methods in (
        ["CoOp", "KDPL"],
        ["reverse", "forward"],
        ["KDPL", "class-agnostic", "other", "more"],
        ["a", "CoOp"],
        ["a", "b"],
    ):
        seen = looks_of(methods)
        assert [look for m, look in zip(methods, seen) if m in fixed] == [fixed[m] for m in methods if m in fixed]
        assert len({look["color"] for look in seen}) == len(methods)


def test_a_student_is_one_that_was_not_trained():
    assert plots.ROLES["student"] is plots.ROLES["student before"]


def test_rendered_bars_differ_in_grey():
    """In the picture itself, hatches and outlines included: the mean lightness of each series."""
    fig = plots.distributions(IMAGE, ["a"], {role: [1.0] for role in ("teacher", "student before", "student after")})
    canvas = drawn(fig)
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
    shades = []
    for series in fig.axes[1].collections:
        (path,) = series.get_paths()
        (x0, y0), (x1, y1) = (fig.axes[1].transData.transform(v) for v in (path.vertices.min(0), path.vertices.max(0)))
        rows = slice(int(len(pixels) - max(y0, y1)) + 2, int(len(pixels) - min(y0, y1)) - 2)
        shades.append(lightness(float(linear[rows, int(x0) + 2 : int(x1) - 2].mean())))
    assert min(np.diff(sorted(shades))) >= 14, np.round(shades)


def test_every_series_stands_out_from_white():
    """Light fills have dark outlines: WCAG asks for 3 to 1 between a mark and what is around it."""
    fig = plots.learning_curves({"base": [[50, 60.0]]}, {"base": 48})
    assert any(contrast(line.get_color(), "white") >= 3 and line.get_linewidth() > 2 for line in fig.axes[0].lines)
    for look in [*ROLES.values(), *plots.METHODS]:
        if contrast(look["color"], "white") < 3:
            rim = plots.reliability({"teacher": BINS}).axes[0].lines[1]
            assert contrast(rim.get_color(), "white") >= 3
    bar = plots.distributions(IMAGE, ["a"], {"student before": [1.0]}).axes[1].collections[0]
    assert contrast(bar.get_edgecolor()[0], "white") >= 3


@pytest.mark.parametrize(
    "fig",
    [
        plots.learning_curves({"base": [[50, 60.0]], "novel": [[30, 20.0]]}, {"base": 48, "novel": 35}),
        plots.slopes({"base": 48.0, "novel": 35.0}, {"CoOp": {"base": [60.0], "novel": [20.0]}}),
    ],
)
def test_halves_are_compared_on_one_scale(fig):
    base, novel = fig.axes
    assert base.get_ylim() == novel.get_ylim()


@pytest.mark.parametrize("n, caption", [(2, "student says:\nbaby bottle"), (8, "one"), (9, "two\nlines")])
def test_captions_of_pictures_do_not_touch_the_title(n, caption):
    """Also where a title is longer than the pictures are wide, and they grow with it."""
    fig = plots.picture_row([Image.new("RGB", (64, 64))] * n, [caption] * n, "baby bottle: ink and colour")
    fig.draw_without_rendering()
    title = fig._suptitle.get_window_extent()
    captions = [ax.title.get_window_extent() for ax in fig.axes if ax.title.get_text()]
    assert len(captions) == n and max(box.y1 for box in captions) <= title.y0


def test_two_kinds_of_domains_are_told_apart():
    gaps, gains = {"ink/food": 40.0, "colour/food": 12.0}, {"ink/food": [3.0], "colour/food": [-1.0]}
    kinds = {"ink/food": "in ink", "colour/food": "in colour"}
    fig = plots.gain_vs_teacher(gaps, gains, "gap, points", kinds, dict.fromkeys(gaps, "food"))
    (ax,) = fig.axes
    filled = {line.get_xdata()[0]: line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "D"}
    assert filled[12.0] == "white" != filled[40.0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["in ink", "in colour"]
    assert [text.get_text() for text in ax.texts] == ["food", "food"]
    with pytest.raises(ValueError, match="two at most"):
        plots.gain_vs_teacher(gaps, gains, kinds={"ink/food": "a", "colour/food": "b", "far": "c"})


def test_the_bar_of_every_seed_is_said_to_be_their_mean():
    """Once, beside the line, and clear of the title."""
    figure = plots.seed_dots({"a": [1.0, 3.0], "b": [2.0, 4.0]}, 1.5, "H", "Each dot a seed")
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mean", "zero-shot student"]
    assert ax.get_legend().get_window_extent().y1 <= ax.title.get_window_extent().y0


def test_in_a_crowd_a_name_is_nearest_to_its_own_point():
    gaps = {"animals": 10.2, "sport": 6.8, "food": 12.5, "travel": 13.0, "faces": 13.2, "far": 46.0}
    gains = {
        "animals": [0.4, -0.6],
        "sport": [-0.2],
        "food": [0.5],
        "travel": [-0.1],
        "faces": [-1.6],
        "far": [6],
    }
    fig = plots.gain_vs_teacher(gaps, gains)
    (ax,) = fig.axes
    fig.draw_without_rendering()
    points = ax.transData.transform([(gaps[name], np.mean(gains[name])) for name in gaps])
    texts = {text.get_text(): Text.get_window_extent(text) for text in ax.texts if text.get_text()}
    assert set(texts) == set(gaps)
    for i, box in enumerate(texts[name] for name in gaps):
        nearest = [np.hypot(*(np.clip(point, box.min, box.max) - point)) for point in points]
        assert np.argmin(nearest) == i


def test_figures_without_a_reference_have_no_line_of_it():
    """What was not given is neither drawn nor named in the legend."""

    def names(figure):
        return {text.get_text() for legend in figure.legends for text in legend.get_texts()} | {
            text.get_text() for ax in figure.axes if ax.get_legend() for text in ax.get_legend().get_texts()
        }

    values, curves = {"a setting": np.array([[1.0, 2.0], [2.0, 3.0]])}, {"a run": {"loss": [2.0, 1.0]}}
    assert "zero-shot" in names(plots.ablation([0, 1], values, reference=2.0))
    assert "zero-shot" not in names(plots.ablation([0, 1], values))
    joined, apart = (plots.ablation([0, 1], values, pairs=pairs).axes[0].lines for pairs in (True, False))
    assert len(joined) == len(apart) + 2, "a thin line for each of two seeds"
    with_start, without = (plots.loss_curves(curves, "nats", start=start).axes[0].lines for start in (3.0, None))
    assert len(with_start) == len(without) + 1


def test_no_name_of_twelve_points_lies_on_a_point_or_another_name():
    """As a run of lesson 10 gave them: pairs of one name, and five points close together."""
    ink = {
        "activities": (27.5, 0.2, 4.7),
        "animals-nature": (15.6, -1.9, -0.5),
        "food-drink": (45.8, 2.6, 4.1),
        "objects": (26.2, 0.7, 1.2),
        "smileys-emotion": (33.7, -1.7, 0.1),
        "travel-places": (25.0, 1.5, 2.1),
    }
    colour = {
        "activities": (6.8, -0.2, -0.1),
        "animals-nature": (10.2, -0.8, 0.4),
        "food-drink": (12.5, -0.5, 1.4),
        "objects": (9.8, -6.6, -5.7),
        "smileys-emotion": (13.2, -2.8, -0.6),
        "travel-places": (13.0, -0.3, 0.1),
    }
    runs = {f"{kind}/{group}": of[group] for group in ink for kind, of in (("ink", ink), ("colour", colour))}
    gaps = {name: run[0] for name, run in runs.items()}
    gains = {name: run[1:] for name, run in runs.items()}
    kinds = {name: name.split("/")[0] for name in runs}
    fig = plots.gain_vs_teacher(gaps, gains, "gap", kinds, {name: name.split("/")[1] for name in runs})
    (ax,) = fig.axes
    fig.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts if text.get_text()]
    assert len(boxes) == 12
    points = ax.transData.transform([(gaps[name], np.mean(gains[name])) for name in runs])
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), ax.texts[i]
        assert not any(box.contains(*point) for point in points)
