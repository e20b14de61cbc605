"""Every control of every explorer, moved over its range: what must change does, and no error stays hidden."""

import base64
import gc
import html
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import ipywidgets as W
import nbformat
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from kdpl_utils import plots, widgets
from kdpl_utils.evaluate import kl_bits
from kdpl_utils.widgets import Explorer, widget_errors

N, C, D, S, DIM = 40, 12, 60, 5, 16  # pictures, names, dictionary, training steps, feature size
NAMES = [f"name {c}" for c in range(C)]
DICTIONARY = NAMES + [f"word {d}" for d in range(D - C)]
# Markup, formulas and format strings, were they not shown as text.
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><b>x</b>",
    "$$ and $\\frac$",
    "${title} %s {x}",
    "\"a\" & 'b' &amp;",
]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


IMAGES = [Image.new("RGB", (64, 64), (6 * i, 255 - 6 * i, 90)) for i in range(N)]
LABELS = torch.arange(N) % C
TEACHER = 9 * unit(N, C) + 4 * torch.nn.functional.one_hot(LABELS, C)
STUDENTS = torch.stack([TEACHER * s / 8 + 6 * unit(N, C, seed=1) * (1 - s / 8) for s in range(S)])
RUNS = np.random.default_rng(0).normal(60, 1, (6, 3, 5))
CONTEXTS = [[[f"w{s}{v}{k}" for k in range(4)] for v in range(3)] for s in range(S)]
DISTANCES = np.random.default_rng(0).random((S, 3, 4)).cumsum(-1)
CURVES = {"base": np.linspace(50, 60, S), "novel": np.linspace(55, 50, S)}
COSINES = {"a photo of a {}.": TEACHER / 20, "{}": STUDENTS[0] / 20}


EXPLORERS = {
    "prediction": lambda n: widgets.prediction(IMAGES, unit(N, DIM), n, unit(C, DIM, seed=2), 10.0, LABELS),
    "temperature": lambda n: widgets.temperature(IMAGES, n, COSINES, LABELS, 14.0),
    "teacher_student": lambda n: widgets.teacher_student(IMAGES, n, TEACHER, STUDENTS, LABELS),
    "two_models": lambda n: widgets.teacher_student(IMAGES, n, TEACHER, STUDENTS[0]),
    "class_pick": lambda n: widgets.class_pick(IMAGES, 9 * unit(N, D), LABELS, n, n + DICTIONARY[C:]),
    "context_step": lambda n: widgets.context_step(CONTEXTS, DISTANCES, unit(S, C, DIM), CURVES, n[:3]),
    "simplex": lambda n: widgets.simplex(n[:3]),
    "price": lambda n: widgets.price(n[:3], [1.0, 4.0, 16.0], RUNS[:3, 0] - 59),
    "calibration_bench": lambda n: widgets.calibration_bench({n[0]: TEACHER, n[1]: STUDENTS[0]}, LABELS),
}
each = pytest.mark.parametrize("explore", EXPLORERS.values(), ids=EXPLORERS)


