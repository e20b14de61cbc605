"""A reader's view: JupyterLab on this machine, a real browser, the keyboard.

Needs playwright (Python) and a Chromium; ``KDPL_REQUIRE_BROWSER=1`` turns a missing one into a failure.  Screenshots of
every explorer in two states, and of the last page when a test fails, go to ``KDPL_SHOTS`` (default: screenshots/).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from browser_explorers import CELLS, SET_UP

ROOT = Path(__file__).resolve().parents[1]
SHOTS = Path(os.environ.get("KDPL_SHOTS") or ROOT / "screenshots")
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
REQUIRED = os.environ.get("KDPL_REQUIRE_BROWSER") == "1"
try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    sync_playwright = None

MISSING = [what for what, there in (("playwright", sync_playwright), ("Chromium", CHROMIUM)) if not there]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and not REQUIRED,
    reason=f"no {' and no '.join(MISSING)} on this machine",
)

FLAGS = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
FLAGS = [f"--{f}" for f in (*FLAGS.split(), "disable-sync", "disable-dev-shm-usage", "force-color-profile=srgb")]
SETTINGS = {  # no news, no cells left out of the page, nothing saved behind the test's back
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
HERE = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")


@contextlib.contextmanager
def chromium():
    """A browser; that there is none is a failure where one is asked for."""
    if MISSING:
        pytest.fail(f"KDPL_REQUIRE_BROWSER=1, but there is no {' and no '.join(MISSING)}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab that knows nothing of the user's settings: (address, token, its folder)."""
    if MISSING:
        pytest.fail(f"KDPL_REQUIRE_BROWSER=1, but there is no {' and no '.join(MISSING)}.")
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for plugin, settings in SETTINGS.items():
        file = home / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    own = {f"JUPYTER_{part}_DIR": str(home / part.lower()) for part in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    own |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "JUPYTER_NO_CONFIG": "1", "OMP_NUM_THREADS": "1"}
    own |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    log = home / "lab.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | own, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
            yield f"http://127.0.0.1:{port}", token, folder
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture
def page(lab, tmp_path):
    """A page of a fresh browser that may speak to this machine only; anything else is refused and listed."""
    away = []

    def route(request):
        if request.request.url.startswith(HERE):
            return request.continue_()
        away.append(request.request.url)
        return request.abort()

    SHOTS.mkdir(exist_ok=True, parents=True)
    with sync_playwright() as p:
        context = p.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            viewport={"width": 1360, "height": 1000},
        )
        context.set_default_timeout(30_000)
        context.route("**/*", route)
        context.away = away
        try:
            yield context.pages[0]
            assert away == [], "requests that would have left this machine"
        finally:
            context.pages[0].screenshot(path=SHOTS / "last.png")
            context.close()


def open_and_run(page, lab, name: str, cells: list[str]) -> None:
    """Open a notebook of these cells and run all of it from the menu, as a reader would."""
    address, token, folder = lab
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c.strip()) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset&token={token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    wait_idle(page)  # run before the kernel is connected, and Lab asks which kernel to take
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        """() => { const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')]
                     .filter(c => c.querySelector('.cm-content')?.textContent.trim());
                   return cells.length && cells.every(
                     c => /\\[\\d+\\]/.test(c.querySelector('.jp-InputPrompt').textContent)); }""",
        timeout=180_000,
    )
    failed = page.locator(
        '.jp-Notebook [data-mime-type="application/vnd.jupyter.error"], '
        '.jp-Notebook [data-mime-type="application/vnd.jupyter.stderr"]'
    )
    assert failed.count() == 0, failed.first.inner_text()


def wait_idle(page, timeout: float = 60_000) -> None:
    page.locator(".jp-StatusBar-Widget").get_by_text(re.compile(r"\| Idle$")).wait_for(timeout=timeout)


class Seen:
    """One explorer on the page."""

    def __init__(self, page, n: int = 0):
        self.page = page
        self.cell = page.locator(".jp-CodeCell:has(.kdpl-text)").nth(n)
        self.cell.locator(".kdpl-picture").wait_for()

    def state(self, quiet: float = 0.4) -> dict[str, str]:
        """What is shown once the kernel is idle and nothing has changed for a while: redraws queue up."""
        end, last, since = time.monotonic() + 30, None, time.monotonic()
        while time.monotonic() < end:
            wait_idle(self.page)
            alert = self.cell.locator('[role="alert"]')
            assert alert.count() == 0, alert.first.inner_text()
            picture = self.cell.locator(".kdpl-picture").evaluate_all("e => e.map(i => [i.src, i.alt, i.naturalWidth])")
            now = (*picture[0], self.cell.locator(".kdpl-text").inner_text()) if picture else None
            if now is None or now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > quiet:
                return dict(zip(("picture", "alt", "width", "text"), now))
            self.page.wait_for_timeout(80)
        raise AssertionError("the picture never came to rest")

    def focus(self, label: str) -> None:
        """Give the keyboard to the control with this visible label."""
        controls = self.cell.locator(".widget-inline-hbox, .widget-toggle-buttons")
        names = [text.strip() for text in controls.locator("> label").all_inner_texts()]
        assert label in names, f"{label} is not among {names}"
        controls.nth(names.index(label)).locator(".noUi-handle, button, input").first.focus()
        assert self.focused() == label

    def screenshot(self, name: str) -> None:
        self.cell.locator(".jp-OutputArea").first.screenshot(path=SHOTS / f"{name}.png")

    def focused(self) -> str:
        """The visible label of the control that has the keyboard."""
        return self.page.evaluate(
            """() => document.activeElement.closest('.widget-inline-hbox, .widget-toggle-buttons')
                     ?.querySelector('label')?.textContent ?? ''"""
        )


