"""The course kit: pages for whoever teaches, made from the lessons' sources and their checks.

Nothing here is written a second time: what is asked, the solutions, the mistakes, minutes and notes come from
notebooks/source/ and ``kdpl_utils.checks``; only the three packings are set below.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.v4 import new_markdown_cell

from kdpl_utils import __version__

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("instructor", "packings", "glossary")
VERSIONS = {"solved": "the solved notebook", "instructor": "the instructor's notebook"}


def _lessons_builder():
    spec = spec_from_file_location("build_lessons", ROOT / "notebooks" / "build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lessons = _lessons_builder()


class Part(NamedTuple):
    """What a packing takes of a lesson."""

    lesson: str  # its number
    minutes: int
    until: str = ""  # the heading before which one stops; the whole lesson where it is empty
    without: tuple[str, ...] = ()  # exercises that are left to the participants


# The rest of the time goes to questions and handing in.
LAB = (
    Part("01", 25, "Where it fails", ("encode_names",)),
    Part("03", 25, "How many labels?", ("harmonic_mean",)),
    Part("04", 10, "Its gradient is a difference", ("forward_kl",)),
    Part("05", 25),
)
HALF_DAY = (
    Part("00", 10, "The map"),
    Part("01", 30, "Where it fails", ("encode_names",)),
    Part("02", 20, "How honest?", ("expected_calibration_error",)),
    Part("03", 30, "How many labels?", ("harmonic_mean",)),
    Part("04", 35, "The bug museum", ("mended",)),
    Part("05", 40),
    Part("06", 30, "", ("selection_recall",)),
    Part("07", 25),
)
WEEK = {
    "first day": ("00", "01", "02"),
    "second day": ("03", "04"),
    "third day": ("05", "06"),
    "fourth day": ("07", "08", "09"),
    "fifth day": ("10", "11"),
}
LAB_MINUTES, HALF_DAY_MINUTES = 90, 240

SYMBOLS = """
| symbol | meaning | in the code |
|---|---|---|
| *N*, *B* | pictures; pictures of a batch | `features` (N, D), `batch` (B,) |
| *C*, *K* | names; names that are kept for a batch | `base_names`, `select_classes` |
| *D* | length of a feature | `encode_images`, `encode_names` |
| *t*, *p*ₜ | the teacher's probabilities | `teacher_logits.softmax(-1)` |
| *s*, *p*ₛ | the student's probabilities | `student_logits.softmax(-1)` |
| KL(*t*‖*s*) | forward KL, weighed by the teacher | `forward_kl` |
| KL(*s*‖*t*) | reverse KL, weighed by the student | `reverse_kl` |
| α | weight of the forward KL; one half is symmetric | `symmetric_kl` |
| *T* | temperature | `perturb` |
| *H* | harmonic mean of base and novel | `harmonic_mean` |
"""

HAND_IN = """
## Handing in

The last sentence of a lesson is that of `checks.summary()`. In one more cell, participants write the same as a file and
hand it in:

```python
checks.export("lesson-05-ada.json", who="Ada")
```

It holds, for each exercise, how it stands, the number of attempts, the deepest hint asked for and the last mistake that
was recognised, and each prediction beside what was measured. Files of a whole group become one table:

```python
import json
from pathlib import Path

import pandas as pd

rows = []
for path in sorted(Path("handed-in").glob("*.json")):
    report = json.loads(path.read_text(encoding="utf-8"))
    for name, exercise in report["exercises"].items():
        rows.append({"who": report["who"], "exercise": name, **exercise})
table = pd.DataFrame(rows)
print(table.groupby("exercise")[["attempts", "hints"]].mean())
print(table.groupby("exercise")["mistake"].value_counts())
```

