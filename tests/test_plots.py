"""Figures are drawn from what they are given, and say in words what they show."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from kdpl_utils import plots

IMAGE = Image.new("RGB", (64, 64), "white")
NAMES = ["sushi", "rice", "tea"]

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
        lambda: plots.reliability({"teacher": ([0.1, 0.9], [0.2, np.nan], [5, 0])}),
        "teacher; the diagonal",
    ),
    "curves": (
        lambda: plots.learning_curves({"base": [[50, 60.0], [52, 62]]}, {"base": 48}),
        "2 seeds: base from 48.0 .* to 61.0",
    ),
    "slopes": (lambda: plots.slopes({"base": 40.0}, {"CoOp": {"base": [41.0, 43.0]}}), "base 40.0.*CoOp base 42.0"),
    "dots": (lambda: plots.seed_dots({"a": [1.0, 3.0]}, 1.5, "H"), "a 2.0; zero-shot student 1.5"),
    "selected": (
        lambda: plots.selected_names(NAMES, [0.5, 0.3, 0.1], [True, False, True]),
        "3 names .*, 2 of them true.*first: sushi",
    ),
    "k": (lambda: plots.k_curves([4, 8], {"recall": [50, 80]}, "t"), "recall from 50 at K = 4 to 80 at K = 8"),
}


@pytest.mark.parametrize("draw, told", FIGURES.values(), ids=FIGURES)
def test_figures(draw, told):
    fig = draw()
    assert re.search(told, fig.alt), fig.alt
    assert not plt.get_fignums(), "the figure is returned, not left open to be shown twice"
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    box = fig.get_tightbbox(canvas.get_renderer())
    width, height = fig.get_size_inches()
    assert box.x0 > -0.1 and box.y0 > -0.1 and box.x1 < width + 0.1 and box.y1 < height + 0.1, "something is cut off"


def test_bars_are_the_probabilities():
    fig = plots.distributions(IMAGE, NAMES, {"teacher": [0.2, 0.7, 0.1], "student after": [0.4, 0.3, 0.3]}, "tea", k=2)
    widths = [[bar.get_width() for bar in container] for container in fig.axes[1].containers]
    assert widths == [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]]  # the teacher's two best, then the label
    assert [t.get_text() for t in fig.axes[1].get_yticklabels()] == ["rice", "sushi", "▸ tea"]


def test_roles_differ_in_colour_hatch_and_marker():
    for key in ("color", "hatch", "marker"):
        assert len({style[key] for style in plots.ROLES.values()}) == len(plots.ROLES)
