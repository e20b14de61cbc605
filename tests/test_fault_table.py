"""The tables of faults as a whole: enough rows, each of them the start of a test, and all of them on the page."""

import importlib
import inspect
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import properties
import pytest
from faults import AS_IT_WAS, Fault, pattern

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path.stem for path in (ROOT / "tests").glob("test_faults_*.py"))


@pytest.fixture(scope="module")
def page():
    spec = spec_from_file_location("build", ROOT / "docs" / "build.py")
    build = module_from_spec(spec)
    spec.loader.exec_module(build)
    return build.fault_page()


def tables(name):
    return importlib.import_module(name).PAGE


def test_there_are_sixty_rows_and_more_each_with_a_name_of_its_own():
    faults = [fault for name in MODULES for rows in tables(name).values() for fault in rows]
    assert len(faults) >= 60 and len(set(faults)) == len(faults)


@pytest.mark.parametrize("name", MODULES)
def test_rows_have_one_shape_and_say_what_is_kept(name):
    assert tables(name)
    for rows in tables(name).values():
        assert rows and all(isinstance(row, Fault) and row.kept for row in rows.values())
        sentences = [sentence for row in rows.values() for sentence in row.sentences]
        assert all("\n" not in sentence for sentence in sentences)


@pytest.mark.parametrize("name", MODULES)
def test_no_row_is_without_a_test(name):
    """A table is what a test is parametrized with: pytest then runs it once for each row."""
    module = importlib.import_module(name)
    tests = [one for key, one in inspect.getmembers(module, inspect.isfunction) if key.startswith("test_")]
    marks = [mark for test in tests for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    started_from = [mark.args[1] for mark in marks]
    assert all(any(rows is given for given in started_from) for rows in module.PAGE.values())


def test_the_page_has_every_row(page):
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    expected = sum(len(rows) for name in MODULES for rows in tables(name).values())
    heads = sum(len(tables(name)) for name in MODULES)
    assert len(rows) == expected + heads and f"{expected} of them" in page
    assert AS_IT_WAS in page


@pytest.mark.parametrize(
    "sentence, text, is_said",
    [
        ("no room on … for", "there is no room on the disk for it", True),
        ("no room on … for", "no room for", False),
        ("…/kept.json is", "/some/where/kept.json is", True),
        ("(0…3)", "(0…3)", True),
        ("(0…3)", "(0 and 3)", False),
        ("a (b.c)", "a (bxc)", False),
    ],
)
def test_three_dots_stand_for_words(sentence, text, is_said):
    assert bool(re.search(pattern(sentence), text)) == is_said


def test_all_properties_together_have_the_cases_that_are_said():
    for name in ("test_faults_names", "test_properties_pictures"):
        importlib.import_module(name)
    assert sum(properties.SHARES) == properties.USUAL_CASES
