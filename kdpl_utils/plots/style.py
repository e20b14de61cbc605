"""What all figures share: our own settings, a look for each role, and a sentence about the data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

INK = "#222222"  # outlines and text
PALE = "#E4E4E4"  # what is there but not meant
GREY = "#666666"  # lines to compare with, single seeds

# One colour, hatch and marker for each role, in every figure. The hues suit every kind of colour vision (after Okabe
# and Ito); lightness differs by 25 of 100 or more, so that a grey print tells them apart.
ROLES = {
    "teacher": {"color": "#004C80", "hatch": "", "marker": "s", "line": "-"},
    "student before": {"color": "#F8CB5E", "hatch": "///", "marker": "o", "line": "--"},
    "student after": {"color": "#009C73", "hatch": "...", "marker": "D", "line": "-"},
}
ROLES["student"] = ROLES["student before"]  # a student that was not trained
# The looks of methods and settings, none of which is a role's.
METHODS = (
    {"color": "#5E1A49", "hatch": "", "marker": "^", "line": "-"},
    {"color": "#B65719", "hatch": "\\\\\\", "marker": "v", "line": "-."},
    {"color": "#86BDE3", "hatch": "|||", "marker": "P", "line": "--"},
    {"color": "#FFFFFF", "hatch": "ooo", "marker": "X", "line": ":"},
)
FIXED = {"CoOp": 0, "KDPL": 1, "class-agnostic": 2, "forward": 0, "reverse": 1, "symmetric": 2}  # places in METHODS

FAMILIES = "axes contour figure font hatch image legend lines mathtext patch path text xtick ytick".split()
RC = {key: value for key, value in rcParamsDefault.items() if key.split(".")[0] in FAMILIES} | {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titley": 1,  # a fixed height: matplotlib measures every tick to find its own
    "font.size": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    # Dashes are in points, so that a line and its rim have the same.
    "lines.dashdot_pattern": [11.5, 2.9, 1.8, 2.9],
    "lines.dashed_pattern": [6.7, 2.9],
    "lines.dotted_pattern": [1.8, 3],
    "lines.scale_dashes": False,
    "text.color": INK,
    "text.parse_math": False,  # a class called $\frac$ is no formula, and no error
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}
our_style = rc_context(RC)  # a decorator: the user's own settings change no figure


class Figure(matplotlib.figure.Figure):
    """A figure with ``alt``, a sentence about its data that notebooks keep beside the picture."""

    alt = ""
    # Matplotlib makes some ticks and texts only when it measures or draws.
    draw = our_style(matplotlib.figure.Figure.draw)
    get_tightbbox = our_style(matplotlib.figure.Figure.get_tightbbox)

    def described(self, alt: str) -> Figure:
        self.alt = alt
        return self

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def new_figure(width: float, height: float, title: str = "", layout: str | None = None) -> Figure:
    """Return an empty figure, in inches. Without a layout its axes are placed by hand, which draws twice as fast."""
    fig = plt.figure(FigureClass=Figure, figsize=(width, height), layout=layout)
    plt.close(fig)  # the cell that asks for it shows it, once
    fig.text(0.012, 1 - 0.1 / height, title, va="top", fontsize=10.5, weight="bold")
    return fig


def grid(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """Return a figure whose layout finds its own margins, and its axes (rows, columns)."""
    fig = new_figure(width, height, layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def png(fig: matplotlib.figure.Figure, dpi: float = 100) -> bytes:
    """Return the figure as a PNG file, in half the time of ``savefig``, which draws twice."""
    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    file = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(file, format="png", compress_level=1)
    return file.getvalue()


def looks_of(names: Sequence[str]) -> list[dict]:
    """Return a look for each name: roles and fixed methods keep theirs, others take what is left."""
    fixed = {name: ROLES.get(name) or METHODS[FIXED[name]] for name in names if name in ROLES or name in FIXED}
    others = cycle([look for look in METHODS if look not in fixed.values()] or METHODS)
    return [fixed.get(name) or next(others) for name in names]


def shortened(name: str, length: int = 24) -> str:
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def marker(look: dict, size: float = 8, hollow: bool = False) -> dict:
    """Return the settings of ``plot`` for the look's marker alone."""
    colour = "white" if hollow else look["color"]
    return {"marker": look["marker"], "color": colour, "ms": size, "mec": INK, "mew": 0.8, "ls": ""}


def draw_line(ax: Axes, x: Sequence, y: Sequence, look: dict, label: str = "_", markers: bool = True) -> None:
    """Draw a line with a dark rim, so that light colours stay visible on white."""
    ax.plot(x, y, color=INK, lw=3, ls=look["line"], snap=False)
    marks = marker(look, 5.5) if markers else {}
    ax.plot(x, y, **marks | {"color": look["color"], "lw": 1.8, "ls": look["line"], "label": label, "snap": False})