The file is plain text that its owner can change: it shows where a group struggles and is no examination.
"""


class Lesson(NamedTuple):
    number: str
    stem: str
    cells: list

    def text(self, part: str) -> str:
        """The first cell of a part, without its heading."""
        found = next((cell.text for cell in self.cells if cell.part == part), "")
        return re.sub(r"^#+ .*\n+", "", found)

    @property
    def title(self) -> str:
        return re.search(r"^# (.+)$", self.cells[0].text, re.MULTILINE)[1]

    @property
    def effort(self) -> str:
        """The sentence about minutes, without what is needed before."""
        sentence = " ".join(self.text("title").split())
        return sentence.split(" Needs:")[0]

    @property
    def minutes(self) -> int:
        """To read and run, and for the exercises, as the title says."""
        return sum(int(n) for n in re.findall(r"(\d+)(?= minutes to read| for the exercise)", self.effort))

    @property
    def headings(self) -> list[str]:
        text = "\n".join(cell.text for cell in self.cells if cell.is_markdown)
        return re.findall(r"^## (.+)$", text, re.MULTILINE)


def all_lessons() -> list[Lesson]:
    return [Lesson(path.name[:2], path.stem, lessons.cells_of(path)) for path in lessons.sources()]


# --- the instructor's page -------------------------------------------------------------------------------------------


def exercise_text(solution) -> str:
    """An exercise with its effort, its known mistakes and its solution."""
    name = lessons.name_of(solution)
    expected = lessons.folded("Expected output", lessons.expected_output(name))
    solved = lessons.folded("Solution", f"```python\n{solution.text}\n```")
    head = f"**Exercise `{name}`**, {lessons.effort(name).lower()}"
    return f"{head}\n\n{lessons.known_mistakes(name)}\n\n{expected}\n{solved}"


def printed(cell: nbformat.NotebookNode) -> list[str]:
    """The lines that a cell printed when it ran."""
    return "".join(output.get("text", "") for output in cell.get("outputs", [])).splitlines()


def measured_of(prediction: str, executed: nbformat.NotebookNode | None) -> str:
    """What a run measured for a prediction, by its name in the lesson; "" where nothing was run."""
    for cell in executed.cells if executed else []:
        if f"{prediction}.measured(" in cell.source:
            lines = [line for line in printed(cell) if line.startswith("measured ")]
            return lines[0].removesuffix(" (you made no prediction)") if lines else ""
    return ""


def verdict_of(lesson: Lesson, executed: nbformat.NotebookNode | None) -> str:
    """The sentences about the claims as a run printed them, folded; without those about exercises."""
    verdicts = [cell.id for cell in lesson.cells if cell.part == "verdict"]
    lines = []
    for cell in executed.cells if executed else []:
        if cell.get("id") in verdicts:
            lines += [line for line in printed(cell) if "exercise" not in line and line[:1] not in ("✓", "○")]
    return lessons.folded("What a run says of the claims", "```\n" + "\n".join(lines) + "\n```") if lines else ""


def lesson_text(lesson: Lesson, executed: nbformat.NotebookNode | None = None) -> str:
    """All that an instructor needs of a lesson, on one page; with a run of it also what came out."""
    questions = []
    for cell in lesson.cells:
        if cell.part == "predict":
            call = re.search(r'predict\(\s*"[^"]+",\s*"([^"]+)"', cell.text)
            measured = measured_of(cell.text.splitlines()[-1], executed)
            questions.append(f"* {call[1]}" + (f" *{measured}*" if measured else ""))
    notes = [cell.text for cell in lesson.cells if cell.part == "instructor"]
    exercises = [exercise_text(cell) for cell in lesson.cells if cell.part == "solution"]
    downloads = ", ".join(
        f"{{download}}`{words} <../downloads/{which}/{lesson.stem}.ipynb>`" for which, words in VERSIONS.items()
    )
    recap = without_headings(lesson.text("recap"))
    parts = [
        f"## {lesson.title}",
        f"{lesson.effort} [The lesson](../notebooks/{lesson.stem}.ipynb), {downloads}.",
        "### What is asked",
        without_headings(lesson.text("objectives")),
        verdict_of(lesson, executed),
        "Predictions, each before the cell that measures it:\n\n" + "\n".join(questions),
        *notes,
        *exercises,
        "### Questions at the end",
        recap,
    ]
    return "\n\n".join(part for part in parts if part)


def without_headings(text: str) -> str:
    return re.sub(r"^#+ .*\n+", "", text, flags=re.MULTILINE).strip()


def instructor_page(executed: Mapping[str, nbformat.NotebookNode] | None = None) -> str:
    """A section for each lesson; ``executed`` maps its number to a run of it."""
    executed = executed or {}
    opening = """# For the instructor

