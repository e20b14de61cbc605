"""The reading version: outputs belong to their cells, pictures have words, the gallery is small and really drawn."""

import base64
import io
import re
import runpy
import shutil
import subprocess
import sys
import urllib.parse
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def course(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import course

    return course


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
    bar = new_output("stream", name="stderr", text="40%, 2 steps a second")
    cell = new_code_cell("draw()", id="01-00", execution_count=1, outputs=[bar, output])
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


def test_a_thin_line_keeps_its_colour_beside_a_heat_map(build):
    cells = matplotlib.colormaps["cividis"](np.random.default_rng(0).random((100, 225)), bytes=True)[..., :3]
    image = Image.fromarray(cells).resize((900, 400), Image.Resampling.BICUBIC)
    image.paste((182, 87, 25), (100, 200, 220, 203))
    file = io.BytesIO()
    image.save(file, format="PNG")
    shown = Image.open(io.BytesIO(build.small(file.getvalue()))).convert("RGB").getpixel((150, 201))
    assert max(abs(a - b) for a, b in zip(shown, (182, 87, 25))) < 12, shown


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
    words = "# A lesson\n\nOf $s$ and $t$:\n\n$$\\tfrac12 \\sum_c t_c \\log s_c$$"
    made.cells.insert(0, nbformat.v4.new_markdown_cell(words, id="01-t"))
    nbformat.write(made, source / "lesson.ipynb")
    (source / "faults.md").write_text(build.fault_page(), encoding="utf-8")
    (source / "index.md").write_text("# Start\n\n```{toctree}\nlesson\nfaults\n```\n")
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    shutil.copytree(ROOT / "docs" / "static", source / "static")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "lesson.html").read_text(encoding="utf-8")
    assert 'alt="Words about it."' in page and "steps a second" not in page
    assert "pre-wrap" in (tmp_path / "html" / re.search(r'href="(_static/pages.css)', page)[1]).read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://', page), "a page that needs a network"
    assert re.findall(r'<svg role="img" aria-label="(.+?)"', page) == ["s", "t", r"\tfrac12 \sum_c t_c \log s_c"]
    faults = (tmp_path / "html" / "faults.html").read_text(encoding="utf-8")
    assert faults.count("<tr") > 60 and "<img src=x" not in faults and "the other pictures" in faults


@pytest.mark.skipif(not find_spec("docutils"), reason="the extra docs is not installed")
def test_every_formula_of_a_lesson_can_be_drawn():
    drawn = runpy.run_path(str(ROOT / "docs" / "conf.py"))["drawn"]
    found = []
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                text = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
                found += re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", text, re.DOTALL)
    formulas = {"".join(pair) for pair in found}
    assert len(formulas) > 8
    assert all("<path" in drawn(formula) for formula in formulas)


@pytest.mark.skipif(not find_spec("docutils"), reason="the extra docs is not installed")
def test_a_formula_stands_upright_and_within_its_picture():
    """An index is below its letter, where y is larger in SVG; and no stroke lies outside of what is shown."""
    drawn = runpy.run_path(str(ROOT / "docs" / "conf.py"))["drawn"]

    def box_and_strokes(latex):
        svg = drawn(latex)
        left, top, width, height = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
        numbers = [*map(float, re.findall(r"-?\d+\.\d+", re.search(r' d="([^"]+)"', svg)[1]))]
        return (left, top, left + width, top + height), numbers[::2], numbers[1::2]

    for latex in (r"p_t", r"\frac{1}{2}", r"e^{x}"):
        (left, top, right, bottom), x, y = box_and_strokes(latex)
        assert left - 0.1 <= min(x) and max(x) <= right + 0.1 and top - 0.1 <= min(y) and max(y) <= bottom + 0.1
    (_, _, _, plain), *_ = box_and_strokes("x")
    assert box_and_strokes("x_x")[0][3] > plain + 1 and box_and_strokes("x^x")[0][3] == pytest.approx(plain, abs=0.1)


# --- the course kit --------------------------------------------------------------------------------------------------


def test_the_instructors_page_has_all_that_the_checks_know(course):
    from kdpl_utils import checks

    page = course.instructor_page()
    for exercise in checks.EXERCISES.values():
        assert f"**Exercise `{exercise.name}`**, about {exercise.minutes} minutes" in page
        assert [m.sentence for m in exercise.mutants.values() if m.sentence not in page] == []
    for lesson in course.all_lessons():
        assert f"## {lesson.title}" in page
        for cell in lesson.cells:
            if cell.part in ("solution", "instructor"):
                assert cell.text in page, cell.id
        asked = sum(cell.part == "predict" for cell in lesson.cells)
        assert course.lesson_text(lesson).count("\n* ") == asked, lesson.number


def test_the_instructors_page_says_what_a_run_measured(course):
    """From the outputs of an executed lesson, where there is one."""
    (lesson,) = (lesson for lesson in course.all_lessons() if lesson.number == "09")
    said = {
        "09-broken-run": "first this\nmeasured 3 % (you made no prediction)\nand more\n",
        "09-verdict": "T = 4, H: -1.0 [-2.0, -0.5] over 5 seeds: lower.\n○ perturb: no\n0 of 1 exercises are yours\n",
    }
    cells = []
    for cell in lesson.cells:
        outputs = [new_output("stream", text=said[cell.id])] if cell.id in said else []
        cells.append(new_code_cell(cell.text, id=cell.id, outputs=outputs))
    text = course.lesson_text(lesson, new_notebook(cells=cells))
    assert "change the first answer? *measured 3 %*\n" in text
    assert (
        "What a run says of the claims</summary>\n\n```\nT = 4, H: -1.0 [-2.0, -0.5] over 5 seeds: lower.\n```" in text
    )
    assert text.count("*measured") == 1 and "*measured" not in course.lesson_text(lesson)


