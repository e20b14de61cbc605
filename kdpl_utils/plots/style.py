"""What all figures share: one colour, hatch and marker for each role, readable in grey, and words about the data."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.image import BboxImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image

from ..support.pictures import as_rgb

INK, PALE = "#222222", "#E4E4E4"  # outlines and text; what is there but not meant
GREY = "#666666"  # lines to compare with, single seeds

STAR = "★ "  # marks the label among the names

# One colour, hatch and marker for each role, everywhere.  Hues for every kind of colour vision (after Okabe and Ito),
# lightness at least 25 of 100 apart, so that a grey print still tells them apart; tests/test_plots.py measures both.
ROLES = {
    "teacher": {"color": "#004C80", "hatch": "", "marker": "s", "line": "-"},
    "student before": {"color": "#F8CB5E", "hatch": "///", "marker": "o", "line": "--"},
    "student after": {"color": "#009C73", "hatch": "...", "marker": "D", "line": "-"},
    "label": {"color": "#000000", "hatch": "xxx", "marker": "*", "line": ":"},
}
# A student of whom nobody knows yet whether it will learn.
ROLES["student"] = ROLES["student before"]
# And one for each further method or setting, never a role's.
METHODS = (
    {"color": "#5E1A49", "hatch": "", "marker": "^", "line": "-"},
    {"color": "#B65719", "hatch": "\\\\\\", "marker": "v", "line": "-."},
    {"color": "#86BDE3", "hatch": "|||", "marker": "P", "line": "--"},
    {"color": "#FFFFFF", "hatch": "ooo", "marker": "X", "line": ":"},
)
FIXED = {"CoOp": 0, "KDPL": 1, "class-agnostic": 2}  # places in METHODS
FIXED |= {"forward": 0, "reverse": 1, "symmetric": 2}  # never in one figure with those above

# In line widths; a solid line is one very long dash.
DASHES = {"-": (1e4, 0), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6), ":": (1, 1.65), "": ()}


class Figure(matplotlib.figure.Figure):
    """A figure with ``alt``, a sentence about its data; notebooks keep it beside the picture."""

    alt = ""

    def draw(self, renderer):
        """Names are shown as they are: a class called ``$\\frac$`` is no formula, and no error."""
        of_powers = set()
        for axis in (axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis)):
            formatters = (axis.get_major_formatter(), axis.get_minor_formatter())
            if any(isinstance(formatter, LogFormatter) for formatter in formatters):  # they write 10² as a formula
                of_powers.update(axis.get_ticklabels(which="both"))
        for text in self.findobj(Text):
            text.set_parse_math(text in of_powers)
        super().draw(renderer)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def new_figure(width: float, height: float, layout: str | None = None) -> Figure:
    """An empty figure in inches.  Without a layout its axes are placed by hand, which draws twice as fast."""
    fig = plt.figure(FigureClass=Figure, figsize=(width, height), layout=layout)
    plt.close(fig)  # returned, so shown once, by the cell that asks for it
    return fig


def grid(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """A figure whose layout finds its own margins, and its axes (rows, columns)."""
    fig = new_figure(width, height, "constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def with_alt(fig: Figure, alt: str) -> Figure:
    fig.alt = alt
    return fig


def png(fig: matplotlib.figure.Figure, dpi: float = 100) -> bytes:
    """The figure as a PNG file; about half the time of ``savefig``, which draws twice."""
    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    file = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(file, format="png", compress_level=1)
    return file.getvalue()


def style(name: str, index: int = 0) -> dict:
    """Of a role or a method of ``FIXED`` by its name, or else the next method's."""
    return ROLES.get(name) or METHODS[FIXED.get(name, index) % len(METHODS)]


def looks_of(methods: Sequence[str]) -> list[dict]:
    """Of methods side by side: those of ``FIXED`` look the same in every figure, the others take what is left."""
    left = [i for i in range(len(METHODS)) if i not in [FIXED.get(m) for m in methods]] or [0]
    others = [m for m in methods if m not in FIXED]
    return [METHODS[FIXED[m] if m in FIXED else left[others.index(m) % len(left)]] for m in methods]


def shortened(name: str, length: int = 24) -> str:
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def draw_line(ax: Axes, x: Sequence, y: Sequence, look: dict, marker: bool = True, width: float = 1.8, **options):
    """A line with a dark rim: light colours stay visible on white."""
    dashes = DASHES[options.pop("ls", look["line"])]
    rim = width + 1.2
    if width > 1 and dashes:  # matplotlib measures dashes in line widths
        ax.plot(x, y, color=INK, lw=rim, ls=(0, [d * width / rim for d in dashes]), snap=False)
    (line,) = ax.plot(
        x, y, color=look["color"], lw=width, ls=(0, dashes) if dashes and width else "", snap=False, **options
    )
    if marker:
        line.set(marker=look["marker"], markersize=9 if look["marker"] == "*" else 5.5)
        line.set(markeredgecolor=INK, markeredgewidth=0.7)
    return line


