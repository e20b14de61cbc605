"""What a public repository has beside its code, and that all of it names what exists."""

import re
import runpy
import subprocess
import sys

import pytest
import yaml
from test_frame import PROJECT, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMANDS = runpy.run_path(str(ROOT / "run.py"))["EXTRAS"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_lint_and_types_are_clean(command):
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_exists(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"]["contents"] == "read"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for words in (step["run"].split() for step in job["steps"] if "run.py" in step.get("run", "")):
            assert words[:2] == ["python3", "run.py"] and words[2] in COMMANDS
            ignored = [word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")]
            assert all((ROOT / path).is_file() for path in ignored)


def test_lint_comes_first_and_the_oldest_python_is_tried():
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["tests"]["needs"] == "lint"
    assert f">={jobs['tests']['strategy']['matrix']['python'][0]}" == PROJECT["requires-python"], "3.10 in quotes"


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    package = re.search(r'__version__ = "(.+)"', (ROOT / "kdpl_utils/support/version.py").read_text())[1]
    assert {citation["version"], newest, package} == {PROJECT["version"]}


def test_the_repositorys_address_stands_once():
    """Links, badges and Colab's cells are made from [project.urls]."""
    tracked = subprocess.check_output(["git", "ls-files", "*.py", "*.md", "*.toml", "*.yml"], cwd=ROOT, text=True)
    paths = [ROOT / name for name in tracked.splitlines() if (ROOT / name).exists()]
    assert [path.name for path in paths if "OWNER" + "/REPO" in path.read_text(encoding="utf-8")] == ["pyproject.toml"]


def test_the_citation_is_of_the_readmes_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    field = dict(re.findall(r"^  (\w+) += \{(.*)\},?$", README, re.MULTILINE))
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert (paper["title"], str(paper["year"]), names) == (field["title"], field["year"], field["author"])
    assert paper["url"].rsplit("/", 1)[1] == field["note"].removeprefix("arXiv:")


def test_contributing_names_what_exists():
    named = re.findall(r"`((?:kdpl_utils|tests|notebooks|docs|examples)/[\w/.]*)`", CONTRIBUTING)
    named += [link for link in re.findall(r"\]\(([^)]+)\)", CONTRIBUTING) if "://" not in link]
    assert named and [name for name in named if not (ROOT / name).exists()] == []
    assert set(re.findall(r"`?python3 run\.py (\w+)", CONTRIBUTING)) <= set(COMMANDS)
    assert re.search(r"^## (.+)", CONTRIBUTING, re.MULTILINE)[1] == "A pull request"


def test_prose_and_code_have_their_licences():
    assert "https://creativecommons.org/licenses/by/4.0/" in (ROOT / "notebooks/LICENSE").read_text(encoding="utf-8")
    assert "[CC BY 4.0](notebooks/LICENSE)" in README and "[MIT](LICENSE)" in README
    assert "notebooks/LICENSE" in PROJECT["license-files"] and "CC-BY-4.0" in PROJECT["license"]
