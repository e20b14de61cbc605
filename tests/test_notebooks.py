"""The notebooks as files: without outputs, in one form, with one first cell.  That they run is tested by nbmake."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])


def read(path: Path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_is_valid_and_in_canonical_form(path):
    """What Jupyter itself writes: no diff without a change."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4 and notebook.nbformat_minor >= 5  # cells have ids
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n", f"rewrite {path.name} with nbformat"


@each
def test_has_no_traces_of_a_run(path):
    notebook = read(path)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(path)), "clear the outputs"
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "accelerator", "colab"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.get("language_info", {})


@each
def test_cell_ids_stay(path):
    """The notebook's number and a count or a word, 03-07; Jupyter's own are random."""
    ids = [cell.id for cell in read(path).cells]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if not re.fullmatch(path.name[:2] + "-[a-z0-9-]+", i)] == []


@each
def test_title_and_headings(path):
    cells = read(path).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)]
    assert levels.count(1) == 1, "one title"
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:])), "a level of headings is skipped"


@each
def test_first_code_cell_is_everybodys(path):
    first = code(path)[0].source
    assert first == code(NOTEBOOKS[0])[0].source
    assert len(first.splitlines()) <= 5 and not re.search(r"[\w\]]==\d", first)


def test_the_zero_shot_baseline_has_one_sentence():
    """Lesson 01's table and the runs' zero-shot row are one baseline, also on worlds with templates of their own."""
    (path,) = (p for p in NOTEBOOKS if p.stem.startswith("01"))
    table = next(cell.source for cell in code(path) if "zero-shot {role}" in cell.source)
    assert "encode_names(v, n)" in table and "templates" not in table
