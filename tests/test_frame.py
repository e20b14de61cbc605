"""The frame: pyproject.toml, environment.yml, the wheel, run.py and the README say the same, and work."""

import ast
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from itertools import groupby
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
    assert files(site / "kdpl_utils/apps/page") == files(ROOT / "kdpl_utils/apps/page") != set()
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


class Installers:
    """Stand-ins for venv, uv and pip: ``done`` says which were started, and those in ``broken`` raise what it says."""

    def __init__(self, run, monkeypatch):
        self.run, self.done, self.broken = run, [], {}
        monkeypatch.setattr(run.venv, "create", self.create)
        monkeypatch.setattr(run, "follow", self.follow)
        monkeypatch.setattr(run, "of_pip", list)
        monkeypatch.setattr(run, "works", lambda: run.PYTHON.exists())

    def create(self, folder, with_pip):
        self.done.append("venv")
        self.run.PYTHON.parent.mkdir(parents=True)
        self.run.PYTHON.touch()

    def follow(self, command, says, log, progress):
        step = "uv" if command[0] == self.run.UV[0] else "get uv" if command[-1] == "uv" else "pip"
        self.done.append(step)
        if step in self.broken:
            raise self.broken[step]


@pytest.fixture
def installers(run, monkeypatch):
    return Installers(run, monkeypatch)


def test_set_up_once(run, installers, capsys):
    run.set_up()
    run.set_up()
    assert installers.done == ["venv", "get uv", "uv"]
    assert re.search(r"Installed with uv in \d+:\d\d", capsys.readouterr().out)
    run.STAMP.write_text("of another pyproject.toml")
    run.set_up()
    assert installers.done == ["venv", "get uv", "uv", "get uv", "uv"]


@pytest.mark.parametrize("broken, done", [("get uv", ["get uv", "pip"]), ("uv", ["get uv", "uv", "pip"])])
def test_pip_installs_where_uv_cannot(run, installers, capsys, broken, done):
    installers.broken[broken] = run.Failed("error: no such index\n  more of it")
    run.set_up()
    assert installers.done == ["venv", *done]
    printed = capsys.readouterr().out
    assert "uv could not install it (error: no such index), so pip does" in printed
    assert re.search(r"Installed with pip in \d+:\d\d", printed)
    run.set_up()
    assert installers.done == ["venv", *done], "it is done"


def test_pip_starts_afresh_where_uv_stopped_half_way(run, installers, monkeypatch):
    def follow(command, says, log, progress):
        installers.done.append("pip" if "uv" not in [*command, Path(command[0]).stem] else "uv")
        if command[0] == run.UV[0]:
            says.read("Resolved 206 packages in 1.2s")
            raise run.Failed("error: disk full")

    monkeypatch.setattr(run, "follow", follow)
    run.set_up()
    assert installers.done == ["venv", "uv", "uv", "venv", "pip"]


def test_set_up_goes_on_where_it_failed(run, installers):
    installers.broken = dict.fromkeys(["get uv", "pip"], run.Failed("no network"))
    with pytest.raises(SystemExit, match="same command again"):
        run.set_up()
    assert installers.done == ["venv", "get uv", "pip"] and not run.STAMP.exists()
    installers.broken.clear()
    run.set_up()
    assert installers.done[3:] == ["get uv", "uv"] and run.STAMP.exists()


