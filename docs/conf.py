"""Sphinx's settings for the pages of ``python3 docs/build.py``. Nothing is fetched, and nothing is executed.

Formulas are drawn here, because Sphinx's own way fetches MathJax whenever a page is read.
"""

import html
import logging
import re

from docutils import nodes
from matplotlib.path import Path
from matplotlib.textpath import TextPath

project = "KDPL notebooks"
author = "The KDPL notebooks authors"
extensions = ["myst_nb"]
html_theme = "furo"
html_title = "KDPL notebooks"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
exclude_patterns = ["_build", "downloads"]  # the latter are notebooks to take away, not pages

nb_execution_mode = "off"
# An explorer's output holds a live view and a picture; without a kernel, the page shows the picture.
nb_mime_priority_overrides = [("html", "image/png", 10), ("html", "application/vnd.jupyter.widget-view+json", 100)]
nb_ipywidgets_js: dict = {}
nb_output_stderr = "remove"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "drawn"
logging.getLogger("matplotlib.mathtext").setLevel(logging.WARNING)

SIZE = 16  # of a formula's letters, in pixels
LETTER = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


def drawn(latex: str) -> str:
    """Return a formula as inline SVG in the colour of the surrounding text, with its source for a screen reader."""
    written = re.sub(r"\\tfrac(\w)(\w)", r"\\frac{\1}{\2}", " ".join(latex.split()))  # matplotlib lacks \tfrac12
    path = TextPath((0, 0), f"${written}$", size=SIZE)
    corners = path.get_extents()
    steps = []
    for points, code in path.iter_segments(curves=True, simplify=False):
        numbers = [] if code == Path.CLOSEPOLY else [f"{-x if i % 2 else x:.2f}" for i, x in enumerate(points)]
        steps.append(LETTER[code] + " ".join(numbers))
    box = f"{corners.x0:.2f} {-corners.y1:.2f} {corners.width:.2f} {corners.height:.2f}"
    place = f"width:{corners.width / SIZE:.2f}em;height:{corners.height / SIZE:.2f}em"
    return (
        f'<svg role="img" aria-label="{html.escape(latex)}" viewBox="{box}" fill="currentColor" '
        f'style="margin:0 .1em;{place};vertical-align:{corners.y0 / SIZE:.2f}em"><path d="{"".join(steps)}"/></svg>'
    )


def inline_formula(translator, node) -> None:
    translator.body.append(drawn(node.astext()))
    raise nodes.SkipNode


def displayed_formula(translator, node) -> None:
    large = drawn(node.astext().replace(r"\frac", r"\dfrac"))
    translator.body.append(f'<p style="text-align:center;font-size:1.15em">{large}</p>')
    raise nodes.SkipNode


def scroll_by_keyboard(app, name, template, context, doctree) -> None:
    """Let the keyboard reach wide code and outputs, so that it can scroll them."""
    context["body"] = context.get("body", "").replace("<pre>", '<pre tabindex="0">')


def setup(app) -> None:
    app.connect("html-page-context", scroll_by_keyboard)
    app.add_html_math_renderer("drawn", (inline_formula, None), (displayed_formula, None))
