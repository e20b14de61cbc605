"""Where a progress bar is shown."""

from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from kdpl_utils.support.progress import progress_bar

SETTINGS = {"desc": "steps", "delay": 0, "leave": True}


def test_a_program_shows_it_beside_its_results(capsys):
    assert list(progress_bar(range(3), **SETTINGS)) == [0, 1, 2]
    captured = capsys.readouterr()
    assert "steps: 100%" in captured.err and captured.out == ""


def test_a_notebook_shows_it_among_what_a_cell_prints():
    source = "from kdpl_utils.support.progress import progress_bar\n"
    cell = new_code_cell(source + f"for _ in progress_bar(range(3), **{SETTINGS}): pass")
    notebook = new_notebook(cells=[cell])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert {output["name"] for output in outputs} == {"stdout"}
    assert "steps: 100%" in "".join(output["text"] for output in outputs)
