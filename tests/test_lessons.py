"""Lessons with a source: three notebooks from one file, in one grammar, that say nothing which no cell computed.

These hold for every file of notebooks/source/.
"""

import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
MOST_LINES, MOST_WORDS = 20, 120
BLOCK = "(why|predict|run|see|task|exercise|help|widget|moves|glossary)"
GRAMMAR = re.compile(
    f"title setup cold-open( setup)? cold-open objectives( {BLOCK})+( results)?( signature)?( verdict)?"
    "( try)+( limits)? recap next"
)


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
def test_the_versions_differ_in_exercises_alone(path):
    source = build.cells_of(path)
    kept = [cell for cell in source if cell.part not in ("task", "exercise", "solution", "instructor")]
    for which in build.VERSIONS:
        made = build.version(source, which)
        ours = [c for c in made if c.part not in ("task", "exercise", "help", "instructor", "mistakes")]
        assert ours == kept, which
    tells = [cell for cell in build.version(source, "student") if cell.part in ("solution", "instructor")]
    assert tells == []


@each
def test_every_exercise_has_a_task_a_solution_and_help(path):
    source = build.cells_of(path)
    for i, cell in enumerate(source):
        if cell.part == "exercise":
            assert source[i - 1].part == "task" and source[i + 1].part == "solution", cell.id
            assert "checks." in cell.text and "..." in cell.text + "..." * ("None" in cell.text)
            help_cell = next(c for c in learner_cells(path) if c.id == f"{cell.id}-help")
            assert source[i + 1].text in help_cell.text
    assert sum(c.part == "solution" for c in source) == sum(c.part == "exercise" for c in source)


FOLDED = ("Expected output", "If the error says “.+”", "Hint 1", "Hint 2", "Solution")


@each
def test_help_is_folded_below_and_effort_stands_beside(path):
    cells = learner_cells(path)
    for i, cell in enumerate(cells):
        if cell.part == "task":
            assert re.search(r"^\*About \d+ minutes · importance [●○]{3}\*$", cell.text, re.MULTILINE), cell.id
            assert cells[i + 1].part == "exercise" and cells[i + 2].part == "help"
        if cell.part == "help":
            summaries = re.findall(r"<details><summary>(.*?)</summary>", cell.text)
            assert len(summaries) == len(FOLDED), cell.id
            assert all(re.fullmatch(form, summary) for form, summary in zip(FOLDED, summaries)), summaries
            expected = checks_of(cell.id.removesuffix("-help"), cells).expected
            assert expected and all(line in cell.text for line in expected)


def checks_of(cell_id: str, cells: list):
    """The help that ``kdpl_utils.checks`` has for the exercise of a cell."""
    from kdpl_utils import checks

    (cell,) = (c for c in cells if c.id == cell_id)
    return checks.help_for(build.name_of(cell))


