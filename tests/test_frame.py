"""The frame: pyproject.toml, environment.yml, the wheel, run.py and the README say the same, and work."""

import ast
import os
import re
import runpy
import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
README = (ROOT / "README.md").read_text(encoding="utf-8")


def imported(path: Path, everywhere: bool = True) -> set[str]:
    """Top-level names of what a file imports from outside its package; only at its top, or in functions as well."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


# --- pyproject.toml and environment.yml


def test_requirements_are_lower_bounds():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in map(Requirement, sum(lists, [])):
        assert [s.operator for s in requirement.specifier] == [">="], requirement


def test_dependencies_are_what_the_package_imports():
    """At the top of a file only what is always installed; inside a function, where it is first needed, extras too."""
    distribution = {"PIL": "pillow", "open_clip": "open-clip-torch"}
    files = list((ROOT / "kdpl_utils").rglob("*.py"))
    always = {canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"]}
    extras = sum((r for name, r in PROJECT["optional-dependencies"].items() if name not in ("test", "build")), [])
    for everywhere, listed in (
        (False, always),
        (True, always | {canonicalize_name(Requirement(r).name) for r in extras}),
    ):
        wanted = set().union(*(imported(path, everywhere) for path in files)) - {*sys.stdlib_module_names, "kdpl_utils"}
        assert {canonicalize_name(distribution.get(name, name)) for name in wanted} <= listed


def test_the_extras_are_tested():
    """Whatever is optional for a user is there when the tests run."""
    extras = PROJECT["optional-dependencies"]
    optional = sum((extras[name] for name in ("cluster", "data", "docs", "onnx", "stream")), [])
    assert set(optional) <= set(extras["test"])


def test_version_is_the_packages():
    assert f'__version__ = "{PROJECT["version"]}"' in (ROOT / "kdpl_utils" / "support" / "version.py").read_text()


def test_environment_yml_is_thin_and_in_step():
    conda = [d for d in ENVIRONMENT["dependencies"] if isinstance(d, str)]
    (pip,) = (d["pip"] for d in ENVIRONMENT["dependencies"] if isinstance(d, dict))
    assert {d.split()[0] for d in conda} == {"python", "pip"}  # everything else is in pyproject.toml
    python = next(d for d in conda if d.startswith("python"))
    assert re.search(r">=3\.\d+", python)[0] == PROJECT["requires-python"]
    (extras,) = (re.fullmatch(r"-e \.\[([\w,-]+)\]", line)[1] for line in pip)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]


def test_code_is_lint_clean():
    lint = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "E,F,I",
        "--no-cache",
        ".",
    ]  # rules that stay as they are
    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# --- the wheel


def files(folder: Path) -> set[Path]:
    found = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    return {p for p in found if p.parts[0] not in (".cache", "__pycache__")}


def test_wheel_carries_its_data(tmp_path):
    """Unpacked anywhere, without the repository, the package finds the files it was built with."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert files(site / "kdpl_utils/_data") == {p for p in files(ROOT / "data") if p.suffix not in (".py", ".part")}
    assert {p.name for p in site.iterdir() if p.suffix != ".dist-info"} == {"kdpl_utils"}
    look = "from kdpl_utils.support.shipped import data_file; print(data_file('emoji.json'))"
    found = subprocess.check_output(
        [sys.executable, "-c", look], cwd=elsewhere, env={**os.environ, "PYTHONPATH": str(site)}, text=True
    )
    assert Path(found.strip()).resolve() == (site / "kdpl_utils/_data/emoji/emoji.json").resolve()


