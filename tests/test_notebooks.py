"""The notebooks as files: without outputs, in one form, with one first cell.  That they run is tested by nbmake."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_twelve():
    assert len(NOTEBOOKS) == 12


@each
def test_is_in_jupyters_form_without_traces_of_a_run(path):
    """What Jupyter itself writes: no diff without a change."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n", f"rewrite {path.name} with nbformat"
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code(path)), "clear the outputs"
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "accelerator", "colab"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.get("language_info", {})


@each
def test_cell_ids_stay(path):
    """The notebook's number and a word, 03-words; Jupyter's own are random."""
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if not re.fullmatch(path.name[:2] + "-[a-z0-9-]+", i)] == []


@each
def test_title_and_headings(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)]
    assert levels.count(1) == 1, "one title"
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:])), "a level of headings is skipped"


@each
def test_first_code_cell_is_everybodys(path):
    first = code(path)[0].source
    assert first == code(NOTEBOOKS[0])[0].source and len(first.splitlines()) <= 5
