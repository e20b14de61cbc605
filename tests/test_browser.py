"""A reader's view: JupyterLab on this machine, a real browser, the keyboard.

Needs playwright (Python) and a Chromium; ``KDPL_REQUIRE_BROWSER=1`` turns a missing one into a failure. Screenshots of
every explorer in two states, and of the last page when a test fails, go to ``KDPL_SHOTS`` (default: screenshots/).
Every assertion about the page waits for what it expects, at most ``PATIENCE`` seconds: kernels may be slow.
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
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
REQUIRED = os.environ.get("KDPL_REQUIRE_BROWSER") == "1"
PATIENCE = 120  # seconds
try:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
except ImportError:
    sync_playwright = None

MISSING = [what for what, there in (("playwright", sync_playwright), ("Chromium", CHROMIUM)) if not there]
pytestmark = pytest.mark.skipif(bool(MISSING) and not REQUIRED, reason=f"no {' and no '.join(MISSING)} here")

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
    """Start a browser; a missing one is a failure where one is asked for."""
    if MISSING:
        pytest.fail(f"KDPL_REQUIRE_BROWSER=1, but there is no {' and no '.join(MISSING)}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start a JupyterLab that knows nothing of the user's settings: (address, token, its folder)."""
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


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture
def page():
    """Open a page that may ask this machine only; other requests are refused and listed."""
    away = []

    def route(request):
        if request.request.url.startswith(HERE):
            return request.continue_()
        away.append(request.request.url)
        return request.abort()

    SHOTS.mkdir(exist_ok=True, parents=True)
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1360, "height": 1000})
        context.set_default_timeout(1000 * PATIENCE)
        context.route("**/*", route)
        context.away = away
        page = context.new_page()
        try:
            yield page
            assert away == [], "requests that would have left this machine"
        finally:
            page.screenshot(path=SHOTS / "last.png")
            context.close()


def open_and_run(page, lab, name: str, cells: list[str]) -> None:
    """Open a notebook of these cells and run all of it from the menu, as a reader would."""
    address, token, folder = lab
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c.strip()) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset&token={token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    wait_idle(page)  # run before the kernel is connected, and Lab asks which kernel to take
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        """() => { const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')]
                     .filter(c => c.querySelector('.cm-content')?.textContent.trim());
                   return cells.length && cells.every(
                     c => /\\[\\d+\\]/.test(c.querySelector('.jp-InputPrompt').textContent)); }""",
        timeout=4000 * PATIENCE,
    )
    mime = "application/vnd.jupyter."
    failed = page.locator(f'.jp-Notebook :is([data-mime-type="{mime}error"], [data-mime-type="{mime}stderr"])')
    assert failed.count() == 0, failed.first.inner_text()


def wait_idle(page) -> None:
    page.locator(".jp-StatusBar-Widget").get_by_text(re.compile(r"\| Idle$")).wait_for()


class Seen:
    """One explorer on the page."""

    def __init__(self, page, n: int = 0):
        self.page = page
        self.cell = page.locator(".jp-CodeCell:has(.kdpl-text)").nth(n)
        self.cell.locator(".kdpl-picture").wait_for()

    def state(self, is_there=lambda state: True, what: str = "", quiet: float = 0.4) -> dict[str, str]:
        """Return what is shown once ``is_there`` of it, the kernel is idle, and nothing has changed for a while."""
        end = time.monotonic() + PATIENCE
        last, since = None, time.monotonic()
        while time.monotonic() < end:
            wait_idle(self.page)
            alert = self.cell.locator('[role="alert"]')
            assert alert.count() == 0, alert.first.inner_text()
            picture = self.cell.locator(".kdpl-picture").evaluate_all("e => e.map(i => [i.src, i.alt, i.naturalWidth])")
            text = self.cell.locator(".kdpl-text").all_inner_texts()
            now = dict(zip(("picture", "alt", "width", "text"), (*picture[0], *text))) if picture else None
            if now != last:
                last, since = now, time.monotonic()
            elif now and is_there(now) and time.monotonic() - since > quiet:
                return now
            self.page.wait_for_timeout(80)
        raise AssertionError(f"after {PATIENCE} s: {what or 'the picture never came to rest'}; shown is {last}")

    def changed(self, before: dict[str, str], what: str) -> dict[str, str]:
        """Return what is shown once it is another picture than before."""
        return self.state(lambda now: now["picture"] != before["picture"], f"{what} changes nothing")

    def focus(self, label: str) -> None:
        """Give the keyboard to the control with this visible label."""
        controls = self.cell.locator(".widget-inline-hbox, .widget-toggle-buttons")
        names = [text.strip() for text in controls.locator("> label").all_inner_texts()]
        assert label in names, f"{label} is not among {names}"
        controls.nth(names.index(label)).locator(".noUi-handle, button, input").first.focus()
        assert self.focused() == label

    def focused(self) -> str:
        """Return the visible label of the control that has the keyboard."""
        return self.page.evaluate(
            """() => document.activeElement.closest('.widget-inline-hbox, .widget-toggle-buttons')
                     ?.querySelector('label')?.textContent ?? ''"""
        )

    def screenshot(self, name: str) -> None:
        self.cell.locator(".jp-OutputArea").first.screenshot(path=SHOTS / f"{name}.png")