What each lesson asks, the expected answers, the misconceptions that its checks recognise, minutes and stopping points.
It is made from the lessons themselves, so it cannot lag behind them. A wrong answer never stops a lesson: its check
says which mistake it is, and the lesson goes on with the library's version.
"""
    sections = [lesson_text(lesson, executed.get(lesson.number)) for lesson in all_lessons()]
    return opening + HAND_IN + "\n" + "\n\n".join(sections) + "\n"


# --- packings --------------------------------------------------------------------------------------------------------


def packing_table(parts: tuple[Part, ...], whole: int) -> str:
    of = {lesson.number: lesson for lesson in all_lessons()}
    rows = ["| minutes | lesson | until | left to the participants |", "|---|---|---|---|"]
    for part in parts:
        lesson = of[part.lesson]
        until = f"before “{part.until}”" if part.until else "the end"
        without = ", ".join(f"`{name}`" for name in part.without) or "–"
        rows.append(f"| {part.minutes} | [{lesson.title}](../notebooks/{lesson.stem}.ipynb) | {until} | {without} |")
    rows.append(f"| {whole - sum(part.minutes for part in parts)} | questions, handing in | | |")
    return "\n".join(rows)


def week_table() -> str:
    of = {lesson.number: lesson for lesson in all_lessons()}
    rows = ["| day | lessons | minutes, exercises included |", "|---|---|---|"]
    for day, numbers in WEEK.items():
        titles = "; ".join(f"[{of[n].title}](../notebooks/{of[n].stem}.ipynb)" for n in numbers)
        rows.append(f"| {day} | {titles} | {sum(of[n].minutes for n in numbers)} |")
    return "\n".join(rows)


def packings_page() -> str:
    return f"""# Three packings

The lessons are cut so that they can be taught in three ways. Whoever skips a part loses no later cell: an exercise that
is left empty runs on the library's version, and each lesson computes what it needs itself. Let everybody set up and
open lesson 00 the day before: that fetches the environment, and nothing is fetched afterwards.

## A lab of {LAB_MINUTES} minutes

Zero-shot, learned words, how far apart two distributions are, learning without labels. The part of lesson 04 is a
primer on the KL; its exercise is left out.

{packing_table(LAB, LAB_MINUTES)}

## Half a day

From the start to a comparison that was written down before it was run. Minutes are for teaching with the exercises that
are not left out; {HALF_DAY_MINUTES} in all, breaks not counted.

{packing_table(HALF_DAY, HALF_DAY_MINUTES)}

## A seminar week

All lessons with all exercises. On the last day participants bring a folder of pictures of their own, and present its
model card.

{week_table()}
"""


# --- the glossary ----------------------------------------------------------------------------------------------------


def glossary_page() -> str:
    """The tables of lesson 00, and the symbols."""
    (start,) = (lesson for lesson in all_lessons() if lesson.number == "00")
    tables = [cell.text for cell in start.cells if cell.part == "glossary"]
    return "# Glossary\n\nMade to be printed. " + "\n\n".join(
        [
            "The last column says which lesson explains a term.",
            *(re.sub(r"## Glossary: (.)", lambda found: f"## {found[1].upper()}", table).strip() for table in tables),
            "## Symbols",
            SYMBOLS.strip(),
        ]
    )


# --- links below a lesson, and all of it written ---------------------------------------------------------------------


def report_link(repository: str, stem: str) -> str:
    """An issue with lesson and version filled in."""
    title = f"Lesson {stem[:2]}: "
    body = f"Lesson: {stem}\nkdpl_utils: {__version__}\n\nWhat I did, what I expected, what I saw:\n"
    query = urllib.parse.urlencode({"title": title, "body": body}, quote_via=urllib.parse.quote)
    return f"https://github.com/{repository}/issues/new?{query}"


def colab_link(repository: str, stem: str) -> str:
    return f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{stem}.ipynb"


def with_links(page: nbformat.NotebookNode, stem: str, repository: str | None) -> nbformat.NotebookNode:
    """A lesson's page with what lies beside it: other versions, Colab, and where to report a problem."""
    links = [f"{{download}}`{words} <../downloads/{which}/{stem}.ipynb>`" for which, words in VERSIONS.items()]
    if repository:
        links.append(f"[open in Colab]({colab_link(repository, stem)})")
        links.append(f"[report a problem with this lesson]({report_link(repository, stem)})")
    page.cells.append(new_markdown_cell("---\n\nBeside this lesson: " + " · ".join(links), id=f"{stem[:2]}-links"))
    return page


def write_course(source: Path, executed: Mapping[str, nbformat.NotebookNode]) -> list[str]:
    """The kit's pages and notebooks in a folder of Sphinx's; returns the pages' names for its table of contents.

    ``executed`` maps the number of a lesson to a run of it.
    """
    for which in VERSIONS:
        lessons.write(source / "downloads" / which, which)
    folder = source / "course"
    folder.mkdir(parents=True, exist_ok=True)
    made = {"instructor": instructor_page(executed), "packings": packings_page(), "glossary": glossary_page()}
    for name in PAGES:
        (folder / f"{name}.md").write_text(made[name], encoding="utf-8")
    return [f"course/{name}" for name in PAGES]
