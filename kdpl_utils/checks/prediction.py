"""A question before the cell that answers it: "you said 62 %, measured 48 %". Unanswered, it never stops a lesson."""

from __future__ import annotations

import html
from collections.abc import Sequence

import ipywidgets as W

PREDICTIONS: dict[str, Prediction] = {}  # of this kernel, by name


class Prediction:
    """A question, which asks for a number between ``low`` and ``high``, in steps, or for one of ``options``.

    Shown, it has one control; where no widget shows, write the answer into the cell: ``said=62``.
    """

    def __init__(
        self,
        name: str,
        question: str,
        low: float = 0,
        high: float = 100,
        unit: str = "%",
        options: Sequence[str] = (),
        said: float | str | None = None,
        step: float | None = None,
    ):
        self.name = name
        self.question = question
        self.unit = unit
        self.said = said
        self.measurement = None
        self.choices = " / ".join(options) or f"{self.shown(low)} to {self.shown(high)}"
        if said is not None and (said not in options if options else not low <= said <= high):
            raise ValueError(f"{said!r} is no answer to {question!r}: choose {self.choices}.")
        if options:
            self.control = W.ToggleButtons(options=list(options), value=said, description="my answer")
            self.control.style.button_width = "auto"
        else:
            start = (low + high) / 2 if said is None else said
            self.control = W.FloatSlider(start, min=low, max=high, step=step or (high - low) / 100)
            self.control.readout_format = ".0f" if self.control.step == int(self.control.step) else ".3g"
            self.control.description = "my answer"
            self.control.continuous_update = False
        self.control.layout.width = "min(40em, 98%)"
        self.control.observe(self._answer, names="value")
        self.text = W.HTML()
        answer = W.HBox([self.control, W.HTML("" if options else html.escape(unit))])
        self.box = W.VBox([W.HTML(f"<b>Predict.</b> {html.escape(question)}"), answer, self.text])
        self._show()
        PREDICTIONS[name] = self

    def _answer(self, change: dict) -> None:
        self.said = change["new"]
        self._show()

    def _show(self) -> None:
        words = "No answer yet." if self.said is None else f"You say {self.shown(self.said)}. A cell below measures it."
        self.text.value = f'<div role="status" class="kdpl-text">{html.escape(words)}</div>'

    def shown(self, value: float | str) -> str:
        return value if isinstance(value, str) else f"{value:.3g} {self.unit}".rstrip()

    def measured(self, value: float | str) -> None:
        """Print what was said and what was measured."""
        self.measurement = value if isinstance(value, str) else float(value)
        print(self.outcome())

    def outcome(self) -> str:
        """Return what was said and what was measured, in words."""
        if self.measurement is None:
            return "not measured yet"
        shown = self.shown(self.measurement)
        if self.said is None:
            return f"measured {shown} (you made no prediction)"
        verdict = ": right" if self.said == self.measurement else ": not so"
        return f"you said {self.shown(self.said)}, measured {shown}{verdict if isinstance(self.said, str) else ''}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Return the live view, and the question in words where no kernel runs."""
        words = f"Predict. {self.question} ({self.choices}; without widgets: said=…)"
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": words}
        return {**data, "text/html": f"<p>{html.escape(words)}</p>"}


predict = Prediction
