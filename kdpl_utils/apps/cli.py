"""The command line, ``kdpl``: each function is a command, and its docstring the help. torch is imported inside."""

from __future__ import annotations

import os
import re
import sys
import warnings
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from ..choices import LEARNERS, MODES, PAPER_MODES, PROMPT_LEARNERS, TABLES
from ..support.version import __version__

HELP = "Prompt learning for CLIP without labels."
app = App(name="kdpl", help=HELP, version=__version__, suppress_keyboard_interrupt=False)
Several = Parameter(consume_multiple=True, negative="")  # --names cat dog, or --names cat --names dog
Strings = Annotated[list[str] | None, Several]
Names = Annotated[Strings, Parameter(help="class names")]
NamesFile = Annotated[Path | None, Parameter(help="a text file with a class name a line")]
Flat = Annotated[bool, Parameter(negative="", help="subfolders are not classes: all pictures are unlabelled")]
Student = Annotated[str | None, Parameter(help="name/weights (default: ViT-B-32-quickgelu/openai)")]
Teacher = Annotated[str | None, Parameter(help="name/weights (default: ViT-L-14-quickgelu/openai)")]
Precision = Annotated[Literal["fp32", "bf16", "fp16"], Parameter(help="of frozen weights; bf16 suits a GPU")]
Fraction = Annotated[float, Parameter(help="share of labels, 0 to 1, that kdpl learns from as well")]
Root = Annotated[str | None, Parameter(help="folder of the real data sets (default: $KDPL_DATA)")]
LearnerName = Literal[tuple(LEARNERS)]
Mode = Literal[tuple(MODES)]
AdaptMode = Literal["kdpl", "kdpl-ca", "labels", "promptkd"]


@app.command
def worlds() -> None:
    """List the data sets that are known by name."""
    from ..worlds.load import world_names

    print("\n".join(world_names()))


@app.command
def check(*, model: Strings = None, world: Strings = None, root: Root = None) -> int:
    """Compare zero-shot CLIP with published numbers.

    It reports the likely cause of a mismatch, and where missing files belong.

    Args:
        model: name/weights, or name//path/to/file (default: OpenAI's RN50 and ViT-B/32).
        world: data sets (default: some small ones).
    """
    from .check import MODELS, WORLDS, check

    return 0 if check(model or MODELS, world or WORLDS, root, _say) else 1


@app.command
def adapt(
    folder: str,
    /,
    *,
    out: Path,
    names: Names = None,
    names_file: NamesFile = None,
    flat: Flat = False,
    mode: AdaptMode | None = None,
    learner: LearnerName = "coop",
    student: Student = None,
    teacher: Teacher = None,
    dictionary: str = "imagenet21k",
    templates: Strings = None,
    epochs: int | None = None,
    lr: float | None = None,
    k: int | None = None,
    precision: Precision = "fp32",
    label_fraction: Fraction = 0.0,
    seed: int = 0,
) -> None:
    """Learn prompts from a folder of your pictures, without labels.

    Give a subfolder for each class; or just pictures, with --names for what may be in them; or just pictures, and the
    teacher picks names from a dictionary.

    Args:
        folder: your pictures.
        out: folder for prompts, classifier and model card.
        mode: the supervision (default: kdpl, or kdpl-ca without names).
        dictionary: imagenet21k, open_images, or a file of names.
        templates: sentences with {} for the name, averaged (default: "a photo of a {}.").
        k: names picked for a batch (default: as many as there are classes).
    """
    from ..clip.words import TEMPLATE
    from .adapt import adapt_folder

    adapted = adapt_folder(
        folder, out, _class_names(names, names_file), mode, learner, student, teacher, epochs, lr, k or 0,
        label_fraction, precision, seed, dictionary, False if flat else None, templates or (TEMPLATE,), _say,
    )  # fmt: skip
    _say("\n".join(f"{what}: {value:.1f} %" for what, value in adapted.measured.items()))
    _say("\n".join(f"written: {path}" for path in adapted.files.values()))


