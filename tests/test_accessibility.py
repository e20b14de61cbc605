"""Accessibility: axe finds no serious or critical fault in what is ours, in a real browser.

Ours are the outputs of cells, the page of kdpl inspect and the text of the reading version; JupyterLab's frame and the
theme around that text are not. Needs what tests/test_browser.py needs, and axe-playwright-python.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from browser_explorers import CELLS, SET_UP
from hostile import comparison
from test_browser import MISSING, PREDICTION, REQUIRED, Seen, chromium, lab, open_and_run, page  # noqa: F401

from kdpl_utils.apps.inspect_page import write_page

ROOT = Path(__file__).resolve().parents[1]
MISSING = MISSING + ["axe-playwright-python"] * (find_spec("axe_playwright_python") is None)
pytestmark = pytest.mark.skipif(bool(MISSING) and not REQUIRED, reason=f"no {' and no '.join(MISSING)} here")

UNNAMED_HANDLE = 'aria-input-field-name: <div class="noUi-handle '
SUMMARY = """
import pandas as pd
checks.summary()
pd.DataFrame({"base": ["1.0"], "novel": ["2.0"]}, index=["zero-shot student"])
"""


def faults(page, *within: str) -> list[str]:  # noqa: F811
    """Return what axe calls serious or critical inside these selectors: rule, element, what it says."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context={"include": [[selector] for selector in within]} if within else None)
    return [
        f"{rule['id']}: {node['html'][:200]}: {' '.join(check['message'] for check in node['any'] + node['all'])}"
        for rule in found.response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.fixture
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.timeout(2400)
def test_outputs_of_a_notebook(lab, page):  # noqa: F811
    shown = [name for name in CELLS if name != "inspect_pair"]
    choice = PREDICTION.replace('student?"', 'student?", options=["very", "a little"]')
    open_and_run(page, lab, "accessible", [SET_UP, *(CELLS[name] for name in shown), PREDICTION, choice, SUMMARY])
    Seen(page, len(shown) - 1).state()
    found = faults(page, ".jp-OutputArea-output")
    # The handle of a slider is ipywidgets' own, and its name stands beside it: nothing in Python can bind the two.
    assert [fault for fault in found if not fault.startswith(UNNAMED_HANDLE)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_inspect(browser, tmp_path, scheme):
    file = write_page(comparison(), tmp_path / "page.html", most=20)
    shown = browser.new_page(color_scheme=scheme)
    shown.goto(file.as_uri())
    assert faults(shown) == []


@pytest.mark.skipif(not (find_spec("myst_nb") and find_spec("furo")), reason="the extra docs is not installed")
def test_pages_of_the_reading_version(browser, tmp_path):
    """A lesson without outputs, and the gallery: prose, code, tables, folded hints, formulas, pictures."""
    pages = ("04_distillation", "gallery/README")
    notebook = nbformat.read(ROOT / "notebooks" / "04_distillation.ipynb", as_version=4)
    nbformat.write(notebook, tmp_path / "04_distillation.ipynb")
    (tmp_path / "gallery").symlink_to(ROOT / "docs" / "gallery", target_is_directory=True)
    (tmp_path / "index.md").write_text("# Start\n\n```{toctree}\n" + "\n".join(pages) + "\n```\n")
    (tmp_path / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in pages:
        shown = browser.new_page(color_scheme="light")
        shown.goto((tmp_path / "html" / f"{name}.html").as_uri())
        assert faults(shown, "article") == [], name


def test_a_fault_is_seen(browser):
    shown = browser.new_page()
    faulty = '<h1>Page</h1><img src="data:,"><p style="color:#ccc">pale</p>'
    shown.set_content(f'<html lang="en"><title>Page</title><main>{faulty}</main></html>')
    assert {fault.split(":")[0] for fault in faults(shown)} == {"image-alt", "color-contrast"}