@pytest.mark.parametrize("step", ["get uv", "uv"])
def test_who_interrupts_uv_does_not_get_pip(run, installers, step):
    installers.broken[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run.set_up()
    assert installers.done[-1] == step and not run.STAMP.exists()


@pytest.mark.parametrize("half", ["no python", "half unpacked"])
def test_set_up_makes_a_half_made_environment_again(run, installers, half):
    run.set_up()
    if half == "no python":
        run.PYTHON.unlink()
    else:
        run.STAMP.write_text(run.INSTALLING)
    run.set_up()
    assert installers.done == ["venv", "get uv", "uv"] * 2


def test_set_up_deletes_nothing_of_yours(run, installers):
    run.ENV.mkdir()
    (run.ENV / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="KDPL_VENV"):
        run.set_up()
    assert (run.ENV / "thesis.tex").exists() and installers.done == []


PIP_PRINTS = """\
Collecting torch>=2.4
  Downloading torch-2.9.0-cp311-none-linux_x86_64.whl (900.1 MB)
Installing collected packages: torch
"""
PIP_SHOWS = [
    "1 packages found",
    "1 packages found, downloading torch (900 MB; 900 MB with it)",
    "unpacking package 1 of 1",
]
UV_PRINTS = """\
Using Python 3.11.7 environment at: env
Resolved 12 packages in 464ms
Downloading torch (1.5GiB)
Downloading numpy (16.1MiB)
 Downloaded numpy
 Downloaded torch
Prepared 12 packages in 3.54s
Installed 12 packages in 187ms
 + numpy==2.4.6
"""
UV_SHOWS = [
    "starting uv",
    "12 packages found, fetching them",
    "12 packages found, 0 of 1500 MB here, downloading torch",
    "12 packages found, 0 of 1516 MB here, downloading torch, numpy",
    "12 packages found, 16 of 1516 MB here, downloading torch",
    "12 packages found, fetching them",
    "12 packages found, unpacking",
]


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    "says, prints, shows", [("PipSays", PIP_PRINTS, PIP_SHOWS), ("UvSays", UV_PRINTS, UV_SHOWS)], ids=["pip", "uv"]
)
def test_one_line_sums_up_what_an_installer_says(run, monkeypatch, says, prints, shows, code):
    run.ENV.mkdir()
    run.OURS.touch()
    shown = []
    monkeypatch.setattr(run.Progress, "show", lambda self, text: shown.append(text))
    script = f"print({prints!r}); print('ERROR: no space' if {code} else ''); raise SystemExit({code})"
    command = [sys.executable, "-c", script]
    log = []
    if code:
        with pytest.raises(run.Failed, match="^ERROR: no space$"):
            run.follow(command, getattr(run, says)(), log, run.Progress())
    else:
        run.follow(command, getattr(run, says)(), log, run.Progress())
    assert [text for text, _ in groupby(shown)] == shows
    assert run.half_unpacked() == bool(code)
    assert code or not run.STAMP.exists(), "only set_up says that all of it is done"
    assert prints in (run.ENV / "install.log").read_text()


def test_an_installer_that_is_interrupted_ends(run):
    class Interrupted:
        def read(self, line):
            raise KeyboardInterrupt

    run.ENV.mkdir()
    log = []
    endless = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run.follow([sys.executable, "-c", endless], Interrupted(), log, run.Progress())
    assert time.monotonic() - start < 60
    assert (run.ENV / "install.log").read_text() == "".join(log)


def test_an_installer_that_cannot_start_has_failed(run):
    run.ENV.mkdir()
    with pytest.raises(run.Failed, match="no-such-program"):
        run.follow(["no-such-program"], run.UvSays(), [], run.Progress())


def test_uv_is_told_what_pip_was_told(run, tmp_path, monkeypatch):
    """Who has to fetch packages from a mirror has told pip so, and uv reads none of pip's settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nfind-links = /a /b\n"
        "constraint = /c.txt\nextra-index-url = https://slow.example\ntrusted-host = mirror.example\n"
        "[install]\nextra-index-url = https://extra.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_CONSTRAINT", "/d.txt")
    monkeypatch.setattr(run, "PIP", [sys.executable, "-m", "pip"])
    assert " ".join(run.of_pip()) == (
        "--default-index https://mirror.example/simple --index https://extra.example --find-links /a --find-links /b "
        "--constraint /d.txt --allow-insecure-host mirror.example --index-strategy unsafe-best-match"
    )


def test_the_environment_is_the_same_on_all_systems(run, monkeypatch):
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    monkeypatch.setenv("PYTHONUTF8", "0")
    look = "import os, sys; sys.exit(0 if sys.flags.utf8_mode and 'MPLBACKEND' not in os.environ else 1)"
    assert run.in_environment("-c", look) == 0


class Started:
    """What ``main`` starts in the environment, none of which runs; ``status`` is what it is told of each."""

    def __init__(self, run, monkeypatch):
        self.commands, self.status = [], 0
        monkeypatch.setattr(run, "set_up", lambda: self.commands.append(["set up"]))
        monkeypatch.setattr(run, "in_environment", self.in_environment)

    def in_environment(self, *arguments, **variables):
        self.commands.append(list(arguments))
        return self.status


@pytest.fixture
def started(run, monkeypatch):
    return Started(run, monkeypatch)


def test_with_a_screen_jupyterlab_opens_at_once(run, started, monkeypatch):
    monkeypatch.setattr(run, "has_screen", lambda: True)
    assert run.main([]) == 0
    set_up, lab = started.commands
    assert set_up == ["set up"] and lab[:2] == ["-m", "jupyterlab"]
    (url,) = (argument for argument in lab if argument.startswith("--LabApp.default_url="))
    assert (ROOT / url.split("/lab/tree/")[1]).is_file()


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("arguments, screen", [([], False), (["execute"], False), (["execute"], True)])
def test_without_a_screen_or_when_told_the_lessons_run(run, started, monkeypatch, capsys, arguments, screen, status):
    monkeypatch.setattr(run, "has_screen", lambda: screen)
    started.status = status
    assert run.main(arguments) == status
    assert started.commands == [["set up"], [str(ROOT / "run.py"), "--inside"]]
    says_how_to_open = "To open it: " in capsys.readouterr().out
    assert says_how_to_open == (arguments == [] and status == 0)


def test_an_expression_chooses_among_notebooks_and_tests(run, tmp_path, monkeypatch):
    """No word that follows an option is taken for a path because a folder has its name."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("data", "notebooks", "tests"):
        (tmp_path / folder).mkdir()
    for name in ("cats", "data"):
        lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
        nbformat.write(lesson, tmp_path / f"notebooks/1_{name}.ipynb")
        (tmp_path / f"tests/test_{name}.py").write_text("def test_it(): pass\n")
    collected = []

    def in_environment(*command, **variables):
        command = [sys.executable, *command, "-n0", "--collect-only", "-q"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        collected.extend(re.findall(r"(\w+\.(?:py|ipynb))::", done.stdout))
        return done.returncode

    monkeypatch.setattr(run, "in_environment", in_environment)
    assert run.test(["-k", "data"]) == 0
    assert sorted(collected) == ["1_data.ipynb", "test_data.py"]


BAR = """
import time
for percent in (7, 99):
    print(f"\\r{percent} %", end="", flush=True)
    time.sleep(0.4)
print()
"""


def write_notebooks(folder, **codes):
    folder.mkdir()
    for name, code in codes.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, folder / f"{name}.ipynb")


