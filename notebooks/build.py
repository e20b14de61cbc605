#!/usr/bin/env python3
"""One source for each lesson, three notebooks: the learner's, the solved one, the instructor's.

    python3 notebooks/build.py                       write the learners' notebooks into notebooks/
    python3 notebooks/build.py --check               say which of them are not what their source gives
    python3 notebooks/build.py --solved FOLDER       the same lessons with every exercise solved
    python3 notebooks/build.py --instructor FOLDER   solved, with notes and the mistakes that each check knows

A source is Python in the percent format, which ruff formats and a diff shows line by line.  A cell begins with

    # %% 04-kl (exercise)            or            # %% [markdown] 04-kl-why (why)

its id and its part in the lesson (tests/test_lessons.py holds the grammar).  The text of a markdown cell is a string.
Behind an ``exercise`` stands its ``solution``; the learner finds it folded, with the hints and the expected output
of ``kdpl_utils.checks``.
Needs the environment of run.py.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from kdpl_utils import checks
from kdpl_utils.checks.engine import SENTENCES as CHECKS_SENTENCES
from kdpl_utils.checks.outcomes import short

HERE = Path(__file__).resolve().parent
HEADER = re.compile(r"^# %%( \[markdown\])? (\d\d-[a-z0-9-]+) \(([a-z-]+)\)$", re.MULTILINE)
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SENTENCES = CHECKS_SENTENCES["exercises"]
EFFORT = {  # of each exercise the minutes, and its importance of 3
    "harmonic_mean": (3, 1),
    "encode_names": (8, 2),
    "logits": (5, 3),
    "expected_calibration_error": (10, 2),
    "splice_context": (8, 3),
    "forward_kl": (10, 3),
    "bug_museum": (8, 2),
    "mended": (5, 2),
    "kdpl": (5, 3),
    "select_classes": (5, 3),
    "selection_recall": (5, 1),
    "paired_interval": (10, 3),
    "perturb": (5, 2),
    "nearest_names": (5, 1),
}
VERSIONS = ("student", "solved", "instructor", "wrong")


class Cell(NamedTuple):
    id: str
    part: str
    text: str
    is_markdown: bool


def sources() -> list[Path]:
    return sorted((HERE / "source").glob("[0-9]*.py"))


def cells_of(path: Path) -> list[Cell]:
    """The cells of a source.

    Raises:
        ValueError: something stands before the first cell, or a markdown cell is no single string.
    """
    pieces = HEADER.split(path.read_text(encoding="utf-8"))
    if pieces[0].strip():
        raise ValueError(f"{path.name} does not begin with a cell such as '# %% [markdown] 04-title (title)'.")
    cells = []
    for i in range(1, len(pieces), 4):
        markdown, cell_id, part, text = pieces[i : i + 4]
        if "\n# %%" in text:
            raise ValueError(f"{path.name}: a header behind {cell_id} has no id or no part: # %% 04-name (part).")
        if markdown:
            try:
                text = ast.literal_eval(text.strip())
            except (SyntaxError, ValueError):
                raise ValueError(f"{path.name}: the markdown of {cell_id} is not one string.") from None
        cells.append(Cell(cell_id, part, text.strip(), bool(markdown)))
    return cells


def name_of(cell: Cell) -> str | None:
    """Return what a cell asks ``checks`` to look at: an exercise's name, or "bug_museum"."""
    names = [name for name in re.findall(r"checks\.(\w+)\(", cell.text) if name in EFFORT]
    return names[-1] if names else None


def exercise_of(cell: Cell) -> checks.Exercise | None:
    return checks.EXERCISES.get(name_of(cell))


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def help_for(name: str, solution: Cell) -> str:
    """Return the expected output, the hints and the solution, each folded."""
    parts = {"Expected output": f"On what the check tries it with:\n\n{expected_output(name)}"}
    if name in checks.EXERCISES:
        parts["Expected output"] += f"\n\n`checks.{name}.probes()` are the arguments, a tuple for each line."
    parts |= {f"Hint {i}": hint for i, hint in enumerate(SENTENCES[name]["hints"], 1)}
    parts["Solution"] = f"```python\n{solution.text}\n```"
    return "\n".join(folded(summary, text) for summary, text in parts.items())


def effort(name: str) -> str:
    minutes, importance = EFFORT[name]
    return f"About {minutes} minutes · importance {'●' * importance + '○' * (3 - importance)}"


def known_mistakes(name: str) -> str:
    """Return a table of the mistakes and the sentences that a learner reads."""
    sentences = SENTENCES[name]["mistakes"]
    if name == "bug_museum":
        sentences = {bug: f"if it were this one, {text['curve']}." for bug, text in sentences.items()}
    rows = [f"| {mistake} | {sentence} |" for mistake, sentence in sentences.items()]
    return "\n".join(["| mistake | what the learner reads |", "|---|---|", *rows])


