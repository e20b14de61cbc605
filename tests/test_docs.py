"""The reading version: outputs belong to their cells, pictures have words, the gallery is small and really drawn."""

import base64
import io
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def build():
    spec = spec_from_file_location("build", ROOT / "docs" / "build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(size=(1200, 400)) -> str:
    file = io.BytesIO()
    Image.effect_noise(size, 40).convert("RGB").save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def notebook(alt: str | None = "Words about it."):
    data = {"image/png": png(), VIEW: {"model_id": "x"}, "text/plain": "Words"}
    output = new_output("display_data", data, metadata={"image/png": {"alt": alt}} if alt else {})
    cell = new_code_cell("draw()", id="01-00", execution_count=1, outputs=[output])
    made = new_notebook(cells=[cell])
    made.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return made


def test_outputs_belong_to_their_cells(build):
    executed, source = notebook(), notebook()
    assert build.same_cells(source, executed)
    source.cells[0].source = "draw(2)"
    assert not build.same_cells(source, executed)
    executed.cells[0].execution_count = None
    assert not build.same_cells(executed, executed), "it was never run"


def test_a_changed_notebook_is_not_shown_with_old_outputs(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "EXECUTED", tmp_path / "executed")
    (tmp_path / "executed").mkdir()
    nbformat.write(notebook(), tmp_path / "executed" / "01.ipynb")
    changed = notebook()
    changed.cells[0].source = "draw(2)"
    nbformat.write(changed, tmp_path / "01.ipynb")
    with pytest.raises(SystemExit, match="of other cells: run 'python3 run.py execute'"):
        build.executed_notebook(tmp_path / "01.ipynb", run=False)


def test_a_page_has_no_widget_state_and_pictures_have_words(build):
    made = notebook()
    page = build.readable(made)
    assert "widgets" not in page.metadata and page.cells[0].metadata.mystnb.image.alt == "Words about it."
    assert build.without_alt(made) == [] and build.without_alt(notebook(alt=None)) == ["01-00"]


def test_the_gallery_takes_pictures_from_outputs(build):
    file, words = build.picture(notebook(), "01-00")
    image = Image.open(io.BytesIO(build.small(file)))
    assert words == "Words about it." and image.size == (900, 300) and image.mode == "P"
    with pytest.raises(LookupError, match="The cell 01-99 shows no picture"):
        build.picture(notebook(), "01-99")


def test_the_gallerys_cells_exist(build):
    for _, number, cell in build.PICTURES:
        (path,) = build.NOTEBOOKS.glob(f"{number}_*.ipynb")
        assert cell in [c.id for c in nbformat.read(path, as_version=4).cells], f"{cell} is not in {path.name}"


def test_the_gallery_is_small_and_described(build):
    files = [p for p in build.GALLERY.iterdir() if p.suffix in (".png", ".webp")]
    assert {p.stem for p in files} == {"moving", "inspect", *(name for name, _, _ in build.PICTURES)}
    assert all(p.stat().st_size < 120_000 for p in files) and sum(p.stat().st_size for p in files) < 800_000
    shown = re.findall(r"!\[(.+?)\]\((.+?)\)", (build.GALLERY / "README.md").read_text(encoding="utf-8"))
    assert {name for _, name in shown} == {p.name for p in files}
    assert all(len(words) > 40 for words, _ in shown)


@pytest.mark.skipif(not (find_spec("myst_nb") and find_spec("furo")), reason="the extra docs is not installed")
def test_pages_are_built_offline(build, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    made = build.readable(notebook())
    made.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    made.cells.insert(0, nbformat.v4.new_markdown_cell("# A lesson", id="01-t"))
    nbformat.write(made, source / "lesson.ipynb")
    (source / "index.md").write_text("# Start\n\n```{toctree}\nlesson\n```\n")
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "lesson.html").read_text(encoding="utf-8")
    assert 'alt="Words about it."' in page
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page), "a page that needs a network"
