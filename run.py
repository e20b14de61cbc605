#!/usr/bin/env python3
"""Run the KDPL notebooks. You need Python 3.10 or newer; everything else is installed once.

    python3 run.py                   install what is missing, open JupyterLab; without a display, same as execute
    python3 run.py execute           install what is missing, run every notebook; the results go to executed/
    python3 run.py test [arguments]  install what is missing, run all tests; the arguments go to pytest
    python3 run.py docs              install what is missing, build the pages in docs/_build/html
    --cpu                            in the first set-up: PyTorch's CPU build, about 1 GB instead of 6
    --tested                         the versions in constraints.txt, with which this release was tested

The environment is .venv, or the folder that KDPL_VENV names. After an interruption, repeat the command."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENV = Path(os.environ.get("KDPL_VENV") or ROOT / ".venv").expanduser().absolute()
PYTHON = ENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OURS = ENV / ".made-by-run-py"  # a folder without this file is never deleted
STAMP = ENV / ".kdpl-installed"  # what was installed completely
CONSTRAINTS = ROOT / "constraints.txt"
EXTRAS = {"": "notebooks", "execute": "notebooks", "test": "notebooks,test,docs", "docs": "notebooks,docs"}
# These would install or load packages elsewhere, or open windows from a notebook.
REDIRECTIONS = "PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PIP_NO_DEPS PYTHONHOME PYTHONPATH MPLBACKEND"
PYTEST = "-m pytest --nbmake --nbmake-kernel=python3 --nbmake-timeout=1200 --dist=worksteal".split()
FIRST = "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"


def variables(**more):
    """Return the environment variables of a child process."""
    kept = {name: value for name, value in os.environ.items() if name not in REDIRECTIONS.split()}
    kept["PATH"] = str(PYTHON.parent) + os.pathsep + kept.get("PATH", "")
    return dict(kept, VIRTUAL_ENV=str(ENV), JUPYTER_PREFER_ENV_PATH="1", PYTHONUTF8="1", PIP_USER="0", **more)


def run(*command, **more):
    """Return whether a command of the set-up ended well."""
    try:
        return subprocess.run(list(map(str, command)), env=variables(TMPDIR=str(ENV)), **more).returncode == 0
    except OSError:  # the program is missing
        return False


def set_up(extras, cpu, tested):
    """Make the environment and install the project into it, unless that is done."""
    works = run(PYTHON, "-c", "import pip", stderr=subprocess.DEVNULL)
    done = set(STAMP.read_text().split()) if STAMP.exists() and works else set()
    versions = CONSTRAINTS.read_bytes() if tested else b""
    if stamps(extras, versions) <= done:
        return
    if done:
        STAMP.unlink()
    elif OURS.exists() or not works:
        make_environment()
    install([f"--editable={ROOT}[{extras}]"] + (["--constraint", CONSTRAINTS] if tested else []), cpu)
    STAMP.write_text("\n".join(done | stamps(extras, versions) | stamps(extras, b"")))


def stamps(extras, versions):
    whole = (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode() + versions
    return {hashlib.sha256(whole + extra.encode()).hexdigest()[:16] for extra in extras.split(",")}


def make_environment():
    if ENV.exists() and not OURS.exists() and (not ENV.is_dir() or any(ENV.iterdir())):
        sys.exit(f"{ENV} exists, but run.py did not make it: remove it, or set KDPL_VENV to another folder.")
    shutil.rmtree(str(ENV), ignore_errors=True)
    try:
        ENV.mkdir(parents=True, exist_ok=True)
        OURS.touch()
        venv.create(str(ENV), with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"Cannot make {ENV} ({error}). Check the disk; Debian and Ubuntu need 'apt install python3-venv'.")


def install(packages, cpu):
    """Install with uv, or with pip if uv cannot, and check that the result can be imported."""
    print(f"Installing PyTorch and JupyterLab in {ENV}: about {1 if cpu else 6} GB, once.", flush=True)
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    uv = [PYTHON.parent / "uv", "pip", "install", "--python", PYTHON, *pip_settings()]
    run(*pip, "--quiet", "uv")
    installed = cpu and run(*uv, "--torch-backend", "cpu", *packages)
    if cpu and not installed:
        print("PyTorch's CPU build cannot be fetched (see above); the usual build follows.", flush=True)
    if not (installed or run(*uv, *packages) or run(*pip, *packages)):
        sys.exit("The installation failed (see above). Check network and disk, then run the same command again.")
    if not run(PYTHON, "-I", "-c", "import torch, jupyterlab, kdpl_utils"):
        sys.exit(f"The packages cannot be imported from {ENV} (see above). Do pip's settings install elsewhere?")


def pip_settings():
    """Return pip's settings of mirrors and folders as arguments of uv, which does not read them."""
    listed = subprocess.check_output([str(PYTHON), "-m", "pip", "config", "list"], env=variables()).decode()
    arguments = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):  # the last counts, as in pip
        name, value = line.partition(".")[2].split("=", 1)
        option = {"index-url": "--default-index", "extra-index-url": "--index"}.get(name, f"--{name}")
        if option in ("--default-index", "--index", "--find-links", "--constraint"):
            arguments[option] = [part for one in ast.literal_eval(value).split() for part in (option, one)]
    return ["--index-strategy", "unsafe-best-match", *sum(arguments.values(), [])]  # pip takes the newest of all too


def call(*arguments, threads=1):
    """Run the environment's Python; more threads than cores make notebooks several times slower."""
    command = [str(PYTHON), *map(str, arguments)]
    process = subprocess.Popen(command, cwd=str(ROOT), env=variables(OMP_NUM_THREADS=str(threads)))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the child receives Ctrl-C too, and ends in its own way
            pass


def main(arguments):
    if sys.version_info < (3, 10):
        return f"The notebooks need Python 3.10 or newer; this is Python {sys.version.split()[0]}."
    command, *rest = [argument for argument in arguments if argument not in ("--cpu", "--tested")] or [""]
    if command == "--help":
        return print(__doc__.rstrip())
    if command not in EXTRAS or (rest and command != "test"):
        return f"run.py does not know {(rest or [command])[0]!r} here; python3 run.py --help lists the commands."
    set_up(EXTRAS[command], "--cpu" in arguments, "--tested" in arguments)
    cores = os.cpu_count() or 1
    if command == "test":
        return call(*PYTEST, "--timeout=1200", f"-n{min(8, max(2, cores))}", *rest)
    if command == "docs":
        return call(ROOT / "docs" / "build.py", threads=cores)
    screen = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    root = ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
    lab = ["-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", FIRST, *root]
    if command == "" and screen and sys.stdout.isatty():
        return call(*lab, threads=cores)
    (ROOT / "executed").mkdir(exist_ok=True)
    copies = [shutil.copy(str(path), str(ROOT / "executed")) for path in sorted(ROOT.glob("notebooks/*.ipynb"))]
    at_once = min(4, cores)  # each notebook needs about 1.5 GB of memory
    print(f"The results go to {ROOT / 'executed'}. To open JupyterLab: {' '.join([str(PYTHON), *lab])}", flush=True)
    return call(*PYTEST, "--overwrite", "-v", f"-n{at_once}", *copies, threads=cores // at_once)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\nStopped: the same command starts again.")