def test_notebooks_stop_at_the_first_failure(run, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    write_notebooks(tmp_path / "notebooks", **{"1": BAR + "print(6 * 7)", "2": "1 / 0", "3": ""})
    before = (tmp_path / "notebooks/1.ipynb").read_bytes()
    message = run.run_notebooks(tmp_path / "notebooks", tmp_path / "executed")
    printed = capfd.readouterr().out
    assert message.startswith("2.ipynb failed")
    assert re.search(r"1\.ipynb \.\.\. \d+ s ok", printed) and "ZeroDivisionError" in printed
    assert (tmp_path / "notebooks/1.ipynb").read_bytes() == before
    (shown,) = nbformat.read(tmp_path / "executed/1.ipynb", as_version=4).cells[0].outputs
    assert shown.text == "99 %\n42\n"
    assert sorted(p.name for p in (tmp_path / "executed").iterdir()) == ["1.ipynb", "2.ipynb"]


def test_notebooks_run_side_by_side_with_the_cores_divided(run, tmp_path, capfd, monkeypatch):
    """Each of two waits for the other, which it would do for ever if they ran one after the other."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(run, "AT_ONCE", 2)
    meets = """
import os, time
from pathlib import Path
Path("{me}.here").touch()
while not Path("{other}.here").exists():
    time.sleep(0.05)
print("threads", os.environ["OMP_NUM_THREADS"])
"""
    codes = {"1": meets.format(me=1, other=2), "2": meets.format(me=2, other=1), "3": "print('alone')"}
    write_notebooks(tmp_path / "notebooks", **codes)
    assert run.run_notebooks(tmp_path / "notebooks", tmp_path / "executed") == 0
    assert "All 3 notebooks ran in" in capfd.readouterr().out
    assert all("threads 2" in (tmp_path / f"executed/{name}.ipynb").read_text() for name in "12")


def test_a_failure_ends_the_notebooks_beside_it_and_their_kernels(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    endless = "import os, time\nopen('kernel', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    fails = "import os, time\nwhile not os.path.exists('kernel'):\n    time.sleep(0.05)\n1 / 0"
    write_notebooks(tmp_path / "notebooks", **{"1": endless, "2": fails})
    start = time.monotonic()
    assert run.run_notebooks(tmp_path / "notebooks", tmp_path / "executed").startswith("2.ipynb failed")
    kernel = int((tmp_path / "notebooks/kernel").read_text())
    with pytest.raises(OSError):
        os.kill(kernel, 0)
    assert time.monotonic() - start < 300


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches a group of processes")
def test_ctrl_c_ends_every_notebook_and_its_kernel(tmp_path):
    endless = "import os, time\nopen('kernel{}', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    write_notebooks(tmp_path / "notebooks", **{name: endless.format(name) for name in "12"})
    code = f"""
import os
import runpy
import signal
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background work ignores Ctrl-C
os.cpu_count = lambda: 2
run = runpy.run_path({str(ROOT / "run.py")!r})
run["run_notebooks"](Path({str(tmp_path / "notebooks")!r}), Path({str(tmp_path / "executed")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True)
    started = [tmp_path / "notebooks" / f"kernel{name}" for name in "12"]
    while not all(file.exists() and file.read_text() for file in started):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    assert process.returncode and said.count("KeyboardInterrupt") == 1, said
    for file in started:
        with pytest.raises(OSError):
            os.kill(int(file.read_text()), 0)


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
