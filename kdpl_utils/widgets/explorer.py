"""An explorer: a few controls, one picture, one line of text; and the controls that explorers share."""

from __future__ import annotations

import base64
import gc
import html
from collections.abc import Callable, Sequence

import ipywidgets as W
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..evaluate import check_scores

TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class Explorer:
    """Controls with visible labels, one picture with alternative text, one line of text.

    ``draw(**values)`` gets each control's value by its name and returns a figure of ``plots`` and the line of text.
    An error of ``draw`` is shown and raised again: no old picture stands beside new values.

    Attributes:
        controls: the ipywidgets by name, in reading order.
        picture, text: ``HTML`` widgets. (``ipywidgets.Image`` has no place for alternative text.)
        alt: the sentence about the picture's data.
        png: the picture as a file, which stays in a notebook when no kernel runs.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], **controls: W.ValueWidget):
        self.draw = draw
        self.controls = controls
        self.picture, self.text = W.HTML(), W.HTML()
        for name, control in controls.items():
            control.description = control.description or name.replace("_", " ")
            control.style.description_width = "10.5em"
            control.layout.width = "min(40em, 98%)"
            if isinstance(control, W.ToggleButtons):
                control.style.button_width = "auto"
                control.layout.width = "98%"
            if hasattr(control, "continuous_update"):
                control.continuous_update = False  # one redraw for a drag, not one for each pixel
            control.observe(lambda _: self.redraw(), names="value")
        self.box = W.VBox([*controls.values(), self.text, self.picture])
        self.redraw()

    @property
    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def redraw(self) -> None:
        """Draw the picture of the controls' present values."""
        was_on = gc.isenabled()
        gc.disable()  # a figure is thousands of objects in cycles, cheap to collect only while they are young
        try:
            self._show(*self.draw(**self.values))
        except Exception as error:
            self.png = b""
            self.alt = ""
            self.picture.value = ""
            message = html.escape(f"{type(error).__name__}: {error}")
            self.text.value = f'<div role="alert" class="kdpl-text"><b>{message}</b></div>'
            raise
        finally:
            if was_on:
                gc.enable()
                gc.collect(0)

    def _show(self, figure: Figure, text: str) -> None:
        self.png = plots.png(figure)
        self.alt = figure.alt
        width, height = figure.get_size_inches() * 100
        self.text.value = f'<div role="status" class="kdpl-text">{html.escape(text)}</div>'
        self.picture.value = (
            f'<img class="kdpl-picture" alt="{html.escape(self.alt)}" width="{width:.0f}" height="{height:.0f}" '
            'style="max-width: 100%; height: auto" '
            f'src="data:image/png;base64,{base64.b64encode(self.png).decode()}">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Return one output with the live view and a picture, for pages where no kernel runs."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": self.alt}
        return data | {"image/png": base64.b64encode(self.png).decode()}, {"image/png": {"alt": self.alt}}


def pick(n: int) -> W.IntSlider:
    return W.IntSlider(1, 1, n, description="picture")


def ladder(options: Sequence[float], value: float, what: str) -> W.SelectionSlider:
    shown = [(f"{x:,}" if isinstance(x, int) else f"{x:.3g}", x) for x in options]
    return W.SelectionSlider(options=shown, value=value, description=what)


def choice(options: Sequence, what: str, value=None) -> W.ToggleButtons:
    """Show all choices, taken with the space bar: JupyterLab keeps the arrow keys from lists and radio buttons."""
    options = list(options)
    return W.ToggleButtons(options=options, value=options[0] if value is None else value, description=what)


def table(scores: Tensor | Sequence[Tensor], images: Sequence, names: Sequence[str]) -> Tensor:
    """Return the scores of N images and C names, (N, C) or (S, N, C), as callbacks index them.

    Raises:
        ValueError: the names are one string, the shape differs, or scores are not finite.
    """
    if isinstance(names, str):  # its letters would be the names
        raise ValueError(f"The names are one string, {names!r}: give a list of names.")
    scores = (torch.stack(list(scores)) if isinstance(scores, list | tuple) else torch.as_tensor(scores)).detach()
    if tuple(scores.shape[-2:]) != (len(images), len(names)):
        raise ValueError(
            f"{len(images)} images and {len(names)} names need scores of that shape, not {tuple(scores.shape)}."
        )
    for step in scores if scores.ndim == 3 else [scores]:
        check_scores(step)
    return scores.to("cpu", torch.float32)


def label_names(labels: Tensor | Sequence[int] | None, images: Sequence, names: Sequence[str]) -> list[str | None]:
    """Return each image's label by its name, None where it has none (−1).

    Raises:
        ValueError: there are not as many labels as images, or they are no indices of the names.
    """
    if labels is None:
        return [None] * len(images)
    labels = torch.as_tensor(labels).tolist()
    if len(labels) != len(images) or not all(-1 <= label < len(names) for label in labels):
        raise ValueError(f"{len(images)} images need as many labels, each from -1 to {len(names) - 1}.")
    return [names[label] if label >= 0 else None for label in labels]