def draw_bars(ax: Axes, y: Sequence, width: Sequence, height: float, look: dict) -> PolyCollection:
    """Horizontal bars, outlined and hatched, centred at y; one artist, so that a redraw stays fast."""
    y, width = np.asarray(y, float), np.asarray(width, float)
    low, high, zero = y - height / 2, y + height / 2, np.zeros(len(y))
    corners = np.stack([zero, low, width, low, width, high, zero, high], axis=1).reshape(-1, 4, 2)
    bars = PolyCollection(corners, facecolor=look["color"], hatch=look["hatch"], edgecolor=INK, linewidth=0.6)
    return ax.add_collection(bars, autolim=False)


def name_rows(ax: Axes, y: Sequence, names: Sequence[str], bold: int | None = None, size: float = 9) -> None:
    """Names left of the rows of an axis.  Plain text: ticks with their lines cost four times as much."""
    ax.set_yticks([])
    for i, (at, name) in enumerate(zip(y, names)):
        weight = "bold" if i == bold else "normal"
        ax.text(-0.015, at, name, transform=ax.get_yaxis_transform(), ha="right", va="center", size=size, weight=weight)


def headline(ax: Axes, text: str) -> None:
    """A panel's title; matplotlib's own measures every tick first to stay clear of them."""
    ax.text(0.5, 1.03, text, transform=ax.transAxes, ha="center", va="bottom", fontsize=9.5, color=INK)


def axis_labels(ax: Axes, x: str = "", y: str = "", size: float = 8) -> None:
    ax.set_xlabel(x, fontsize=9)
    ax.set_ylabel(y, fontsize=9)
    ax.tick_params(labelsize=size)


def draw_key(fig: Figure, x: float, y: float, names: Sequence[str], markers: bool = False) -> None:
    """What the roles look like, side by side from (x, y), in shares of the figure."""
    wide, tall = (inches * 72 for inches in fig.get_size_inches())
    for i, name in enumerate(names):
        look = style(name, i)
        if markers:
            mark = Line2D([x + 8 / wide], [y], marker=look["marker"], color=look["color"], ms=7, mec=INK, ls="")
        else:
            mark = Rectangle(
                (x, y - 4 / tall), 16 / wide, 8 / tall, fc=look["color"], hatch=look["hatch"], ec=INK, lw=0.6
            )
        fig.add_artist(mark)
        fig.text(x + 21 / wide, y, name, va="center", fontsize=9, color=INK)
        x += (36 + 5.3 * len(name)) / wide


def show(ax: Axes, image, caption: str = "", size: float = 9) -> None:
    """A picture without axes, small ones enlarged by whole pixels."""
    ax.imshow(image, interpolation="nearest" if max(np.shape(image)[:2]) <= 64 else "antialiased")
    ax.axis("off")
    ax.set_title(caption, fontsize=size)


def draw_picture(fig: Figure, image, x: float, y: float, width: float, height: float) -> float:
    """A picture at the top of a box (shares of the figure), in its own proportions; returns where its lower edge is.

    Axes would cost a tenth of a redraw.
    """
    pixels = np.asarray(image)
    wide, tall = fig.get_size_inches()
    ratio = pixels.shape[1] / pixels.shape[0] * tall / wide  # of width to height, in shares of the figure
    w, h = (width, width / ratio) if width / ratio <= height else (height * ratio, height)
    box = Bbox.from_bounds(x + (width - w) / 2, y + height - h, w, h)
    smooth = "nearest" if max(pixels.shape[:2]) <= 64 else "antialiased"
    fig.add_artist(BboxImage(TransformedBbox(box, fig.transFigure), data=pixels, interpolation=smooth))
    return y + height - h


def captioned(fig: Figure, image, names: Sequence[str], label: int | None, top: float) -> None:
    """The picture that a panel is about, at its left, with its label below."""
    wide, tall = fig.get_size_inches()
    side = min(1.75, tall * top - 0.6)
    edge = draw_picture(fig, image, 0.012, top - side / tall, 1.75 / wide, side / tall)
    caption = "no label" if label is None else f"{STAR}label\n{shortened(names[label], 22)}"
    at = 0.012 + 0.875 / wide
    fig.text(at, edge - 0.08 / tall, caption, ha="center", va="top", fontsize=9, weight="bold", color=INK, ma="center")


def contact_sheet(images: Sequence, columns: int, side: int = 64, gap: int = 4) -> Image.Image:
    """Thumbnails in rows, as one picture."""
    rows = -(-len(images) // columns)
    whole = Image.new("RGB", (columns * (side + gap) - gap, rows * (side + gap) - gap), "white")
    for i, image in enumerate(images):
        small = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
        small = small if small.size == (side, side) else as_rgb(small).resize((side, side))
        whole.paste(small, (i % columns * (side + gap), i // columns * (side + gap)))
    return whole


def without_frame(ax: Axes) -> Axes:
    """Without the frame's upper and right side."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax
