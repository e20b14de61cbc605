"""The command line: what is typed is understood, and a mistake is one sentence."""

import subprocess
import sys
import warnings

import pytest

import kdpl_utils as kd
from kdpl_utils.apps import adapt, cli
from kdpl_utils.apps.cli import main


@pytest.mark.parametrize("arguments", [["--help"], ["adapt", "--help"], ["reproduce", "--help"], ["--version"]])
def test_help_does_not_wait_for_torch(arguments):
    code = f"import sys; from kdpl_utils.apps.cli import main; main({arguments}); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and (kd.__version__ in done.stdout or "kdpl" in done.stdout), done.stderr


def test_worlds_are_listed(capsys):
    assert main(["worlds"]) == 0
    assert set(capsys.readouterr().out.split()) == set(kd.world_names())


@pytest.fixture
def asked(monkeypatch):
    """Record the arguments of adapt_folder, which then does what a test says."""
    calls = []

    def adapt_folder(*arguments):
        calls.append(arguments)
        raise ValueError("Enough.")

    monkeypatch.setattr(adapt, "adapt_folder", adapt_folder)
    return calls


@pytest.mark.parametrize(
    "typed, names",
    [
        (["--names", "banana", "beer mug"], ["banana", "beer mug"]),
        (["--names", "banana", "--names", "beer mug"], ["banana", "beer mug"]),
        (["--names", "banana,", "beer", "mug"], ["banana", "beer mug"]),
        (["--names", "banana, beer mug"], ["banana", "beer mug"]),
        (["--names-file", "names.txt"], ["red panda", "ox"]),
        ([], None),
    ],
)
def test_names_are_understood(asked, tmp_path, monkeypatch, typed, names):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\ufeffred panda\n\nox\n", encoding="utf-8")
    assert main(["adapt", "pictures", "--out", "out", *typed]) == 2
    assert asked[0][2] == names


@pytest.mark.parametrize(
    "error, code, line",
    [
        (ValueError("Two\nlines \x1b[31mred."), 2, "kdpl: Two lines ?[31mred."),
        (FileNotFoundError("There is no folder x."), 2, "kdpl: There is no folder x."),
        (ModuleNotFoundError("No module named 'x'."), 2, "kdpl: No module named 'x'."),
        (FloatingPointError("The loss is nan."), 2, "kdpl: The loss is nan."),
        (KeyboardInterrupt(), 130, "kdpl: stopped; what is finished is not repeated by the same command"),
    ],
)
def test_an_error_is_one_line(error, code, line, monkeypatch, capsys):
    def fails(*arguments):
        raise error

    monkeypatch.setattr(adapt, "adapt_folder", fails)
    assert main(["adapt", "folder", "--out", "out"]) == code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(
    "typed, words",
    [
        (["adapt", "folder"], "--out"),
        (["adapt", "folder", "--out", "o", "--mode", "kdlp"], "kdlp"),
        (["adapt", "folder", "--out", "o", "--labels", "0.5"], "--label"),
        (["adapt", "folder", "--out", "o", "--names", "a", "b", "--names-file", "n.txt"], "not both"),
        (["predict", "classifier.safetensors", "a.jpg", "--top", "-1"], "--top is -1"),
        (["reproduce", "--seeds", "0"], "--seeds is 0"),
        (["reproduce", "--slurm", "partition", "--cluster", "slurm"], "KEY=VALUE"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_mistyped_command_is_one_line(typed, words, capsys):
    assert main(typed) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("kdpl: ") and error.count("\n") == 1


def test_errors_show_the_commands_own_syntax():
    error = FileNotFoundError("Load them from the file: load_vlm('RN50-quickgelu', '/path/to/file').")
    said = cli._in_own_syntax(error)
    assert "RN50-quickgelu//path/to/file" in said and "emoji-student-rn" in said and "load_vlm" not in said


def test_warnings_are_one_line(monkeypatch, capsys):
    def warns(*arguments):
        warnings.warn("Two\nlines.", stacklevel=1)
        raise ValueError("Enough.")

    monkeypatch.setattr(adapt, "adapt_folder", warns)
    assert main(["adapt", "folder", "--out", "out"]) == 2
    assert capsys.readouterr().err == "kdpl: Two lines.\nkdpl: Enough.\n"


def test_options_of_a_cluster():
    options = cli._slurm_options(["partition=gpu", "gpus_per_node=2", "mem_gb=32"])
    assert options == {"slurm_partition": "gpu", "gpus_per_node": 2, "mem_gb": 32}


def test_reproduce_prints_a_table_and_repeats_nothing(tmp_path, capsys):
    command = ["reproduce", "--world", "emoji/activities", "--learner", "coop", "--mode", "kdpl", "--seeds", "1"]
    command += ["--student", "emoji-student-rn", "--teacher", "emoji-teacher-small", "--epochs", "1", "--shots", "1"]
    command += ["--out", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "| CoOp | kdpl | 1 |" in first and "(paper, not run here)" in first
    assert main(command) == 0
    assert "0 of 2 runs are to be done." in capsys.readouterr().out