@app.command
def predict(
    file: str,
    pictures: Annotated[list[str], Parameter(consume_multiple=True)],
    /,
    *,
    student: str | None = None,
    teacher: str | None = None,
    names: Names = None,
    names_file: NamesFile = None,
    top: int = 3,
) -> int:
    """Classify pictures with a file that adapt wrote.

    Args:
        file: classifier.safetensors, or learned.safetensors.
        pictures: files, or folders of them.
        student: the model it belongs to, if its weights came from a file.
        teacher: the teacher of a PromptKD, which no file can hold.
        names: other class names, for learned.safetensors.
        top: names shown of each picture.
    """
    from .predict import classify_pictures, predictor

    if top < 1:
        raise ValueError(f"--top is {top}: give 1 or more.")
    classify = predictor(file, student, _class_names(names, names_file), teacher)
    status = 0
    for path, row, problem in classify_pictures(lambda images: classify(images, top), pictures):
        if problem:  # the other pictures are classified all the same
            status = 2
            _complain(problem)
        else:
            _say(f"{path}: " + ", ".join(f"{name} {p:.0%}" for name, p in row))
    return status


@app.command
def inspect(
    folder: str,
    /,
    *,
    teacher: Teacher = None,
    student: Student = None,
    learned: Path | None = None,
    names: Names = None,
    names_file: NamesFile = None,
    flat: Flat = False,
    dictionary: str | None = None,
    k: int = 100,
    scale: Literal["own", "student"] = "own",
    precision: Precision = "fp32",
    most: int = 200,
    out: Path = Path("inspect.html"),
    no_open: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show in a browser where two models differ on your pictures.

    Write one HTML page about the pictures on which teacher and student differ most, what both predict, and how accurate
    and calibrated they are if subfolders are labels. The page needs neither a network nor this program.

    Args:
        folder: your pictures; those in a subfolder are labelled by its name.
        learned: a file that adapt wrote: shows its student before and after.
        dictionary: imagenet21k, open_images, or a file of names, from which the teacher picks (the default if there are
            neither names nor subfolders).
        k: names picked from a dictionary.
        scale: whose scale the teacher's logits have.
        most: pictures in the page, at most.
        out: the page.
        no_open: do not open the page in the browser.
    """
    from .inspect_folder import inspect_folder

    path = inspect_folder(
        folder, out, teacher, student, learned, _class_names(names, names_file), dictionary, k, most, scale, precision,
        False if flat else None, _say,
    )  # fmt: skip
    _say(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    # Without a screen a browser of text would take over the shell.
    has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not no_open and not (has_screen and webbrowser.open(path.resolve().as_uri())):
        _say(f"To look at it, open {path.resolve().as_uri()} in a browser.")


@app.command
def reproduce(
    *,
    table: Literal[TABLES] = "base-to-novel",
    world: Strings = None,
    targets: Strings = None,
    learner: Annotated[list[LearnerName] | None, Several] = None,
    mode: Annotated[list[Mode] | None, Several] = None,
    seeds: int = 3,
    shots: Annotated[list[int] | None, Several] = None,
    label_fraction: Fraction = 0.0,
    student: str | None = None,
    teacher: Strings = None,
    precision: Precision = "fp32",
    scale: Literal["student", "own"] | None = None,
    k: int | None = None,
    views: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    out: Path = Path("results"),
    root: Root = None,
    workers: int | None = None,
    cluster: Literal["slurm", "local"] | None = None,
    slurm: Strings = None,
) -> None:
    """Train and test prompt learners as the paper does.

    A finished run is never repeated, so the same command goes on where it was stopped. The published settings are the
    defaults.

    Args:
        world: the data sets to train on (kdpl worlds lists them; default: emoji); several also get a table of averages.
        targets: data sets to test on, for --table cross-dataset (default: the world's own).
        learner: (default: the paper's five)
        mode: the supervision (default: the paper's three).
        seeds: how many, from 1 on.
        shots: pictures a class (default: 16).
        student: name/weights, e.g. RN50-quickgelu/openai.
        teacher: one, or several to be averaged.
        scale: whose scale the teacher's logits have (default: student).
        k: names kept for a batch without class names.
        views: crops of each picture, drawn once; 0 takes the pictures as they are.
        out: folder of all runs.
        workers: processes side by side (default: one for each GPU).
        cluster: send the runs to a cluster (submitit).
        slurm: KEY=VALUE that each job asks for: cpus_per_task, gpus_per_node, mem_gb, timeout_min, or an option of
            sbatch such as partition.
    """
    from ..experiments import RunsFailedError, run, tables
    from ..experiments.plan import plan
    from ..experiments.provenance import LEGEND

    for option, value in {"--seeds": seeds, "--workers": workers}.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}: give 1 or more.")
    if table != "few-shot" and shots and len(shots) > 1:
        raise ValueError("Several --shots need --table few-shot.")
    if targets and table != "cross-dataset":
        raise ValueError("--targets needs --table cross-dataset.")
    if slurm and not cluster:
        raise ValueError("--slurm needs --cluster slurm.")
    worlds = list(dict.fromkeys(world or ["emoji"]))  # a world that is named twice would count twice in the average
    shots = shots or ([1, 2, 4, 8, 16] if table == "few-shot" else [16])
    plans = [
        plan(
            table, name, learner or list(PROMPT_LEARNERS), mode or list(PAPER_MODES), range(1, seeds + 1), shots,
            targets or [], root, student=student, teachers=tuple(teacher) if teacher else None, scale=scale, k=k,
            views=views, label_fraction=label_fraction, precision=precision, epochs=epochs, batch_size=batch_size,
            lr=lr,
        )
        for name in worlds
    ]  # fmt: skip
    failure = None
    try:
        run.run([pair for pairs in plans for pair in pairs], out, root, workers, cluster, _say, _slurm_options(slurm))
    except RunsFailedError as error:  # finished runs have their table all the same
        failure = error
    title = "top-1 in per cent, mean ± standard deviation over seeds"
    for name, pairs in zip(worlds, plans):
        _say(f"\n{table}, {name}, {title}\n\n{_markdown(tables.table_rows(pairs, out))}")
    if len(plans) > 1:
        rows = tables.average_rows(plans, out)
        _say(f"\n{table}, average of {len(plans)} data sets, {title}\n\n{_markdown(rows)}")
    _say(f"\n{LEGEND}")
    for title, rows in tables.paper_rows(table):
        _say(f"\n{title} (paper, not run here)\n\n{_markdown(rows)}")
    if failure:
        raise failure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. A user's mistake is one sentence and status 2, a failed run 1, Ctrl-C 130."""
    from ..experiments import RunsFailedError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console without these letters shows "?" in place of an error
            stream.reconfigure(errors="replace")
    mistakes = (ValueError, OSError, ModuleNotFoundError, FloatingPointError, CycloptsError)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
        except KeyboardInterrupt:
            _complain("stopped; what is finished is not repeated by the same command")
            return 130
        except RunsFailedError as error:
            _complain(str(error))
            return 1
        except mistakes as error:
            _complain(_in_own_syntax(error))
            return 2


def _say(text: str) -> None:
    """Print lines; the name of a file or a class does nothing to the console."""
    print("".join(c if c.isprintable() or c == "\n" else "?" for c in text), flush=True)


def _complain(sentence: str) -> None:
    line = " ".join(sentence.split())
    print("kdpl: " + "".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    if Path(filename).parent.name != "PIL":  # Pillow's warnings name no file
        _complain(str(message))


def _in_own_syntax(error: Exception) -> str:
    """The sentence of an error, in which models are named as the command takes them."""
    said = str(error)
    own = re.sub(r"load_vlm\('([^']*)', '([^']*)'\)", r"\1/\2", said)
    if own != said and isinstance(error, FileNotFoundError):
        from ..clip.models import shipped_models

        own += f" These models need no download: {', '.join(shipped_models())}."
    return own


def _class_names(names: Sequence[str] | None, file: Path | None) -> list[str] | None:
    """The class names that were typed, or those of the file; names between commas are several."""
    from ..worlds.dictionaries import read_names

    if names and file:
        raise ValueError("Give --names or --names-file, not both.")
    if file:
        return read_names(file)
    # banana, beer mug, bottle: the shell has cut it at the spaces, and a comma ends each name but the last.
    if names and (any(name.endswith(",") for name in names) or (len(names) == 1 and "," in names[0])):
        names = [name.strip() for name in " ".join(names).split(",") if name.strip()]
        _say(f"--names is read as {len(names)} names: {' | '.join(names)}")
    return list(names) if names else None


def _slurm_options(given: Sequence[str] | None) -> dict[str, object]:
    """``partition=gpu`` → slurm_partition; submitit has one name for some options on every cluster."""
    options: dict[str, object] = {}
    for one in given or ():
        key, _, value = one.partition("=")
        if not key or not value:
            raise ValueError(f"--slurm {one}: write KEY=VALUE, as in --slurm partition=gpu gpus_per_node=1.")
        is_general = key in ("cpus_per_task", "gpus_per_node", "mem_gb", "timeout_min", "nodes")
        options[key if is_general else f"slurm_{key}"] = int(value) if value.isdigit() else value
    return options


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    """A Markdown table whose columns are those of any row."""
    head = list(dict.fromkeys(column for row in rows for column in row))
    lines = [head, ["---"] * len(head), *([row.get(column, "") for column in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