def choices(control) -> list:
    """Values over a control's whole range, its ends among them."""
    if isinstance(control, W.Text):
        return ["", "name 3, Name 5", "name 1, name 2, name 3"]
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        return list(dict.fromkeys(values[:: max(1, len(values) // 4)] + values[-1:]))
    steps = round((control.max - control.min) / control.step)
    return [control.min + control.step * i for i in sorted({0, steps // 3, 2 * steps // 3, steps})]


def line(explorer: Explorer) -> str:
    return html.unescape(re.sub("<.*?>", "", explorer.text.value))


@each
def test_every_control_changes_what_is_seen(explore):
    shown = explore(NAMES)
    for name, control in shown.controls.items():
        start = control.value
        pictures, words = set(), set()
        values = choices(control)
        for value in values:
            control.value = value
            assert shown.values[name] == value
            assert Image.open(io.BytesIO(shown.png)).size[0] > 450
            pictures.add(shown.png)
            words.add((shown.alt, line(shown)))
        assert len(pictures) == len(values) or name == "order", f"{name}: two values show the same picture"
        assert len(words) > 1 or name == "names_shown", f"{name}: its change is not in words"
        control.value = start


class Elements(HTMLParser):
    """The elements of a piece of HTML, with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.found = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found[tag] = dict(attributes)


@each
def test_is_labelled_and_described_in_text(explore):
    """Whatever classes, words and models are called, they make no element and no formula."""
    shown = explore(HOSTILE + NAMES[len(HOSTILE) :])
    assert list(shown.box.children) == [*shown.controls.values(), shown.text, shown.picture]  # reading order
    labels = [control.description for control in shown.controls.values()]
    assert all(len(label) > 1 for label in labels) and len({*labels}) == len(labels)
    if "only" in shown.controls:
        shown.controls["only"].value = HOSTILE[0]
    found = Elements(shown.text.value + shown.picture.value).found
    assert {tag: [*of] for tag, of in found.items()} == {
        "div": ["role", "class"],
        "img": ["class", "alt", "width", "height", "style", "src"],
    }
    assert found["img"]["alt"] == shown.alt and len(shown.alt) > 30 and line(shown)


def test_worst_first_shows_the_largest_kl_first():
    shown = EXPLORERS["teacher_student"](NAMES)
    ranks = []
    for rank in (1, 2, N):
        shown.controls["picture"].value = rank
        ranks.append(int(re.search(r"Picture (\d+) of", line(shown))[1]) - 1)
    order = kl_bits(TEACHER, STUDENTS[0]).argsort(descending=True)
    assert ranks == [order[0], order[1], order[-1]]
    shown.controls["order"].value = "as given"
    for step, t in ((0, 1.0), (3, 1.0), (3, 4.0)):
        shown.controls["step"].value, shown.controls["temperature"].value = step, t
        before, now = (kl_bits(TEACHER, STUDENTS[s], t)[N - 1] for s in (0, step))
        assert f"{before:.2f} bits (student before), {now:.2f} bits (student after)" in shown.alt
    assert f"Picture {N} of {N}. Label: {NAMES[LABELS[N - 1]]}. Top predictions: teacher: " in line(shown)


def test_words_tell_what_is_shown():
    shown = EXPLORERS["two_models"](NAMES)
    assert "step" not in shown.controls and "bits (student)" in shown.alt and "Label" not in line(shown)
    shown = EXPLORERS["prediction"](NAMES)
    shown.controls["only"].value = "name 3, nmae 4"
    assert "'nmae 4' is not among the 12 encoded names: try name 4" in line(shown)
    shown.controls["only"].value = "Name 3, name 4"
    assert "Of 2 names, name " in line(shown)
    shown = EXPLORERS["class_pick"](NAMES)
    shown.controls["k"].value = D
    assert "recall 100%" in line(shown) and "100% of the teacher's probability" in line(shown)
    shown.controls["classes"].value = 1
    assert "of 1 class, K = " in line(shown)
    shown = EXPLORERS["price"](NAMES)
    shown.controls["budget"].value = 4.0
    assert "within 4 ms: name 0, name 1" in shown.alt and "2 of 3 teachers" in line(shown)
    shown.controls["budget"].index = 0
    assert "no teacher" in shown.alt and "No teacher costs" in line(shown)
    one = widgets.calibration_bench({"large": TEACHER}, LABELS)
    assert list(one.controls) == ["temperature", "noise"] and line(one).startswith("large at temperature 1: accuracy")


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: widgets.teacher_student(IMAGES[:3], NAMES, TEACHER, STUDENTS), "3 images and 12 names"),
        (lambda: widgets.teacher_student(IMAGES, NAMES[:4], TEACHER, STUDENTS), "40 images and 4 names"),
        (lambda: widgets.teacher_student(IMAGES, NAMES, TEACHER, STUDENTS[:, :, :3]), "scores of that shape"),
        (lambda: widgets.teacher_student(IMAGES, NAMES, TEACHER, STUDENTS, LABELS[:2]), "as many labels"),
        (lambda: widgets.teacher_student(IMAGES, NAMES, TEACHER, STUDENTS, LABELS + 1), "from -1 to 11"),
        (
            lambda: widgets.teacher_student(IMAGES, NAMES, TEACHER, STUDENTS * torch.nan),
            "40 of 40 images are not finite",
        ),
        (lambda: widgets.prediction(IMAGES[:2], unit(2, 4), "abc", unit(3, 4), 1.0), "one string, 'abc'"),
        (lambda: widgets.class_pick(IMAGES[:2], unit(2, 3), [0, 1], ["a", "b", "c"], "abc"), "one string, 'abc'"),
    ],
)
def test_refuses_what_does_not_fit(build, words):
    with pytest.raises(ValueError, match=words):
        build()


# --- errors come out


def broken(limit: int = 3) -> Explorer:
    def draw(x):
        if x > limit:
            raise ZeroDivisionError("x is <too> large")
        return plots.seed_dots({"a": [x, x + 1]}, 0.0, "x"), f"x = {x}"

    return Explorer(draw, x=W.IntSlider(1, 0, 9))


def test_an_error_reaches_the_caller_and_the_reader():
    shown = broken()
    with pytest.raises(ZeroDivisionError, match="too"):
        shown.controls["x"].value = 5
    assert 'role="alert"' in shown.text.value and "ZeroDivisionError: x is <too> large" in line(shown)
    assert shown.picture.value == "" and shown.png == b"", "no old picture beside a new value"
    assert gc.isenabled()
    shown.controls["x"].value = 2
    assert "alert" not in shown.text.value and line(shown) == "x = 2" and shown.png
    with pytest.raises(ZeroDivisionError):
        broken(limit=0)


def test_hidden_errors_are_found():
    """Where an executed notebook can hide one: a cell's output, an Output widget's state, an explorer's own line."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1/0", id="a-1")])
    assert widget_errors(notebook) == []
    error = nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])
    notebook.cells[0].outputs = [error]
    shown = broken()
    with pytest.raises(ZeroDivisionError):
        shown.controls["x"].value = 5
    state = {"o": {"state": {"outputs": [error]}}, "t": {"state": {"value": shown.text.value}}, "b": {"state": {}}}
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": state}}
    found = widget_errors(notebook)
    assert found[:2] == [f"{where}: ZeroDivisionError: division by zero" for where in ("cell 0 (a-1)", "widget o")]
    assert len(found) == 3 and found[2].startswith("widget t: ")


def test_one_output_holds_view_and_picture():
    shown = broken()
    data, metadata = DisplayFormatter().format(shown)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == shown.box.model_id
    assert base64.b64decode(data["image/png"]) == shown.png and data["text/plain"] == shown.alt
    assert len(data) == 3 and metadata == {"image/png": {"alt": shown.alt}}


@pytest.mark.skipif(W.__version__.startswith("7."), reason="this is that run")
@pytest.mark.parametrize("tests", ["widgets/test_widgets.py", "checks -k predict"])
def test_with_ipywidgets_7(tests):
    """These tests, and those of the predictions, again under ipywidgets 7.7.1 (Colab's).

    KDPL_IPYWIDGETS7 names a folder that holds it: pip install --target FOLDER --no-deps ipywidgets==7.7.1
    ipython_genutils
    """
    folder = os.environ.get("KDPL_IPYWIDGETS7")
    if not folder:
        pytest.skip("KDPL_IPYWIDGETS7 is not set: see this test's docstring")
    env = os.environ | {"PYTHONPATH": folder, "PYTEST_XDIST_WORKER": "", "PYTEST_ADDOPTS": ""}
    version = subprocess.check_output([sys.executable, "-c", "import ipywidgets as W; print(W.__version__)"], env=env)
    assert version.startswith(b"7."), f"{folder} holds ipywidgets {version.decode()}"
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests.split()]
    done = subprocess.run(run, env=env, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout[-3000:]