def expected_output(name: str) -> str:
    """Return what the library's version gives on the check's probes, as a block."""
    if name == "bug_museum":
        lines = [f"✓ {letter}: <the name>. Published: <an address>" for letter in checks.EXHIBITS]
        return "```\n" + "\n".join(lines) + "\n```"
    exercise = checks.EXERCISES[name]
    lines = []
    for probe, outcome in zip(exercise.probes(), exercise.outcomes(exercise.right)[0]):
        lines.append(f"{name}({', '.join(short(argument, 3) for argument in probe)})  →  {short(outcome, 3)}")
    return "```\n" + "\n".join(lines) + "\n```"


def wrong_answer(name: str) -> str:
    """Return an exercise cell filled with the first mistake that its check knows, as if it had been typed there."""
    mistake = next(iter(checks.EXERCISES[name].mistakes))
    return f"""from kdpl_utils.checks.outcomes import rebound

{name} = checks.{name}(rebound(checks.{name}.mistakes[{mistake!r}], globals()))"""


def version(cells: list[Cell], which: str) -> list[Cell]:
    """The cells of one of ``VERSIONS``; "wrong" has a mistake in every exercise."""
    made = []
    for i, cell in enumerate(cells):
        following = cells[i + 1] if i + 1 < len(cells) else None
        if cell.part == "task":
            made.append(cell._replace(text=f"{cell.text}\n\n*{effort(name_of(following))}*"))
        elif cell.part == "exercise":
            made += exercise_cells(cell, following, which)
        elif cell.part == "instructor":
            made += [cell] if which == "instructor" else []
        elif cell.part != "solution":
            made.append(cell)
    return made


def exercise_cells(cell: Cell, solution: Cell, which: str) -> list[Cell]:
    exercise = exercise_of(cell)
    if which == "student":
        return [cell, Cell(f"{cell.id}-help", "help", help_for(name_of(cell), solution), True)]
    if which == "wrong":
        return [cell if exercise is None else cell._replace(text=wrong_answer(exercise.name))]
    made = [cell._replace(text=solution.text)]
    if which == "instructor" and exercise:
        table = f"**Mistakes that the check knows**\n\n{known_mistakes(exercise.name)}"
        made.append(Cell(f"{cell.id}-mistakes", "mistakes", table, True))
    return made


def notebook(path: Path, which: str = "student") -> nbformat.NotebookNode:
    """The notebook that a source gives."""
    made = []
    for cell in version(cells_of(path), which):
        new_cell = new_markdown_cell if cell.is_markdown else new_code_cell
        made.append(new_cell(cell.text, id=cell.id, metadata={"tags": [cell.part]}))
    return new_notebook(cells=made, metadata=KERNEL)


def text_of(path: Path, which: str = "student") -> str:
    """The notebook as Jupyter itself writes it."""
    return nbformat.writes(notebook(path, which)) + "\n"


def was_run(path: Path) -> bool:
    """Whether somebody has worked in a notebook: those that are written here have no outputs."""
    if not path.is_file():
        return False
    cells = nbformat.read(path, as_version=4).cells
    return any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def write(folder: Path, which: str) -> list[Path]:
    """Write one version of every lesson.

    Raises:
        FileExistsError: a notebook there was worked in, and what was typed would be lost; nothing is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    worked_in = [path.stem for path in sources() if was_run(folder / f"{path.stem}.ipynb")]
    if worked_in:
        raise FileExistsError(
            f"Somebody has worked in {', '.join(worked_in)} in {folder}: move what is to be kept away, or clear the "
            "outputs of the rest."
        )
    written = []
    for path in sources():
        target = folder / f"{path.stem}.ipynb"
        target.write_text(text_of(path, which), encoding="utf-8")
        written.append(target)
    return written


def differing() -> list[str]:
    """Learners' notebooks that are not what their source gives."""
    names = []
    for path in sources():
        target = HERE / f"{path.stem}.ipynb"
        if not target.exists() or target.read_text(encoding="utf-8") != text_of(path):
            names.append(target.name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    parser.add_argument("--solved", type=Path, metavar="FOLDER", help="write the solved notebooks there")
    parser.add_argument("--instructor", type=Path, metavar="FOLDER", help="write the instructor's notebooks there")
    options = parser.parse_args()
    if options.check:
        names = differing()
        if names:
            sys.exit(f"Not what the source gives: {', '.join(names)}. Run python3 notebooks/build.py.")
        return
    for which in ("solved", "instructor"):
        folder = getattr(options, which)
        if folder is not None:
            print(*write(folder, which), sep="\n")
    if options.solved is None and options.instructor is None:
        print(*write(HERE, "student"), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except FileExistsError as error:
        sys.exit(str(error))