def test_the_signature_explorer_by_keyboard(lab, page):
    open_and_run(page, lab, "signature", [SET_UP, CELLS["teacher_student"]])
    seen = Seen(page)
    first = seen.state()
    assert first["width"] > 600, "a real picture"
    assert re.search(r"Label: .*Top predictions: teacher: .*bits from the teacher", first["text"]), first["text"]
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

    def is_untrained(now):
        before, after = re.findall(r"([\d.]+) bits \(", now["alt"])
        return "at epoch 0." in now["text"] and before == after

    start = seen.state(is_untrained, "at epoch 0 the student is not as it was before")
    assert start["picture"] != first["picture"]
    number = start["text"].split(".")[0]
    seen.focus("picture")
    page.keyboard.press("ArrowRight")
    second = seen.state(lambda now: now["text"].split(".")[0] != number, "the next picture is not shown")
    seen.focus("order")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    seen.changed(second, "another order")
    seen.screenshot("teacher_student_2")


@pytest.mark.timeout(3600)  # a slow kernel redraws some 30 times
def test_every_explorer_by_keyboard(lab, page):
    """Each is drawn, and each of its sliders and choices changes its picture; two screenshots each."""
    others = [name for name in CELLS if name != "teacher_student"]
    open_and_run(page, lab, "explorers", [SET_UP, *(CELLS[name] for name in others)])
    for n, name in enumerate(others):
        seen = Seen(page, n)
        seen.cell.scroll_into_view_if_needed()
        shown = seen.state()
        seen.screenshot(f"{name}_1")
        handles = seen.cell.locator(".noUi-handle")
        for i in range(handles.count()):
            handle = handles.nth(i)
            handle.focus()
            is_lowest = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemin")
            page.keyboard.press("ArrowRight" if is_lowest else "ArrowLeft")
            shown = seen.changed(shown, f"{name}: slider {i + 1}")
        buttons = seen.cell.locator(".widget-toggle-buttons")
        for i in range(buttons.count()):
            buttons.nth(i).locator("button:not(.mod-active)").last.focus()
            page.keyboard.press("Space")
            shown = seen.changed(shown, f"{name}: choice {i + 1}")
        seen.screenshot(f"{name}_2")


PREDICTION = """
from kdpl_utils import checks

asked = checks.predict("confidence", "How confident is the student?")
asked
"""


def test_a_prediction_by_keyboard(lab, page):
    """Unanswered it stops nothing; answered with the arrow keys it stands beside the measurement."""
    open_and_run(page, lab, "prediction", [PREDICTION, "asked.measured(48)"])
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells.nth(1)).to_contain_text("measured 48 % (you made no prediction)")
    cells.nth(0).locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(cells.nth(0).locator(".kdpl-text")).to_contain_text("51 %")
    cells.nth(0).locator(".jp-OutputArea").first.screenshot(path=SHOTS / "predict.png")
    cells.nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    expect(cells.nth(1)).to_contain_text("you said 51 %, measured 48 %")


BROKEN = """
from kdpl_utils import plots, widgets
import ipywidgets


def draw(x):
    return plots.seed_dots({"a": [1.0 / (3 - x), 2.0]}, 0.0, "x"), f"x = {x}"


widgets.Explorer(draw, x=ipywidgets.IntSlider(0, 0, 9))
"""


def test_a_broken_callback_is_seen(lab, page):
    """The same looking fails, with the error in words, where a callback raises."""
    open_and_run(page, lab, "broken", [BROKEN])
    seen = Seen(page)
    first = seen.state()
    seen.cell.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    seen.changed(first, "the slider")
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
    assert page.context.away == ["http://example.invalid/x"]
    page.context.away.clear()
