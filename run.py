#!/usr/bin/env python3
"""Run the KDPL notebooks: Python 3.10 or newer is all you need, the rest is fetched once.

    python3 run.py                   set up what is missing, open JupyterLab; without a screen, as execute
    python3 run.py execute           set up what is missing, run every notebook
    python3 run.py test [arguments]  set up what is missing, run the tests; the arguments go to pytest
    python3 run.py docs              the notebooks as pages to read, in docs/_build/html
    python3 run.py --help            show this text

The environment is made in .venv, or in the folder that KDPL_VENV names: up to 7 GB, once. uv installs into it, and
where uv cannot, pip does.
Executed notebooks are written to executed/; those in notebooks/ stay as they are.
Whatever is cut short goes on with the same command.
"""

import ast
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENV = Path(os.environ.get("KDPL_VENV") or ROOT / ".venv").expanduser().absolute()
PYTHON = ENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
UV = [str(PYTHON.parent / ("uv.exe" if os.name == "nt" else "uv"))]
PIP = [str(PYTHON), "-m", "pip"]
OURS = ENV / ".made-by-run-py"  # a folder without it is never deleted
STAMP = ENV / ".kdpl-installed"  # what was installed; written only when all of it was
INSTALLING = "unfinished"
# What pip may have been told of where packages come from, and how uv is told the same.
PIP_TO_UV = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}
AT_ONCE = 4  # notebooks, at most: each needs some 1.5 GB of memory
COMMANDS = ("execute", "test", "docs", "--help")


class Progress:
    """One line that keeps changing on a terminal, a line every ``every`` seconds elsewhere."""

    def __init__(self, every=20):
        self.start = self.last = time.monotonic()
        self.every, self.live = every, sys.stdout.isatty()

    def seconds(self):
        return round(time.monotonic() - self.start)

    def __str__(self):
        return "{}:{:02}".format(*divmod(self.seconds(), 60))

    def show(self, text):
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + f"  {self}  {text}"[:width].ljust(width), end="", flush=True)
        elif time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            print(f"  {self}  {text}", flush=True)

    def end(self, text):
        """The last state of the line stays."""
        if self.live:
            print("\r" + " " * (shutil.get_terminal_size().columns - 1), end="\r")
        print(text, flush=True)


def set_up():
    """Make the environment and install the project into it, as far as that is not done."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()
    if not works() or half_unpacked():
        make_environment()
    elif STAMP.exists() and STAMP.read_text().strip() == wanted:
        return
    install([f"--editable={ROOT}[test]"])
    STAMP.write_text(wanted + "\n")


def half_unpacked():
    """Whether an installation was stopped at a time when packages may be half there, in an environment of ours."""
    return OURS.exists() and STAMP.exists() and STAMP.read_text().strip() == INSTALLING


def works():
    """Whether there is a whole environment: its Python starts and has pip."""
    try:
        return subprocess.run([str(PYTHON), "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:  # no such file, or no program any more because the Python it was made with is gone
        return False


def make_environment():
    if ENV.exists() and not OURS.exists() and (not ENV.is_dir() or any(ENV.iterdir())):
        sys.exit(f"{ENV} exists but is no working environment made by run.py: remove it, or set KDPL_VENV elsewhere.")
    print(f"Making an environment with Python {sys.version.split()[0]} in {ENV}", flush=True)
    try:
        if ENV.exists():
            shutil.rmtree(str(ENV))
        ENV.mkdir(parents=True)
        OURS.touch()
        venv.create(str(ENV), with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(
            f"Could not make the environment in {ENV} ({error}): is the disk full, or on Debian and Ubuntu "
            "'apt-get install python3-venv' missing?"
        )


class Failed(Exception):
    """An installer ended with an error; says which."""


def install(packages):
    """Install with uv, which takes a fraction of pip's time; with pip where uv cannot. What they say: install.log."""
    free = shutil.disk_usage(str(ENV)).free / 1e9
    print(f"Installing PyTorch, open_clip and JupyterLab: up to 7 GB on disk ({free:.0f} GB free), once.", flush=True)
    log, progress = [], Progress()
    try:
        follow([*PIP, "install", "uv"], PipSays(), log, progress)
        follow([*UV, "pip", "install", "--python", str(PYTHON), *of_pip(), *packages], UvSays(), log, progress)
        progress.end(f"Installed with uv in {progress} (minutes:seconds).")
        return
    except Failed as error:
        reason = str(error).splitlines()[0]
        progress.end(f"uv could not install it ({reason}), so pip does, which takes some minutes.")
    if half_unpacked():
        make_environment()
    try:
        follow([*PIP, "install", *packages], PipSays(), log, progress)
    except Failed as error:
        progress.end(str(error))
        sys.exit(
            f"The installation failed after {progress} (all that uv and pip said: {ENV / 'install.log'}). Check "
            "network and disk, then run the same command again: finished downloads are kept."
        )
    progress.end(f"Installed with pip in {progress} (minutes:seconds).")


def of_pip():
    """Where pip was told to find packages (a company's mirror, a folder), as arguments of uv, which does not ask it."""
    told = subprocess.run([*PIP, "config", "list"], stdout=subprocess.PIPE, encoding="utf-8").stdout
    settings = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    arguments = []
    for name, option in PIP_TO_UV.items():
        sections = [section for section in (":env:", "install", "global") if f"{section}.{name}" in settings]
        if sections:  # the first wins, as in pip
            values = ast.literal_eval(settings[f"{sections[0]}.{name}"]).split()
            arguments += [argument for value in values for argument in (option, value)]
    if "--index" in arguments:  # of all indexes the newest version, as pip takes it
        arguments += ["--index-strategy", "unsafe-best-match"]
    return arguments


def follow(command, says, log, progress):
    """Run an installer and show in one line what it is at. Raises ``Failed`` with its last words."""
    scratch = ENV / "tmp"  # /tmp is often too small for PyTorch
    scratch.mkdir(exist_ok=True)
    env = dict(os.environ, PYTHONUNBUFFERED="1", TMPDIR=str(scratch), NO_COLOR="1")
    env.update(PIP_USER="0", PIP_PROGRESS_BAR="off", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    first = len(log)
    try:
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise Failed(str(error)) from None
    try:
        for line in lines_of(process):
            log.append(line)
            progress.show(says.read(line))
    except BaseException:
        process.terminate()
        raise
    finally:
        code = process.wait()
        (ENV / "install.log").write_text("".join(log), encoding="utf-8")
        shutil.rmtree(str(scratch), ignore_errors=True)
    if code:
        said = [line.strip() for line in log[first:] if line.strip()]
        errors = [line for line in said if line.lower().startswith(("error", "×"))]
        raise Failed("\n".join(errors or said[-12:]) or f"it ended with status {code} and no word")
    if half_unpacked():  # not any more
        STAMP.unlink()


class PipSays:
    """What pip prints, line by line, as one line that says how far it is."""

    def __init__(self):
        self.text, self.found, self.megabytes = "starting pip", 0, 0.0
        self.total = self.before = 0

    def read(self, line):
        words = line.split()
        if line.startswith("Collecting "):
            self.found += 1
            self.text = f"{self.found} packages found"
        elif line.strip().startswith("Downloading "):
            size = re.search(r"\(([\d.]+) ([kMG])B\)", line)
            megabytes = float(size.group(1)) * {"k": 1e-3, "M": 1, "G": 1e3}[size.group(2)] if size else 0
            self.megabytes += megabytes
            name = words[1].rsplit("/", 1)[-1].split("-")[0]
            self.text = (
                f"{self.found} packages found, downloading {name} ({megabytes:.0f} MB; {self.megabytes:.0f} MB with it)"
            )
        elif line.startswith("Installing collected packages"):
            self.total, self.before = len(words) - 3, n_installed()
            STAMP.write_text(INSTALLING + "\n")
        if self.total:  # pip is silent now; a package's .dist-info is unpacked last
            self.text = f"unpacking package {min(self.total, n_installed() - self.before + 1)} of {self.total}"
        return self.text


class UvSays:
    """The same of uv, which downloads many packages at once and tells the sizes of the large ones."""

    def __init__(self):
        self.text, self.found, self.sizes, self.done = "starting uv", "", {}, set()

    def read(self, line):
        words = line.split()
        if line.startswith("Resolved "):
            self.found = f"{words[1]} packages found"
            self.text = self.fetching()  # small ones, and those on this disk, without a word
            STAMP.write_text(INSTALLING + "\n")
        elif line.startswith("Prepared "):
            self.text = f"{self.found}, unpacking"
        elif words[:1] == ["Downloading"]:
            size = re.search(r"\(([\d.]+)([KMG])iB\)", line)
            self.sizes[words[1]] = float(size.group(1)) * {"K": 1e-3, "M": 1, "G": 1e3}[size.group(2)] if size else 0
            self.text = self.fetching()
        elif words[:1] == ["Downloaded"]:
            self.done.add(words[1])
            self.text = self.fetching()
        return self.text

    def fetching(self):
        missing = [name for name in self.sizes if name not in self.done]
        if not missing:
            return f"{self.found}, fetching them"
        here = sum(self.sizes.get(name, 0) for name in self.done)
        return f"{self.found}, {here:.0f} of {sum(self.sizes.values()):.0f} MB here, downloading {', '.join(missing)}"


def lines_of(process):
    """What a process prints, line by line, and "" in every second of silence."""
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            line = ""
        if line is None:
            return
        yield line


def n_installed():
    site_packages = [*ENV.glob("lib/python3*/site-packages"), ENV / "Lib" / "site-packages"][0]
    return sum(1 for _ in site_packages.glob("*.dist-info"))


def in_environment(*arguments, **variables):
    """Run the environment's Python and give its exit status."""
    env = dict(os.environ, VIRTUAL_ENV=str(ENV), JUPYTER_PREFER_ENV_PATH="1", **variables)
    env["PATH"] = str(PYTHON.parent) + os.pathsep + env.get("PATH", "")
    env["PYTHONUTF8"] = "1"  # Windows would write and read files in an encoding of its own
    env.pop("MPLBACKEND", None)  # a backend with windows would stop the notebooks
    process = subprocess.Popen([str(PYTHON), *arguments], cwd=str(ROOT), env=env)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # it has had the Ctrl-C as well, and knows better how to end
            pass


def test(arguments):
    """pytest on all cores, one thread each: more threads than cores make the notebooks several times slower.

    Where no files are named, pytest takes the notebooks and the tests (testpaths in pyproject.toml).
    """
    cores = min(8, max(2, os.cpu_count() or 1))
    how = ["--nbmake", "--nbmake-kernel=python3", "--nbmake-timeout=1200", "-n", str(cores), "--dist", "worksteal"]
    return in_environment("-m", "pytest", *how, *arguments, OMP_NUM_THREADS="1")


def run_notebooks(notebooks, executed):
    """Inside the environment: run the notebooks, one on each core, at most ``AT_ONCE``; stop at the first failure."""
    paths, whole = sorted(notebooks.glob("*.ipynb")), Progress()
    if not paths:
        return f"There are no notebooks in {notebooks}: fetch the whole repository."
    executed.mkdir(exist_ok=True)
    cores = os.cpu_count() or 1
    at_once = min(AT_ONCE, cores)
    env = dict(os.environ, OMP_NUM_THREADS=str(cores // at_once))  # more threads than cores are several times slower
    waiting, running = list(paths), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                path = waiting.pop(0)
                command = [sys.executable, str(ROOT / "run.py"), "--one", str(path), str(executed / path.name)]
                running[path] = subprocess.Popen(command, env=env)
            time.sleep(0.1)
            for path in [path for path, process in running.items() if process.poll() is not None]:
                if running.pop(path).returncode:
                    for process in running.values():
                        process.terminate()
                    return f"{path.name} failed: the cell and its error are above, and in {executed / path.name}."
    finally:
        for process in running.values():  # Ctrl-C has reached them as well: each ends its kernel, and then itself
            process.wait()
    print(f"All {len(paths)} notebooks ran in {whole} (minutes:seconds). See their outputs in {executed}", flush=True)
    return 0


def run_notebook(path, executed):
    """Run one notebook in its own folder and write it with its outputs elsewhere; whether it ran to its end."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook, progress = nbformat.read(path, as_version=4), Progress(every=60)
    progress.show(f"{path.name} starts")

    def cell_starts(cell, cell_index):
        progress.show(f"{path.name} cell {cell_index + 1} of {len(notebook.cells)}")

    here = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources=here,
        on_cell_start=cell_starts,
        record_timing=False,
        extra_arguments=["--log-level=CRITICAL"],  # else each kernel warns that it listens on this machine
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError, AssertionError) as error:
        if hasattr(client, "_async_cleanup_kernel_future"):  # how nbclient answers Ctrl-C: it ends the kernel
            raise KeyboardInterrupt from None
        if isinstance(error, AssertionError):
            raise
        progress.end(f"{path.name} ... failed after {progress.seconds()} s\n\n{error}")
        return False
    finally:
        # A progress bar writes over itself hundreds of times; what stays is how it ended.
        notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
        nbformat.write(notebook, executed)
    progress.end(f"{path.name} ... {progress.seconds()} s ok")
    return True


def run_one(path, executed):
    """In a process of its own; whoever started it says why it was interrupted."""
    try:
        return 0 if run_notebook(path, executed) else 1
    except KeyboardInterrupt:
        return 130


def lab():
    """The arguments for Python that open JupyterLab at the first lesson."""
    first = min(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))
    arguments = [
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/notebooks/{first}",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--allow-root")
    return arguments


def has_screen():
    desktop = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(desktop) and sys.stdout.isatty()


def main(arguments):
    if sys.version_info < (3, 10):
        return f"The notebooks need Python 3.10 or newer, and this is {sys.version.split()[0]}."
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "--inside":  # run.py calls itself with the environment's Python
        return run_notebooks(ROOT / "notebooks", ROOT / "executed")
    if command == "--one":  # and run_notebooks with one of them
        return run_one(*map(Path, rest))
    if command in ("-h", "--help", "help"):
        print(__doc__.rstrip())
        return 0
    if command not in ("", *COMMANDS) or (rest and command != "test"):
        wrong = rest[0] if command in COMMANDS else command
        return f"run.py does not know {wrong!r} here: use it alone or with one of {', '.join(COMMANDS)}."
    set_up()
    if command == "test":
        return test(rest)
    if command == "docs":
        return in_environment(str(ROOT / "docs" / "build.py"))
    if command == "" and has_screen():
        print("Opening JupyterLab; Ctrl-C ends it.", flush=True)
        return in_environment(*lab())
    print("Running every notebook:", flush=True)
    failed = in_environment(str(ROOT / "run.py"), "--inside")
    if command == "" and not failed:
        print("No screen here, so JupyterLab stays closed. To open it: " + " ".join([str(PYTHON), *lab()]))
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("\nStopped. What is set up stays: start again with the same command.")