def test_each_lesson_says_its_minutes(course):
    minutes = {lesson.number: lesson.minutes for lesson in course.all_lessons()}
    assert len(minutes) == 12 and all(15 <= value <= 90 for value in minutes.values())
    assert minutes["04"] == 45 + 35


def test_the_packings_fit_and_stop_at_headings(course):
    lessons = {lesson.number: lesson for lesson in course.all_lessons()}
    for parts, whole in ((course.LAB, course.LAB_MINUTES), (course.HALF_DAY, course.HALF_DAY_MINUTES)):
        assert 0 < whole - sum(part.minutes for part in parts) <= whole / 10, "time for questions is left, and not more"
        for part in parts:
            lesson = lessons[part.lesson]
            assert part.minutes <= lesson.minutes and (not part.until or part.until in lesson.headings), part
            solved = {course.lessons.name_of(cell) for cell in lesson.cells if cell.part == "solution"}
            assert set(part.without) <= solved, part
        shown = re.findall(r"^\| (\d+) \|", course.packing_table(parts, whole), re.MULTILINE)
        assert [*map(int, shown[:-1])] == [part.minutes for part in parts] and sum(map(int, shown)) == whole
    assert [part.lesson for part in course.LAB] == ["01", "03", "04", "05"]
    assert [part.lesson for part in course.HALF_DAY] == [f"{i:02}" for i in range(8)]
    assert sorted(sum(course.WEEK.values(), ())) == sorted(lessons)


def test_the_glossary_page_has_every_term_and_real_names(course):
    import kdpl_utils as kd

    page = course.glossary_page()
    (start,) = (lesson for lesson in course.all_lessons() if lesson.number == "00")
    rows = [
        line for cell in start.cells if cell.part == "glossary" for line in cell.text.splitlines() if line[:1] == "|"
    ]
    assert len(rows) > 20 and [row for row in rows if row not in page] == []
    functions = ("select_classes", "forward_kl", "reverse_kl", "symmetric_kl", "perturb", "harmonic_mean")
    assert all(f"`{name}`" in course.SYMBOLS and hasattr(kd, name) for name in functions)


def test_handed_in_files_become_a_table(course, tmp_path, monkeypatch, capsys):
    """The page's own code, on two files that ``checks.export`` wrote."""
    from kdpl_utils import checks
    from kdpl_utils.checks import engine, report

    monkeypatch.chdir(tmp_path)
    (tmp_path / "handed-in").mkdir()
    for who, answer in (("Ada", checks.harmonic_mean.right), ("Ben", lambda base, novel: (base + novel) / 2)):
        monkeypatch.setattr(engine, "RECORDS", {})
        monkeypatch.setattr(report, "RECORDS", engine.RECORDS)
        checks.harmonic_mean(answer)
        checks.export(f"handed-in/{who}.json", who=who)
    capsys.readouterr()
    shown, collected = re.findall(r"```python\n(.*?)```", course.HAND_IN, re.DOTALL)
    exec(shown, {"checks": checks})
    assert (tmp_path / "lesson-05-ada.json").exists()
    exec(collected, {})
    out = capsys.readouterr().out
    assert "harmonic_mean" in out and "arithmetic mean" in out and "1.0" in out


def test_a_problem_is_reported_with_lesson_and_version(course):
    import kdpl_utils as kd

    page = course.with_links(notebook(), "01_zero_shot", "owner/repo").cells[-1]
    assert page.id == "01-links"
    (link,) = re.findall(r"\((https://github.com/\S+)\)", page.source)
    address = urllib.parse.urlsplit(link)
    fields = urllib.parse.parse_qs(address.query)
    assert address.path == "/owner/repo/issues/new" and fields["title"] == ["Lesson 01: "]
    assert f"Lesson: 01_zero_shot\nkdpl_utils: {kd.__version__}" in fields["body"][0]
    assert "https://colab.research.google.com/github/owner/repo/blob/main/notebooks/01_zero_shot.ipynb" in page.source
    nowhere = course.with_links(notebook(), "01_zero_shot", None).cells[-1].source
    assert "https://" not in nowhere and nowhere.count("{download}") == 2


def test_the_kit_is_written_with_the_notebooks_it_offers(course, tmp_path):
    pages = course.write_course(tmp_path, {})
    assert pages == ["course/instructor", "course/packings", "course/glossary"]
    stems = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    for which in ("solved", "instructor"):
        made = {path.stem: path for path in (tmp_path / "downloads" / which).glob("*.ipynb")}
        assert set(made) == stems
        assert not any("..." in cell.source for cell in nbformat.read(made["05_kdpl"], 4).cells if cell.id == "05-kdpl")
    for page in pages:
        text = (tmp_path / f"{page}.md").read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https)([^)#]+)\)|<(\.\./downloads/[^>]+)>", text):
            path = (tmp_path / "course" / "".join(target)).resolve()
            assert path.exists() or path.stem in stems and path.parent.name == "notebooks", path
