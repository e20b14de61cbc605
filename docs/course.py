"""Write the course kit: pages for teachers, made from the lessons' sources, their checks and docs/course/."""

from __future__ import annotations

import re
import runpy
import shutil
import urllib.parse
from pathlib import Path
from types import SimpleNamespace

import nbformat
from nbformat.v4 import new_markdown_cell

from kdpl_utils import __version__

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = {"solved": "the solved notebook", "instructor": "the instructor's notebook"}
lessons = SimpleNamespace(**runpy.run_path(str(ROOT / "notebooks" / "build.py")))


def downloads(stem: str) -> list[str]:
    return [f"{{download}}`{words} <../downloads/{which}/{stem}.ipynb>`" for which, words in VERSIONS.items()]


def without_headings(text: str) -> str:
    return re.sub(r"^#+ .*\n+", "", text, flags=re.MULTILINE).strip()


def exercise_text(solution) -> str:
    """Return an exercise with its effort, its known mistakes and its solution."""
    name = lessons.name_of(solution)
    head = f"**Exercise `{name}`**, {lessons.effort(name).lower()}\n\n{lessons.known_mistakes(name)}"
    expected = lessons.folded("Expected output", lessons.expected_output(name))
    return f"{head}\n\n{expected}\n{lessons.folded('Solution', f'```python{chr(10)}{solution.text}{chr(10)}```')}"


def lesson_text(path: Path) -> str:
    """Return all that an instructor needs of a lesson: objectives, predictions, notes and exercises."""
    cells = lessons.cells_of(path)
    first = {cell.part: without_headings(cell.text) for cell in reversed(cells)}
    effort = " ".join(first["title"].split()).split(" Needs:")[0]
    calls = [cell.text for cell in cells if cell.part == "predict"]
    questions = [re.search(r'predict\(\s*"[^"]+",\s*"([^"]+)"', call)[1] for call in calls]
    parts = [
        f"## {cells[0].text.splitlines()[0].removeprefix('# ')}",
        f"{effort} [The lesson](../notebooks/{path.stem}.ipynb), {', '.join(downloads(path.stem))}.",
        f"### Objectives\n\n{first['objectives']}",
        "### Predictions\n\n" + "\n".join(f"* {question}" for question in questions),
        *(cell.text for cell in cells if cell.part == "instructor"),
        *(exercise_text(cell) for cell in cells if cell.part == "solution"),
        f"### Questions at the end\n\n{first['recap']}",
    ]
    return "\n\n".join(parts)


def instructor_page() -> str:
    control = "A wrong answer never stops a lesson: its check names the mistake, and the library's version is used."
    return "\n\n".join(["# For the instructor", control, *map(lesson_text, lessons.sources())]) + "\n"


def glossary_page() -> str:
    """Return the tables of lesson 00 and the symbols, to print."""
    tables = [cell.text for cell in lessons.cells_of(lessons.sources()[0]) if cell.part == "glossary"]
    tables = [re.sub(r"## Glossary: (.)", lambda found: f"## {found[1].upper()}", table) for table in tables]
    opening = "# Glossary\n\nThe last column names the lesson that explains a term."
    return "\n\n".join([opening, *tables, (ROOT / "docs/course/symbols.md").read_text(encoding="utf-8")])


def with_links(page: nbformat.NotebookNode, stem: str, repository: str | None) -> nbformat.NotebookNode:
    """Add a cell to a lesson's page: other versions, Colab and where to report a problem."""
    links = downloads(stem)
    if repository:
        body = f"Lesson: {stem}\nkdpl_utils: {__version__}\n\nWhat I did, what I expected, what I saw:\n"
        fields = {"title": f"Lesson {stem[:2]}: ", "body": body}
        issue = f"{repository}/issues/new?{urllib.parse.urlencode(fields, quote_via=urllib.parse.quote)}"
        path = urllib.parse.urlsplit(repository).path
        colab = f"https://colab.research.google.com/github{path}/blob/main/notebooks/{stem}.ipynb"
        links += [f"[open in Colab]({colab})", f"[report a problem with this lesson]({issue})"]
    page.cells.append(new_markdown_cell("---\n\nThis lesson: " + " · ".join(links), id=f"{stem[:2]}-links"))
    return page


def write_course(source: Path) -> list[str]:
    """Write the kit into Sphinx's source folder and return its pages."""
    for which in VERSIONS:
        lessons.write(source / "downloads" / which, which)
    shutil.copytree(ROOT / "docs/course", source / "course", ignore=shutil.ignore_patterns("symbols.md"))
    (source / "course/instructor.md").write_text(instructor_page(), encoding="utf-8")
    (source / "course/glossary.md").write_text(glossary_page(), encoding="utf-8")
    return [f"course/{name}" for name in ("instructor", "handing_in", "plans", "glossary")]
