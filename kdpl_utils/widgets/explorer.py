"""An explorer: a few controls, one picture, one line of text."""

from __future__ import annotations

import base64
import gc
import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ipywidgets as W
from matplotlib.figure import Figure

from .. import plots
from ..support.extras import check_newer

check_newer("ipywidgets", "7.7.1")  # Colab's


class Explorer:
    """Controls with visible labels, one picture with alternative text, one line of text.

    ``draw(**values)`` gets each control's value by its name and returns a figure of ``plots`` and the line of text.
    What it raises is written where the picture was, and raised again: a stale picture never stands beside new values.

    Attributes:
        controls: the ipywidgets by name, in reading order.
        picture, text: ``HTML`` widgets.  (``ipywidgets.Image`` has no place for alternative text.)
        alt: the sentence about the picture's data.
        png: the picture as a file, which stays in a notebook when no kernel runs.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], **controls: W.ValueWidget):
        self.draw, self.controls = draw, controls
        self.picture, self.text, self.alt, self.png = W.HTML(), W.HTML(), "", b""
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.style.description_width = "10.5em"
            control.layout.width = "min(40em, 98%)"
            if isinstance(control, W.ToggleButtons):
                control.style.button_width, control.layout.width = "auto", "98%"
            if hasattr(control, "continuous_update"):
                control.continuous_update = False  # one redraw for a drag, not one for each pixel
            control.observe(self._changed, names="value")
        self.box = W.VBox([*controls.values(), self.text, self.picture])
        self._changed()

    @property
    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, _=None) -> None:
        try:
            with short_lived_garbage():
                figure, text = self.draw(**self.values)
                self.png, self.alt = plots.png(figure), figure.alt
                width, height = figure.get_size_inches() * 100
                del figure
        except Exception as error:
            self.png, self.alt, self.picture.value = b"", "", ""
            self.text.value = (
                f'<div role="alert" class="kdpl-text"><b>{html.escape(f"{type(error).__name__}: {error}")}</b></div>'
            )
            raise
        self.text.value = f'<div role="status" class="kdpl-text">{html.escape(text)}</div>'
        self.picture.value = (
            f'<img class="kdpl-picture" alt="{html.escape(self.alt)}" width="{width:.0f}" height="{height:.0f}" '
            'style="max-width: 100%; height: auto" '
            f'src="data:image/png;base64,{base64.b64encode(self.png).decode()}">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """One output that holds both the live view and a picture, for pages where no kernel runs."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": self.alt}
        data["image/png"] = base64.b64encode(self.png).decode()
        return data, {"image/png": {"alt": self.alt}}

    def __repr__(self) -> str:
        return f"Explorer({', '.join(f'{name}={value!r}' for name, value in self.values.items())}): {self.alt}"


@contextmanager
def short_lived_garbage() -> Iterator[None]:
    """A figure is thousands of objects in cycles.  Collected at once they cost milliseconds; left to age beside
    PyTorch's modules they cost half a second at every twentieth redraw."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
            gc.collect(0)
