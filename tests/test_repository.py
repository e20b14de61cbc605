"""What a public repository has beside its code: workflows, citation, contributing, licences; all name what exists."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUN_COMMANDS = runpy.run_path(str(ROOT / "run.py"))["COMMANDS"]


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text(encoding="utf-8"))


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflows_are_these():
    assert sorted(path.name for path in (ROOT / ".github/workflows").iterdir()) == ["pages.yml", "tests.yml"]


def test_the_readmes_test_command_runs_on_three_systems_and_two_pythons():
    job = workflow("tests")["jobs"]["tests"]
    assert commands(job) == ["python3 run.py test"] and commands(job)[0] in README
    systems = {name.split("-")[0] for name in job["strategy"]["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    oldest, newest = job["strategy"]["matrix"]["python"]
    assert f">={oldest}" == PROJECT["requires-python"], "3.10 in quotes: as a number it is 3.1"
    assert newest == "3.x"
    assert job["runs-on"] == "${{ matrix.os }}"
    (python,) = (step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert python == "${{ matrix.python }}"


def test_the_pages_are_those_of_run_py_docs():
    job = workflow("pages")["jobs"]["pages"]
    assert commands(job) == ["python3 run.py docs"]
    (published,) = (step["with"]["path"] for step in job["steps"] if "upload-pages" in step.get("uses", ""))
    build = runpy.run_path(str(ROOT / "docs/build.py"))
    assert f"The pages: {published}/index.html." in build["__doc__"]


@pytest.mark.parametrize("name", ["tests", "pages"])
def test_a_workflow_is_whole(name):
    described = workflow(name)
    triggers = described[True]  # YAML's "on" is a boolean
    assert triggers["push"] == {"branches": ["main"]}
    assert described["permissions"]["contents"] == "read"
    for job in described["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert [step["uses"].split("@")[0] for step in job["steps"][:2]] == ["actions/checkout", "actions/setup-python"]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
        for command in commands(job):
            assert command.split()[:2] == ["python3", "run.py"] and command.split()[2] in RUN_COMMANDS


def test_the_citation_is_of_this_version_and_of_the_readmes_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format demands
    assert citation["version"] == PROJECT["version"]
    assert citation["authors"] == PROJECT["authors"]
    (paper,) = citation["references"]
    field = dict(re.findall(r"^  (\w+) += \{(.*)\},?$", README, re.MULTILINE))
    assert paper["title"] == field["title"]
    assert str(paper["year"]) == field["year"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert " and ".join(names) == field["author"]
    assert paper["url"].rsplit("/", 1)[1] == field["note"].removeprefix("arXiv:")


def test_contributing_names_what_exists():
    named = re.findall(r"`((?:kdpl_utils|tests|notebooks|\.venv)[\w/.]*)`", CONTRIBUTING)
    named += [link for link in re.findall(r"\]\(([^)]+)\)", CONTRIBUTING) if "://" not in link]
    assert len(named) > 10
    assert [name for name in named if name != ".venv" and not (ROOT / name).exists()] == []
    for command in re.findall(r"`python3 run\.py (\S+)", CONTRIBUTING):
        assert command.strip("`") in RUN_COMMANDS
    assert [heading for heading in ("A learner", "A world", "A lesson") if f"## {heading}\n" not in CONTRIBUTING] == []


def test_prose_and_code_have_their_licences():
    prose = (ROOT / "notebooks/LICENSE").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/" in prose and "MIT" in prose
    assert "[CC BY 4.0](notebooks/LICENSE)" in README and "[MIT](LICENSE)" in README
    assert "notebooks/LICENSE" in PROJECT["license-files"] and "CC-BY-4.0" in PROJECT["license"]