@each
def test_solutions_are_right_and_exercises_empty(path, capsys):
    import torch

    import kdpl_utils as kd
    from kdpl_utils import checks

    for cell in build.cells_of(path):
        if cell.part in ("exercise", "solution"):
            exec(cell.text, {"kd": kd, "torch": torch, "checks": checks})
            marks = {line[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
            assert marks == ({"○"} if cell.part == "exercise" else {"✓"}), cell.id


@each
def test_wrong_answers_are_named(path, capsys):
    from kdpl_utils import checks

    cells = [c for c in build.version(build.cells_of(path), "wrong") if c.part == "exercise"]
    for cell in cells:
        exec(cell.text, {"checks": checks})
    out = capsys.readouterr().out
    assert out.count("✗") == sum(build.exercise_of(cell) is not None for cell in cells)


def test_the_instructors_notebook_tells_the_known_mistakes():
    (path,) = (p for p in SOURCES if p.stem.startswith("04"))
    text = build.text_of(path, "instructor")
    assert "Mistakes that the check knows" in text and "arguments swapped" in text
    assert "For the instructor" in text and "For the instructor" not in build.text_of(path)


def test_the_twelve_questions_have_twelve_answers():
    texts = {path.name[:2]: path.read_text(encoding="utf-8") for path in SOURCES}
    asked = texts["00"].split("## Twelve questions")[1].split("## Try it yourself")[0]
    answered = texts["11"].split("## Twelve answers")[1].split("</details>")[0]
    twelve = [str(i) for i in range(1, 13)]
    assert re.findall(r"^(\d+)\. .+\?", asked, re.MULTILINE) == twelve
    assert re.findall(r"^(\d+)\. .+", answered, re.MULTILINE) == twelve


@each
def test_an_instructor_knows_where_to_stop(path):
    """In front of a heading that is there."""
    source = build.cells_of(path)
    notes = " ".join("\n".join(cell.text for cell in source if cell.part == "instructor").split())
    headings = re.findall(r"^## (.+)$", "\n".join(c.text for c in source if c.is_markdown), re.MULTILINE)
    stops = re.findall(r"Stopping point\*\* before “(.+?)”", notes)
    assert stops and set(stops) <= set(headings)


# --- the whole course, in short -------------------------------------------------------------------------------------

# What a lesson repeats is repeated less, on fewer views of the same drawings; nothing else is changed.
FEWER_PICTURES = """
from kdpl_utils.worlds import emoji

emoji.TEST_PICTURES, emoji.TRAIN_VIEWS = 100, 10  # for two hands: 16 shots, and some that are left
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


def test_short_lessons_are_shorter():
    """Each lesson that trains with several seeds has something to shorten, and each entry shortens one."""
    texts = {path.name[:2]: path.read_text(encoding="utf-8") for path in SOURCES}
    trains = [number for number, text in texts.items() if "kd.learn(" in text and number != "11"]
    assert len(trains) >= 7
    assert [number for number in trains if not any(long in texts[number] for long in SHORT)] == []
    assert [long for long in SHORT if not any(long in text for text in texts.values())] == []
    from kdpl_utils.worlds import emoji

    assert emoji.TEST_PICTURES > 100 and emoji.TRAIN_VIEWS > 10


def printed(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.skipif(os.environ.get("KDPL_WHOLE_COURSE") != "1", reason="minutes; KDPL_WHOLE_COURSE=1 runs it")
@pytest.mark.parametrize("which", ["solved", "wrong"])
@each
def test_a_lesson_runs_in_an_empty_folder(path, which, tmp_path):
    """In short, with every exercise solved, and with a mistake in every exercise: each is named, and none stops it."""
    from nbclient import NotebookClient

    from kdpl_utils.widgets import widget_errors

    notebook = shortened(build.notebook(path, which))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    assert widget_errors(notebook) == [] and list(tmp_path.iterdir()) == []
    for cell in build.cells_of(path):
        exercise = build.exercise_of(cell) if cell.part == "exercise" else None
        if exercise:
            mistake = next(iter(exercise.mutants.values()))
            told = f"✓ {exercise.name}: right" if which == "solved" else f"✗ {exercise.name}: {mistake.sentence}"
            assert told in printed(notebook, cell.id)


# --- the grammar of a lesson ----------------------------------------------------------------------------------------


@each
def test_parts_stand_in_their_order(path):
    parts = " ".join(cell.part for cell in learner_cells(path))
    assert GRAMMAR.fullmatch(parts), parts


@each
def test_ids_carry_the_lessons_number(path):
    cells = [cell for which in build.VERSIONS for cell in build.version(build.cells_of(path), which)]
    assert {cell.id[:2] for cell in cells} == {path.name[:2]}


@each
def test_a_prediction_is_asked_before_it_is_measured(path):
    cells = learner_cells(path)
    asked = [i for i, cell in enumerate(cells) if cell.part == "predict"]
    for i in asked:
        name = cells[i].text.splitlines()[-1]
        after = [k for k, cell in enumerate(cells) if f"{name}.measured(" in cell.text]
        assert after and min(after) > i, f"{cells[i].id}: {name}.measured(…) has to follow"
    has_exercises = path.name[:2] not in ("00", "11")
    assert len(asked) >= (3 if has_exercises else 1)


@each
def test_an_explorer_comes_with_moves(path):
    cells = learner_cells(path)
    for i, cell in enumerate(cells):
        if cell.part == "widget":
            moves = cells[i + 1]
            assert moves.part == "moves" and len(re.findall(r"^\d\. ", moves.text, re.MULTILINE)) in (2, 3)
            assert "Notice" in moves.text


@each
def test_what_every_lesson_says(path):
    of = {cell.part: cell.text for cell in learner_cells(path)}
    assert re.search(r"\d+ minutes.*comput.*Needs:", of["title"], re.DOTALL)
    assert 3 <= len(re.findall(r"\*\*\w+\*\*", of["objectives"])) <= 5
    assert len(re.findall(r"^[123]\. .*\?$", of["recap"], re.MULTILINE)) == 3 and "<details>" in of["recap"]
    assert of["next"].startswith("Next:") and len(re.findall(r"https?://", of["next"])) <= 6
    if "verdict" in of:
        assert "claim" in of["objectives"] and "ontrol" in of["objectives"]


# --- form -----------------------------------------------------------------------------------------------------------


@each
def test_cells_are_short(path):
    for cell in learner_cells(path):
        if not cell.is_markdown:
            assert len(cell.text.splitlines()) <= MOST_LINES, cell.id
        else:
            words = prose(cell.text).split()
            assert len(words) <= MOST_WORDS, f"{cell.id} has {len(words)} words"


@each
def test_one_title(path):
    text = "\n".join(cell.text for cell in learner_cells(path) if cell.is_markdown)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


@each
def test_links_lead_somewhere(path):
    for cell in learner_cells(path):
        for link in re.findall(r"\]\(([^)]+)\)", cell.text) if cell.is_markdown else []:
            if not link.startswith("https://"):
                assert (NOTEBOOKS / link.split("#")[0]).exists(), f"{cell.id}: {link}"


@each
def test_no_result_is_typed_in(path):
    """Shares, points, bits and decimals are printed by cells. In words, "half" and "nine in ten" are thoughts."""
    for cell in learner_cells(path):
        if cell.is_markdown and cell.part not in ("title", "help"):
            found = re.findall(r"\d+(?:[.,]\d+)?\s?(?:%|per cent|points?|bits?|nats?)|\d+\.\d+", prose(cell.text))
            assert found == [], cell.id


CLEVER = r"(\b\w+(?:\[\w+\])?) == \1\b|:=|;|\bexec\(|%matplotlib|!pip|[\w\]]==\d"


@each
def test_no_clever_code(path):
    for cell in learner_cells(path):
        if not cell.is_markdown:
            code = re.sub(r'""".*?"""|"[^"]*"|#[^\n]*', "", cell.text, flags=re.DOTALL)
            assert not re.search(CLEVER, code), cell.id


# --- words ----------------------------------------------------------------------------------------------------------


def glossary() -> dict[str, str]:
    """Each term of lesson 00's tables and the lesson that explains it."""
    (path,) = (p for p in SOURCES if p.stem.startswith("00"))
    rows = [line for cell in build.cells_of(path) if cell.part == "glossary" for line in cell.text.splitlines()]
    cells = [[part.strip() for part in row.strip("|").split("|")] for row in rows if row.startswith("|")]
    return {name: row[3] for row in cells if re.fullmatch(r"\d\d", row[3]) for name in row[0].split(", ")}


def test_the_glossary_has_the_methods_words():
    terms = glossary()
    assert len(terms) >= 20
    assert {"logit", "entropy", "nat", "ECE", "shot", "KL", "bit", "temperature"} <= set(terms)


def test_the_glossarys_code_names_exist():
    import kdpl_utils as kd
    from kdpl_utils import evaluate

    (path,) = (p for p in SOURCES if p.stem.startswith("00"))
    text = "\n".join(cell.text for cell in build.cells_of(path) if cell.part == "glossary")
    names = re.findall(r"`([a-z_]+)`", text)
    assert names and [name for name in names if not hasattr(kd, name) and not hasattr(evaluate, name)] == []


@each
def test_terms_are_explained_where_they_first_appear(path):
    """In the lesson that explains a term, its first use is bold; an earlier lesson does without it."""
    number = path.name[:2]
    cells = [cell for cell in learner_cells(path) if cell.is_markdown and cell.part not in ("glossary", "help", "next")]
    text = "\n".join(prose(cell.text) for cell in cells)
    for term, home in glossary().items():
        first = re.search(rf"(\*\*)?(?<!-)\b{re.escape(term)}s?\b", text)
        if first is None or home < number or number == "00":
            continue
        assert home == number, f"{term!r} is explained in lesson {home}"
        assert first[1], (
            f"{term!r} is used before it is explained (in bold): {text[first.start() - 40 : first.end()]!r}"
        )


@each
def test_what_is_committed_has_no_outputs(path):
    notebook = nbformat.read(NOTEBOOKS / f"{path.stem}.ipynb", as_version=4)
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")


# --- and each rule notices ------------------------------------------------------------------------------------------

LONG = "x = 1\n" * (MOST_LINES + 1)
BROKEN = {
    "a part out of order": (test_parts_stand_in_their_order, "04-recap (recap)", "04-recap (why)"),
    "another number": (test_ids_carry_the_lessons_number, "04-try-why", "05-try-why"),
    "never measured": (test_a_prediction_is_asked_before_it_is_measured, "gap.measured(", "print("),
    "no moves": (test_an_explorer_comes_with_moves, "Notice that", "See that"),
    "no answers": (test_what_every_lesson_says, "<details><summary>Answers", "<b><summary>Answers"),
    "a claim without control": (test_what_every_lesson_says, "Its control: the", "Beside it: the"),
    "a long cell": (test_cells_are_short, "letters = 0\n", LONG),
    "long prose": (test_cells_are_short, "## Try it yourself", "## Try it yourself\n\n" + "word " * MOST_WORDS),
    "two titles": (test_one_title, "## When it fails", "# When it fails"),
    "a dead link": (test_links_lead_somewhere, "(05_kdpl.ipynb)", "(05_nothing.ipynb)"),
    "a typed-in result": (test_no_result_is_typed_in, "## When it fails", "## When it fails\n\nIt gains 2.1 points."),
    "NaN by comparison": (test_no_clever_code, "letters = 0\n", "letters = [x for x in scores if x == x]\n"),
    "a term too early": (
        test_terms_are_explained_where_they_first_appear,
        "The **KL** divergence",
        "The KL divergence",
    ),
    "a term of later": (test_terms_are_explained_where_they_first_appear, "## When it fails", "## f\n\nThe recall is"),
    "a stop at no heading": (test_an_instructor_knows_where_to_stop, "## Its gradient is", "## The gradient is"),
    "a task without exercise": (
        test_help_is_folded_below_and_effort_stands_beside,
        "# %% 04-kl (exercise)",
        "# %% 04-kl (run)",
    ),
    "no solution": (test_every_exercise_has_a_task_a_solution_and_help, "04-mended-solution (solution)", "04-x (run)"),
    "a wrong solution": (test_solutions_are_right_and_exercises_empty, "(log_t - log_s)).sum", "(log_s - log_t)).sum"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_lesson_is_noticed(case, tmp_path, capsys):
    rule, old, new = BROKEN[case]
    (path,) = (p for p in SOURCES if p.stem.startswith("04"))
    text = path.read_text(encoding="utf-8").replace("# %% 04-try (try)\n", "# %% 04-try (try)\nletters = 0\n")
    assert old in text
    broken = tmp_path / path.name
    broken.write_text(text.replace(old, new), encoding="utf-8")
    arguments = [capsys] if "capsys" in rule.__code__.co_varnames[: rule.__code__.co_argcount] else []
    with pytest.raises(AssertionError):
        rule(broken, *arguments)
