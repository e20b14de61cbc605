"""Lessons: three notebooks from one source, whose exercises are solved, whose mistakes are named, and which run."""

import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
MOST_LINES = 20


def _build():
    spec = spec_from_file_location("build_lessons", NOTEBOOKS / "build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = _build()
SOURCES = build.sources()
each = pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])


def learner_cells(path: Path) -> list:
    return build.version(build.cells_of(path), "student")


def prose(text: str) -> str:
    """What a reader reads as running text: without code, formulas, addresses, tables, headings."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|<details>.*?</details>", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", " ", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"^(\||#).*$", " ", text, flags=re.MULTILINE)


# --- one source -----------------------------------------------------------------------------------------------------


def test_notebooks_are_what_their_sources_give():
    assert build.differing() == [], "run python3 notebooks/build.py"


def test_a_difference_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "HERE", tmp_path)
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "09_x.py"
    source.write_text('# %% [markdown] 09-title (title)\nr"""\n# 09\n"""\n\n# %% 09-a (run)\nx = 1\n')
    assert build.differing() == ["09_x.ipynb"]
    build.write(tmp_path, "student")
    assert build.differing() == []
    source.write_text(source.read_text().replace("x = 1", "x = 2"))
    assert build.differing() == ["09_x.ipynb"]


def test_a_notebook_that_was_worked_in_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "sources", lambda: SOURCES[:1])
    (path,) = build.write(tmp_path, "student")
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = 1
    nbformat.write(notebook, path)
    with pytest.raises(FileExistsError, match=path.stem):
        build.write(tmp_path, "student")


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("x = 1\n# %% 09-a (run)\n", "does not begin with a cell"),
        ("# %% 09-a (run)\nx = 1\n# %% no part\n", "a header behind 09-a has no id or no part"),
        ("# %% [markdown] 09-a (why)\n# words\n", "the markdown of 09-a is not one string"),
    ],
)
def test_a_broken_source_is_refused(tmp_path, text, sentence):
    (tmp_path / "09.py").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        build.cells_of(tmp_path / "09.py")


@each
def test_versions_differ_in_exercises_alone(path):
    source = build.cells_of(path)
    kept = [cell for cell in source if cell.part not in ("task", "exercise", "solution", "instructor")]
    for which in build.VERSIONS:
        made = build.version(source, which)
        ours = [c for c in made if c.part not in ("task", "exercise", "help", "instructor", "mistakes")]
        assert ours == kept, which
    assert not any(cell.part in ("solution", "instructor") for cell in learner_cells(path))


# --- exercises ------------------------------------------------------------------------------------------------------


@each
def test_an_exercise_has_a_task_before_it_and_help_behind_it(path):
    source, cells = build.cells_of(path), learner_cells(path)
    exercises = [i for i, cell in enumerate(source) if cell.part == "exercise"]
    assert sum(cell.part == "solution" for cell in source) == len(exercises)
    for i in exercises:
        name, solution = build.name_of(source[i]), source[i + 1]
        assert source[i - 1].part == "task" and solution.part == "solution", source[i].id
        task, _, help_cell = cells[[cell.id for cell in cells].index(source[i].id) - 1 :][:3]
        assert build.effort(name) in task.text and help_cell.part == "help"
        assert build.expected_output(name) in help_cell.text and solution.text in help_cell.text
        assert len(re.findall("<details><summary>Hint", help_cell.text)) >= 2


@each
def test_solutions_are_right_and_exercises_empty(path, capsys):
    """The solution of each exercise passes its check, and its first cell is not attempted."""
    import torch

    import kdpl_utils as kd

    for cell in build.cells_of(path):
        if cell.part in ("exercise", "solution"):
            exec(cell.text, {"torch": torch, "kd": kd, "checks": kd.checks})
            told = capsys.readouterr().out
            marks = {line[0] for line in told.splitlines()}
            assert marks == {"○" if cell.part == "exercise" else "✓"}, told


@each
def test_a_wrong_answer_typed_into_a_lesson_is_named(path, capsys):
    from kdpl_utils import checks

    for cell in build.version(build.cells_of(path), "wrong"):
        exercise = build.exercise_of(cell) if cell.part == "exercise" else None
        if exercise:
            exec(cell.text, {"checks": checks})
            assert f"✗ {exercise.name}: {exercise.known_mistakes[0].sentence}" in capsys.readouterr().out


def test_every_exercise_has_a_place_and_an_effort():
    from kdpl_utils import checks

    placed = {build.name_of(cell) for path in SOURCES for cell in build.cells_of(path) if cell.part == "exercise"}
    assert placed == set(build.EFFORT) == {*checks.EXERCISES, "bug_museum"}


def test_the_instructors_notebook_tells_the_known_mistakes():
    (path,) = (p for p in SOURCES if p.stem.startswith("04"))
    text = build.text_of(path, "instructor")
    assert "Mistakes that the check knows" in text and "arguments swapped" in text
    assert "For the instructor" in text and "For the instructor" not in build.text_of(path)


@each
def test_an_instructor_stops_in_front_of_a_heading(path):
    source = build.cells_of(path)
    notes = " ".join("\n".join(cell.text for cell in source if cell.part == "instructor").split())
    headings = re.findall(r"^## (.+)$", "\n".join(c.text for c in source if c.is_markdown), re.MULTILINE)
    stops = re.findall(r"Stopping point\*\* before “(.+?)”", notes)
    assert stops and set(stops) <= set(headings)


