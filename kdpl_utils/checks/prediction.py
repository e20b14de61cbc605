"""A question before the cell that answers it: "you said 62 %, measured 48 %". Unanswered, it never stops a lesson."""

from __future__ import annotations

import html
from collections.abc import Sequence
from numbers import Real

import ipywidgets as W

PREDICTIONS: dict[str, Prediction] = {}  # of this kernel, by name


def predict(
    name: str,
    question: str,
    low: float = 0,
    high: float = 100,
    unit: str = "%",
    options: Sequence[str] = (),
    said: float | str | None = None,
    step: float | None = None,
) -> Prediction:
    """Ask for a number between ``low`` and ``high``, or for one of ``options``.

    Where no widget shows, write the answer into the cell: ``said=62``.  The slider moves by ``step``, or else by a
    hundredth of its length.
    """
    PREDICTIONS[name] = Prediction(name, question, low, high, unit, options, said, step)
    return PREDICTIONS[name]


class Prediction:
    """Shown, it is a question and one control. ``measured`` sets the measurement beside what was said."""

    def __init__(self, name, question, low, high, unit, options, said, step=None):
        self.name, self.question, self.unit, self.options = name, question, unit, list(options)
        is_number = isinstance(said, Real) and not isinstance(said, bool) and low <= said <= high
        if said is not None and not (said in self.options if self.options else is_number):
            choices = ", ".join(self.options) or f"a number from {low:g} to {high:g}"
            raise ValueError(f"{said!r} is no answer to {question!r}: choose {choices}.")
        self.said, self.measurement = said, None
        self.text = W.HTML()
        self.control = self._control(low, high, step or (high - low) / 100)
        self.control.observe(self._answered, names="value")
        unit_beside = [] if self.options else [W.HTML(html.escape(unit))]
        answer = W.HBox([self.control, *unit_beside])
        self.box = W.VBox([W.HTML(f"<b>Predict.</b> {html.escape(question)}"), answer, self.text])
        self._say()

    def _control(self, low: float, high: float, step: float) -> W.ValueWidget:
        if self.options:
            control = W.ToggleButtons(options=self.options, value=self.said, description="my answer")
            control.style.button_width = "auto"
        else:
            start = (low + high) / 2 if self.said is None else self.said
            shown = ".0f" if step == int(step) else ".3g"
            control = W.FloatSlider(start, min=low, max=high, step=step, description="my answer", readout_format=shown)
            control.continuous_update = False
        control.layout.width = "min(40em, 98%)"
        return control

    def _answered(self, change: dict) -> None:
        self.said = change["new"]
        self._say()

    def _say(self) -> None:
        now = "No answer yet."
        if self.said is not None:
            now = f"You say {self.shown(self.said)}. Run on: a cell below measures it."
        self.text.value = f'<div role="status" class="kdpl-text">{html.escape(now)}</div>'

    def shown(self, value: float | str) -> str:
        return value if isinstance(value, str) else f"{value:.3g} {self.unit}".rstrip()

    def measured(self, value: float | str) -> None:
        """Print what was said and what was measured."""
        self.measurement = value if isinstance(value, str) else float(value)
        print(self.outcome())

    def outcome(self) -> str:
        """What was said and what was measured, in words."""
        if self.measurement is None:
            return "not measured yet"
        shown = self.shown(self.measurement)
        if self.said is None:
            return f"measured {shown} (you made no prediction)"
        if self.options:
            return f"you said {self.said}, measured {shown}: {'right' if self.said == self.measurement else 'not so'}"
        return f"you said {self.shown(self.said)}, measured {shown}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """The live view, and the question in words where no kernel runs."""
        choices = " / ".join(self.options) or f"{self.shown(self.control.min)} to {self.shown(self.control.max)}"
        words = f"Predict. {self.question} ({choices}; without widgets: said=…)"
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": words}
        data["text/html"] = f"<p>{html.escape(words)}</p>"  # what a page without a kernel shows
        return data, {}

    def __repr__(self) -> str:
        return f"Prediction({self.name!r}, said={self.said!r}, measured={self.measurement!r})"
