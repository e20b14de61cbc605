"""The reading version: outputs belong to their cells, pictures have words, pages need no network; the course kit."""

import base64
import io
import re
import runpy
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import build
import course
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import kdpl_utils as kd

ROOT = Path(__file__).resolve().parents[1]


def notebook(alt: str | None = "Words about it."):
    file = io.BytesIO()
    Image.effect_noise((1200, 400), 40).convert("RGB").save(file, format="PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "Words"}
    output = new_output("display_data", data, metadata={"image/png": {"alt": alt}} if alt else {})
    bar = new_output("stream", name="stdout", text="40 %\r99 %\n")
    made = new_notebook(cells=[new_code_cell("draw()", id="01-00", execution_count=1, outputs=[bar, output])])
    made.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    made.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    return made


def test_outputs_belong_to_their_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "EXECUTED", tmp_path / "executed")
    build.EXECUTED.mkdir()
    nbformat.write(notebook(), tmp_path / "01.ipynb")
    assert not build.is_current(tmp_path / "01.ipynb")
    changed, failed = notebook(), notebook()
    changed.cells[0].source = "draw(2)"
    failed.cells[0].outputs = [new_output("error", ename="E", evalue="", traceback=[])]
    for made, current in ((changed, False), (failed, False), (notebook(), True)):
        nbformat.write(made, build.EXECUTED / "01.ipynb")
        assert build.is_current(tmp_path / "01.ipynb") == current


def test_pages_are_built_offline_with_words_for_pictures(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    made = build.readable(notebook())
    words = "# A lesson\n\nOf $s$ and $t$:\n\n$$\\tfrac12 \\sum_c t_c \\log s_c$$"
    made.cells.insert(0, new_markdown_cell(words, id="01-t"))
    nbformat.write(made, source / "lesson.ipynb")
    (source / "index.md").write_text("# Start\n\n```{toctree}\nlesson\n```\n")
    shutil.copy(ROOT / "docs/conf.py", source)
    shutil.copytree(ROOT / "docs/static", source / "static")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html/lesson.html").read_text(encoding="utf-8")
    assert 'alt="Words about it."' in page and "99 %" in page and "40 %" not in page
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page), "a page that needs a network"
    assert re.findall(r'<svg role="img" aria-label="(.+?)"', page) == ["s", "t", r"\tfrac12 \sum_c t_c \log s_c"]
    with pytest.raises(ValueError, match="01-00 shows a picture without an alternative text"):
        build.readable(notebook(alt=None))


def test_every_formula_of_a_lesson_can_be_drawn():
    drawn = runpy.run_path(str(ROOT / "docs/conf.py"))["drawn"]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        text = re.sub(r"```.*?```|`[^`]*`", "", "\n".join(cells), flags=re.DOTALL)
        for formulas in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", text, re.DOTALL):
            assert "<path" in drawn("".join(formulas)), (path.name, formulas)


def test_the_gallery_is_small_described_and_of_cells_that_exist():
    words, file = build.picture_of(notebook(), "01-00")
    assert words == "Words about it." and Image.open(io.BytesIO(file)).size == (900, 300)
    for cell in build.CELLS.values():
        (path,) = build.NOTEBOOKS.glob(f"{cell[:2]}_*.ipynb")
        assert f'"id": "{cell}"' in path.read_text(encoding="utf-8"), cell
    files = {path.name: path.stat().st_size for path in build.GALLERY.glob("*.[pw]*")}
    shown = re.findall(r"!\[(.{40,}?)\]\((.+?)\)", (build.GALLERY / "README.md").read_text(encoding="utf-8"))
    assert {name for _, name in shown} == set(files) == {"inspect.webp", *(f"{name}.png" for name in build.CELLS)}
    assert max(files.values()) < 120_000


# --- the course kit --------------------------------------------------------------------------------------------------


def test_the_plans_add_up_and_stop_at_headings():
    text = (ROOT / "docs/course/plans.md").read_text(encoding="utf-8")
    for plan, whole in zip(text.split("\n## ")[1:3], (90, 240), strict=True):
        assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, re.MULTILINE))) == whole
    for stem, until, names in re.findall(r"notebooks/(\w+)\.ipynb\) \| (.+?) \| (.+?) \|", text):
        lesson = (ROOT / f"notebooks/source/{stem}.py").read_text(encoding="utf-8")
        assert until == "the end" or f"\n## {until[8:-1]}\n" in lesson, until
        assert all(f"checks.{name}(" in lesson for name in re.findall(r"`(\w+)`", names)), names


def test_the_glossary_names_functions_that_exist():
    page = course.glossary_page()
    functions = re.findall(r"`(\w+)`", page.split("## Symbols")[1])
    assert [one for one in functions if not hasattr(kd, one) and one not in ("features", "batch", "base_names")] == []


def test_handed_in_files_become_a_table(tmp_path, monkeypatch, capsys):
    """The page's own code, on the file that it wrote."""
    from kdpl_utils import checks

    monkeypatch.chdir(tmp_path)
    (tmp_path / "handed-in").mkdir()
    checks.harmonic_mean(lambda base, novel: (base + novel) / 2)
    page = (ROOT / "docs/course/handing_in.md").read_text(encoding="utf-8")
    shown, collected = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(shown, {"checks": checks})
    shutil.move("lesson-05-ada.json", "handed-in")
    capsys.readouterr()
    exec(collected, {})
    assert "harmonic_mean" in capsys.readouterr().out


def test_links_of_a_lesson_are_made_from_the_repositorys_address():
    source = course.with_links(notebook(), "01_zero_shot", "https://github.com/owner/repo").cells[-1].source
    (address,) = re.findall(r"\((https://github.com/\S+)\)", source)
    fields = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)
    assert fields["title"] == ["Lesson 01: "] and f"kdpl_utils: {kd.__version__}" in fields["body"][0]
    assert "https://colab.research.google.com/github/owner/repo/blob/main/notebooks/01_zero_shot.ipynb" in source
    assert "https://" not in course.with_links(notebook(), "01_zero_shot", None).cells[-1].source


def test_the_kits_pages_link_to_notebooks_that_it_writes(tmp_path):
    for page in course.write_course(tmp_path):
        text = (tmp_path / f"{page}.md").read_text(encoding="utf-8")
        for cell in (cell for path in course.lessons.sources() for cell in course.lessons.cells_of(path)):
            assert "instructor" not in page or cell.part not in ("solution", "instructor") or cell.text in text, cell.id
        for target in re.findall(r"\]\((?!https)([^)#]+)\)|<(\.\./downloads/[^>]+)>", text):
            path = (tmp_path / "course" / "".join(target)).resolve()
            assert path.exists() or (ROOT / "notebooks" / path.name).exists() and path.parent.name == "notebooks", path