def test_the_signature_explorer_by_keyboard(lab, page):
    open_and_run(page, lab, "signature", [SET_UP, CELLS["teacher_student"]])
    seen = Seen(page)
    first = seen.state()
    assert first["width"] > 600, "a real picture"
    assert re.search(r"Label: .*First answers: teacher: .*bits from the teacher", first["text"]), first["text"]
    assert "Most probable for teacher" in first["alt"]
    seen.screenshot("teacher_student_1")

    # The order of tab stops is the order of reading (a slider and its number are two stops).
    seen.focus("order")
    stops = ["order"]
    while stops[-1] != "names shown" and len(stops) < 20:
        page.keyboard.press("Tab")
        stops.append(seen.focused())
    reading = ["order", "picture", "training epoch", "temperature", "names shown"]
    assert list(dict.fromkeys(stops)) == reading, stops

    seen.focus("training epoch")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    start = seen.state()
    assert start["picture"] != first["picture"] and start["text"] != first["text"] and start["alt"] != first["alt"]
    bits = re.findall(r"([\d.]+) bits \(", start["alt"])
    assert bits[0] == bits[1], "at epoch 0 the student is as it was before"

    seen.focus("picture")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    fourth = seen.state()
    assert fourth["text"].split(".")[0] != start["text"].split(".")[0] and fourth["picture"] != start["picture"]

    seen.focus("order")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    second_order = seen.state()
    assert second_order["picture"] != fourth["picture"]
    seen.screenshot("teacher_student_2")


def test_every_explorer_by_keyboard(lab, page):
    """Each is drawn, and each of its sliders and choices changes its picture; two screenshots each."""
    others = [name for name in CELLS if name != "teacher_student"]
    open_and_run(page, lab, "explorers", [SET_UP, *(CELLS[name] for name in others)])
    for n, name in enumerate(others):
        seen = Seen(page, n)
        seen.cell.scroll_into_view_if_needed()
        before = seen.state()
        seen.screenshot(f"{name}_1")
        handles = seen.cell.locator(".noUi-handle")
        for i in range(handles.count()):
            handles.nth(i).focus()
            now, least = (float(handles.nth(i).get_attribute(f"aria-value{part}")) for part in ("now", "min"))
            for _ in range(2):
                page.keyboard.press("ArrowRight" if now == least else "ArrowLeft")
            after = seen.state()
            assert after["picture"] != before["picture"], f"{name}: slider {i + 1} changes nothing"
            before = after
        buttons = seen.cell.locator(".widget-toggle-buttons")
        for i in range(buttons.count()):
            other = buttons.nth(i).locator("button:not(.mod-active)")
            if other.count():
                other.last.focus()
                page.keyboard.press("Space")
                after = seen.state()
                assert after["picture"] != before["picture"], f"{name}: choice {i + 1} changes nothing"
                before = after
        seen.screenshot(f"{name}_2")


BROKEN = """
from kdpl_utils import plots, widgets
import ipywidgets


def draw(x):
    return plots.seed_dots({"a": [1.0 / (3 - x), 2.0]}, 0.0, "x"), f"x = {x}"


widgets.Explorer(draw, x=ipywidgets.IntSlider(0, 0, 9))
"""


PREDICTION = """
from kdpl_utils import checks

asked = checks.predict("confidence", "How sure is the student?")
asked
"""


def test_a_prediction_by_keyboard(lab, page):
    """Unanswered it stops nothing; answered with the arrow keys it stands beside the measurement."""
    open_and_run(page, lab, "prediction", [PREDICTION, "asked.measured(48)"])
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells.nth(1)).to_contain_text("measured 48 % (you made no prediction)")
    cells.nth(0).locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(cells.nth(0).locator(".kdpl-text")).to_contain_text("You say 51 %. Run on: a cell below measures it.")
    cells.nth(0).locator(".jp-OutputArea").first.screenshot(path=SHOTS / "predict.png")
    cells.nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    expect(cells.nth(1)).to_contain_text("you said 51 %, measured 48 %")


def test_a_broken_callback_is_seen(lab, page):
    """The same looking fails, with the error in words, where a callback raises."""
    open_and_run(page, lab, "broken", [BROKEN])
    seen = Seen(page)
    first = seen.state()
    seen.cell.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    assert seen.state()["picture"] != first["picture"]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(seen.cell.locator('[role="alert"]')).to_contain_text("ZeroDivisionError")
    with pytest.raises(AssertionError, match="ZeroDivisionError: .*division by zero"):
        seen.state()
    seen.screenshot("broken")


def test_a_request_that_leaves_the_machine_is_noticed(page):
    """The guard itself: what the page fixture fails on."""
    page.goto("data:text/html,<p>here</p>")
    page.evaluate("() => fetch('http://example.invalid/x').catch(() => 0)")
    page.wait_for_timeout(200)
    assert page.context.away == ["http://example.invalid/x"]
    page.context.away.clear()
