"""run.py, pyproject.toml, environment.yml and the wheel: what is installed, how, and from what."""

import ast
import os
import re
import runpy
import shutil
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
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements if ";" not in one}


def test_requirements_are_lower_bounds_and_the_tests_have_the_extras():
    for requirement in map(Requirement, sum(EXTRAS.values(), PROJECT["dependencies"])):
        assert [one.operator for one in requirement.specifier] == [">="], requirement
    assert set(EXTRAS["cluster"]) <= set(EXTRAS["test"])


def test_every_import_of_the_package_is_a_dependency():
    listed = named(PROJECT["dependencies"] + EXTRAS["notebooks"] + EXTRAS["cluster"])
    for path in (ROOT / "kdpl_utils").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        outside = {module.split(".")[0] for module in modules} - {*sys.stdlib_module_names, "kdpl_utils"}
        distribution = {"PIL": "pillow", "open_clip": "open-clip-torch"}
        assert {canonicalize_name(distribution.get(name, name)) for name in outside} <= listed, path


def test_the_package_needs_no_extra():
    """A plain installation imports every public name and runs the command."""
    code = f"""
import sys
for name in {sorted(named(EXTRAS["notebooks"] + EXTRAS["cluster"]) | {"IPython"})}:
    sys.modules[name] = None  # importing it fails
import kdpl_utils as kd
for name in kd.__all__:
    getattr(kd, name)
from kdpl_utils.apps.cli import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "reproduce" in done.stdout, done.stderr


def test_environment_yml_is_thin_and_in_step():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {line.split()[0]: line for line in environment["dependencies"] if isinstance(line, str)}
    (pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert set(conda) == {"python", "pip"} and re.search(r">=3\.\d+", conda["python"])[0] == PROJECT["requires-python"]
    assert pip == ["-e .[notebooks]"] and environment["channels"] == ["conda-forge", "nodefaults"]


def test_a_release_carries_the_versions_of_a_green_run():
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert [line for line in pinned if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert named(PROJECT["dependencies"] + EXTRAS["notebooks"] + EXTRAS["test"] + EXTRAS["docs"]) <= named(pinned)


def files(folder: Path) -> set[Path]:
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if path.parts[0] not in (".cache", "__pycache__")}


def test_wheel_carries_its_data(tmp_path):
    """Unpacked anywhere, without the repository, the package finds the files it was built with."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    package = tmp_path / "kdpl_utils"
    assert files(package / "_data") == {path for path in files(ROOT / "data") if path.suffix not in (".py", ".part")}
    assert files(package / "apps/page") == files(ROOT / "kdpl_utils/apps/page") != set()
    assert (package / "py.typed").exists() and (package / "__init__.pyi").exists()
    look = "from kdpl_utils.support.shipped import data_file; print(data_file('emoji.json'))"
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.check_output([sys.executable, "-c", look], cwd=tmp_path, env=env, text=True)
    assert Path(found.strip()).resolve() == (package / "_data/emoji/emoji.json").resolve()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Load run.py as a module, with its environment in a folder that does not exist yet."""
    monkeypatch.setenv("KDPL_VENV", str(tmp_path / "env"))
    spec = spec_from_file_location("run", ROOT / "run.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INSTALLS = {"-I": "import", "--torch-backend": "uv cpu", "--python": "uv", "--quiet": "get uv", "-m": "pip"}
SET_UP = ["venv", "get uv", "uv", "import"]


class Steps:
    """Stand-ins for what run.py starts: ``done`` lists the steps, and those in ``broken`` fail."""

    def __init__(self, module, monkeypatch):
        self.python = module.PYTHON
        self.done = []
        self.broken = set()
        self.commands = []
        monkeypatch.setattr(module, "run", self.step)
        monkeypatch.setattr(module, "pip_settings", list)
        monkeypatch.setattr(module.venv, "create", self.create)

    def create(self, folder, with_pip):
        self.done.append("venv")
        self.python.parent.mkdir(parents=True)
        self.python.touch()

    def step(self, *command, **more):
        words = list(map(str, command))
        if words[-1] == "import pip":
            return self.python.exists()
        self.done.append(next(step for option, step in INSTALLS.items() if option in words))
        self.commands.append(words)
        return self.done[-1] not in self.broken


@pytest.fixture
def steps(run, monkeypatch):
    return Steps(run, monkeypatch)


def test_set_up_installs_once(run, steps, monkeypatch):
    for extras in ("notebooks", "notebooks", "notebooks,test,docs", "notebooks", "notebooks,docs"):
        run.set_up(extras, False, False)
    assert steps.done == [*SET_UP, *SET_UP[1:]], "the environment stays; a part of what is installed is there"
    monkeypatch.setattr(run, "stamps", lambda extras, versions: {"of another pyproject.toml"})
    run.set_up("notebooks", False, False)
    assert steps.done[7:] == SET_UP[1:]


@pytest.mark.parametrize(
    "broken, cpu, done",
    [
        ({"uv"}, False, ["get uv", "uv", "pip", "import"]),
        (set(), True, ["get uv", "uv cpu", "import"]),
        ({"uv cpu"}, True, ["get uv", "uv cpu", "uv", "import"]),
    ],
)
def test_another_way_follows_where_one_fails(run, steps, capsys, broken, cpu, done):
    steps.broken = broken
    run.set_up("notebooks", cpu, False)
    assert steps.done == ["venv", *done]
    assert ("CPU build cannot be fetched" in capsys.readouterr().out) == ("uv cpu" in broken)


@pytest.mark.parametrize("broken, said", [({"uv", "pip"}, "run the same command again"), ({"import"}, "elsewhere")])
def test_nothing_counts_as_installed_before_it_was_imported(run, steps, broken, said):
    steps.broken = broken
    with pytest.raises(SystemExit, match=said):
        run.set_up("notebooks", False, False)
    assert not run.STAMP.exists()
    steps.broken = set()
    before = len(steps.done)
    run.set_up("notebooks", False, False)
    assert steps.done[before:] == SET_UP and run.STAMP.exists(), "what may be half there is made again"


def test_set_up_deletes_nothing_of_yours(run, steps):
    run.ENV.mkdir()
    (run.ENV / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="KDPL_VENV"):
        run.set_up("notebooks", False, False)
    steps.create(run.ENV, True)  # an environment of yours is used as it is
    run.set_up("notebooks", False, False)
    assert (run.ENV / "thesis.tex").exists() and steps.done == SET_UP


def test_tested_versions_are_those_of_constraints_txt(run, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "CONSTRAINTS", tmp_path / "constraints.txt")
    run.CONSTRAINTS.write_text("torch==2.9.0\n")
    for tested in (True, False, True):
        run.set_up("notebooks", False, tested)
    assert steps.done == SET_UP and steps.commands[1][-2:] == ["--constraint", str(run.CONSTRAINTS)]
    run.CONSTRAINTS.write_text("torch==2.9.1\n")
    run.set_up("notebooks", False, True)
    assert steps.done == [*SET_UP, *SET_UP[1:]]


def test_no_setting_of_the_caller_installs_or_loads_elsewhere(run, monkeypatch):
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    names = ["PIP_TARGET", "PIP_PREFIX", "PYTHONPATH", "MPLBACKEND"]
    for name in names:
        monkeypatch.setenv(name, "/elsewhere")
    look = f"import os, sys; sys.exit(len(set({names}) & set(os.environ)) or 1 - sys.flags.utf8_mode)"
    assert run.call("-c", look) == 0 and run.run(sys.executable, "-c", look)


def test_uv_is_told_what_pip_was_told(run, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example\nfind-links = /a /b\ncert = /c.pem\nconstraint = /c.txt\n"
        "extra-index-url = https://slow.example\n[install]\nextra-index-url = https://extra.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_CONSTRAINT", "/d.txt")
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    told = " ".join(run.pip_settings())
    for words in ("--default-index https://mirror", "--find-links /a --find-links /b", "--index https://extra"):
        assert words in told
    assert "--constraint /d" in told and "slow" not in told and "/c" not in told


def test_run_starts_with_nothing_but_an_old_python(monkeypatch):
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 6))
    monkeypatch.setattr(sys, "version_info", (3, 9, 18, "final", 0))
    monkeypatch.setattr(sys, "argv", ["run.py"])
    with pytest.raises(SystemExit, match=r"^The notebooks need Python 3\.10 or newer; this is Python \S+\.$"):
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


@pytest.mark.parametrize(
    "arguments, screen, starts",
    [
        ([], True, "-m jupyterlab"),
        ([], False, "-m pytest --nbmake"),
        (["execute"], True, "-m pytest --nbmake"),
        (["test", "--cpu", "-k", "kl"], False, "-m pytest --nbmake"),
        (["--tested", "docs"], False, str(ROOT / "docs/build.py")),
    ],
)
def test_commands_start_what_they_say(run, monkeypatch, tmp_path, arguments, screen, starts):
    called = []
    monkeypatch.setattr(run, "set_up", lambda *settings: called.append(settings))
    monkeypatch.setattr(run, "call", lambda *command, **more: called.append(" ".join(map(str, command))) or 7)
    monkeypatch.setattr(run, "ROOT", tmp_path if "docs" not in arguments else ROOT)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: screen)
    monkeypatch.setenv("DISPLAY", ":0")
    assert "'05'" in run.main(["execute", "05"]) and called == []
    assert run.main(arguments) == 7
    command = next((one for one in arguments if one in run.EXTRAS), "")
    assert called[0] == (run.EXTRAS[command], "--cpu" in arguments, "--tested" in arguments)
    assert called[1].startswith(starts) and ("-k kl" in called[1]) == ("kl" in arguments)


def test_copies_of_notebooks_run(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(run, "set_up", lambda *settings: None)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name, code in {"1": "6 * 7", "2": "1 / 0"}.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, tmp_path / f"notebooks/{name}.ipynb")
    before = (tmp_path / "notebooks/1.ipynb").read_bytes()
    assert run.main(["execute"]) == 1
    printed = capfd.readouterr().out
    assert "1 passed" in printed and "FAILED executed/2.ipynb" in printed and "ZeroDivisionError" in printed
    assert (tmp_path / "notebooks/1.ipynb").read_bytes() == before
    assert '"42"' in (tmp_path / "executed/1.ipynb").read_text()


def test_ci_calls_the_readmes_command():
    last = (ROOT / ".ci/run").read_text().rstrip().splitlines()[-1]
    assert last == "python3 run.py test" and last in (ROOT / "README.md").read_text(encoding="utf-8")