# --- run.py


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run.py as a module, with its environment in an empty folder to be."""
    monkeypatch.setenv("KDPL_VENV", str(tmp_path / "env"))
    spec = spec_from_file_location("run", ROOT / "run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_run_starts_with_nothing_but_python():
    assert imported(ROOT / "run.py", everywhere=False) <= set(sys.stdlib_module_names)
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 6))  # an old Python reads on to the message


def test_run_refuses_an_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
    monkeypatch.setattr(sys, "argv", ["run.py"])
    with pytest.raises(SystemExit, match=r"^The notebooks need Python 3\.10 or newer, and this is 3\.\S+\.$"):
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


@pytest.mark.parametrize("arguments", [["tests"], ["execute", "05"], ["--verbose"]])
def test_run_names_what_it_does_not_know(run, arguments):
    message = run.main(arguments)
    assert repr(arguments[-1]) in message and all(c in message for c in run.COMMANDS)
    assert not run.ENV.exists()  # said before anything is set up


def test_run_helps(run, capsys):
    assert run.main(["--help"]) == 0
    told = capsys.readouterr().out
    assert [c for c in run.COMMANDS if f"run.py {c}" not in told] == []


@pytest.fixture
def counted(run, monkeypatch):
    """``set_up`` with stand-ins for venv and pip; the list that it fills says what was done."""
    done = []

    def make(folder, with_pip):
        done.append("venv")
        run.PYTHON.parent.mkdir(parents=True)
        run.PYTHON.touch()

    def install(command):
        done.append("pip")
        if "no network" in done[:1]:
            raise SystemExit("no network")

    monkeypatch.setattr(run.venv, "create", make)
    monkeypatch.setattr(run, "install", install)
    monkeypatch.setattr(run, "works", lambda: run.PYTHON.exists())
    return done


def test_set_up_once(run, counted):
    run.set_up()
    run.set_up()
    assert counted == ["venv", "pip"]
    run.STAMP.write_text("of another pyproject.toml")
    run.set_up()
    assert counted == ["venv", "pip", "pip"]


def test_set_up_goes_on_where_it_failed(run, counted):
    counted.append("no network")
    with pytest.raises(SystemExit):
        run.set_up()
    assert not run.STAMP.exists()
    counted.clear()
    run.set_up()
    assert counted == ["pip"] and run.STAMP.exists()


@pytest.mark.parametrize("half", ["no python", "half unpacked"])
def test_set_up_makes_a_half_made_environment_again(run, counted, half):
    run.set_up()
    if half == "no python":
        run.PYTHON.unlink()
    else:
        run.STAMP.write_text(run.INSTALLING)
    run.set_up()
    assert counted == ["venv", "pip"] * 2


def test_set_up_deletes_nothing_of_yours(run, counted):
    run.ENV.mkdir()
    (run.ENV / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="KDPL_VENV"):
        run.set_up()
    assert (run.ENV / "thesis.tex").exists() and counted == []


PIP = """\
print("Collecting torch>=2.4")
print("  Downloading torch-2.9.0-cp311-none-linux_x86_64.whl (900.1 MB)")
print("Installing collected packages: torch")
raise SystemExit({code})
"""


@pytest.mark.parametrize("code", [0, 1])
def test_install_sums_up_what_pip_says(run, monkeypatch, code):
    run.ENV.mkdir()
    shown = []
    monkeypatch.setattr(run.Progress, "show", lambda self, text: shown.append(text))
    command = [sys.executable, "-c", PIP.format(code=code)]
    if code:
        with pytest.raises(SystemExit, match="same command again"):
            run.install(command)
    else:
        run.install(command)
    assert "1 packages found, downloading torch (900 MB; 900 MB with it)" in shown
    assert shown[-1] == "unpacking package 1 of 1"
    assert run.STAMP.read_text().strip() == run.INSTALLING  # only set_up says that it is done
    assert "Collecting torch" in (run.ENV / "install.log").read_text()


def test_notebooks_stop_at_the_first_failure(run, tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    for name, code in {"1.ipynb": "print(6 * 7)", "2.ipynb": "1 / 0", "3.ipynb": ""}.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, tmp_path / "notebooks" / name)
    before = (tmp_path / "notebooks/1.ipynb").read_bytes()
    message = run.run_notebooks(tmp_path / "notebooks", tmp_path / "executed")
    printed = capsys.readouterr().out
    assert message.startswith("2.ipynb failed")
    assert re.search(r"1\.ipynb \.\.\. \d+ s ok", printed) and "ZeroDivisionError" in printed
    assert (tmp_path / "notebooks/1.ipynb").read_bytes() == before
    assert "42" in (tmp_path / "executed/1.ipynb").read_text()
    assert sorted(p.name for p in (tmp_path / "executed").iterdir()) == ["1.ipynb", "2.ipynb"]


# --- README.md and .ci/run


def test_readme_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_readme_lists_the_notebooks():
    listed = re.findall(r"\(notebooks/(\w+\.ipynb)\)", README)
    assert listed == sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))


def test_ci_calls_the_readmes_command():
    last = (ROOT / ".ci/run").read_text().rstrip().splitlines()[-1]
    assert last in README and last == "python3 run.py test"
