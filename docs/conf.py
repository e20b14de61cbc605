"""Sphinx's settings of the reading version (``python3 docs/build.py``).  Nothing is fetched, nothing executed."""

project = "KDPL notebooks"
author = "The KDPL notebooks authors"
extensions = ["myst_nb"]
html_theme = "furo"
html_title = "KDPL notebooks"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
exclude_patterns = ["_build", "downloads"]  # the latter are notebooks to take away, no pages

nb_execution_mode = "off"
# An explorer's output holds a live view and a picture: without a kernel it is the picture that is shown.
nb_mime_priority_overrides = [
    ("html", "image/png", 10),
    ("html", "application/vnd.jupyter.widget-view+json", 100),
]
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