def test_the_twelve_questions_have_twelve_answers():
    texts = {path.name[:2]: path.read_text(encoding="utf-8") for path in SOURCES}
    asked = texts["00"].split("## Twelve questions")[1].split("## Try it yourself")[0]
    answered = texts["11"].split("## Twelve answers")[1].split("</details>")[0]
    twelve = [str(i) for i in range(1, 13)]
    assert re.findall(r"^(\d+)\. .+\?", asked, re.MULTILINE) == twelve
    assert re.findall(r"^(\d+)\. .+", answered, re.MULTILINE) == twelve


# --- form -----------------------------------------------------------------------------------------------------------


@each
def test_cells_of_code_are_short(path):
    cells = [cell for which in ("student", "solved") for cell in build.version(build.cells_of(path), which)]
    lines = {cell.id: len(cell.text.splitlines()) for cell in cells if not cell.is_markdown}
    assert {cell_id: n for cell_id, n in lines.items() if n > MOST_LINES} == {}


@each
def test_a_prediction_is_asked_before_it_is_measured(path):
    cells = learner_cells(path)
    for i, cell in enumerate(cells):
        if cell.part == "predict":
            name = cell.text.splitlines()[-1]
            measured = [k for k, other in enumerate(cells) if f"{name}.measured(" in other.text]
            assert measured and min(measured) > i, f"{cell.id}: {name}.measured(…) has to follow"


@each
def test_an_explorer_comes_with_moves(path):
    cells = learner_cells(path)
    for cell, following in zip(cells, cells[1:]):
        if cell.part == "widget":
            assert following.part == "moves" and len(re.findall(r"^\d\. ", following.text, re.MULTILINE)) >= 2


@each
def test_links_lead_somewhere(path):
    for cell in learner_cells(path):
        for link in re.findall(r"\]\(([^)]+)\)", cell.text) if cell.is_markdown else []:
            if not link.startswith("https://"):
                assert (NOTEBOOKS / link.split("#")[0]).exists(), f"{cell.id}: {link}"


# --- terms ----------------------------------------------------------------------------------------------------------


def glossary() -> dict[str, str]:
    """Each term of lesson 00's tables and the lesson that explains it."""
    rows = [line for cell in build.cells_of(SOURCES[0]) if cell.part == "glossary" for line in cell.text.splitlines()]
    cells = [[part.strip() for part in row.strip("|").split("|")] for row in rows if row.startswith("|")]
    return {name: row[3] for row in cells if re.fullmatch(r"\d\d", row[3]) for name in row[0].split(", ")}


def test_the_glossarys_code_names_exist():
    import kdpl_utils as kd

    text = "\n".join(cell.text for cell in build.cells_of(SOURCES[0]) if cell.part == "glossary")
    names = re.findall(r"`([a-z_]+)`", text)
    assert names and [name for name in names if not hasattr(kd, name)] == []


@each
def test_terms_are_explained_where_they_first_appear(path):
    """In the lesson that explains a term, its first use is bold; an earlier lesson does without it."""
    number = path.name[:2]
    cells = [cell for cell in learner_cells(path) if cell.is_markdown and cell.part not in ("glossary", "help", "next")]
    text = "\n".join(prose(cell.text) for cell in cells)
    for term, home in glossary().items():
        first = re.search(rf"(\*\*)?(?<!-)\b{re.escape(term)}s?\b", text)
        if first and home >= number and number != "00":
            assert home == number, f"{term!r} is explained in lesson {home}"
            before = text[max(0, first.start() - 40) : first.end()]
            assert first[1], f"{term!r} is used before it is explained (in bold): {before!r}"


# --- the whole course, in short -------------------------------------------------------------------------------------

# What a lesson repeats is repeated less, on fewer views of the same drawings; nothing else is changed.
FEWER_PICTURES = """
from kdpl_utils.worlds import emoji

emoji.TEST_PICTURES, emoji.TRAIN_VIEWS = 160, 10  # more than 16 shots a class of two styles, than 4 to choose with
"""
SHORT = {
    "Recipe(**world.recipe)": 'Recipe(**{**world.recipe, "epochs": 2})',
    "range(5)": "range(2)",
    "range(5, 10)": "range(5, 7)",
    "for group in GROUPS:": "for group in GROUPS[:3]:",
}


def shortened(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    number = notebook.cells[0].id[:2]
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FEWER_PICTURES, id=f"{number}-short"))
    for cell in notebook.cells:
        for long, short in SHORT.items() if cell.cell_type == "code" else ():
            cell.source = cell.source.replace(long, short)
    return notebook


def test_what_is_shortened_is_there():
    from kdpl_utils.worlds import emoji

    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    assert [long for long in SHORT if not any(long in text for text in texts)] == []
    assert emoji.TEST_PICTURES > 160 and emoji.TRAIN_VIEWS > 10


@pytest.mark.skipif(os.environ.get("KDPL_WHOLE_COURSE") != "1", reason="minutes; KDPL_WHOLE_COURSE=1 runs it")
@pytest.mark.parametrize("which", ["solved", "wrong"])
@each
def test_a_lesson_runs_in_an_empty_folder(path, which, tmp_path):
    """In short, with every exercise solved, and with a mistake in every exercise, which stops nothing."""
    from nbclient import NotebookClient

    from kdpl_utils.widgets import widget_errors

    notebook = shortened(build.notebook(path, which))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    assert widget_errors(notebook) == [] and list(tmp_path.iterdir()) == []
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    exercises = [build.exercise_of(cell) for cell in build.cells_of(path) if cell.part == "exercise"]
    for exercise in filter(None, exercises):
        wrong = f"✗ {exercise.name}: {exercise.known_mistakes[0].sentence}"
        assert (f"✓ {exercise.name}: right" if which == "solved" else wrong) in printed
