"""The command line: ``kdpl``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ..support.disk import as_path
from ..support.markdown import one_line, without_controls
from ..support.values import whole

SEVERAL = {"nargs": "+", "action": "extend"}  # also in pieces: --names cat --names dog are two names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what the user did wrong is a sentence and status 2, what was lost on the way is 1, Ctrl-C 130."""
    from ..experiments.slurm import RunsFailed

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this
            setattr(sys, name, open(os.devnull, "w"))
        if hasattr(getattr(sys, name), "reconfigure"):  # a console without these letters shows "?" instead of an error
            getattr(sys, name).reconfigure(errors="replace")
    args = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return args.run(args)
    except RunsFailed as error:
        _complain(args.command, error)
        return 1
    except KeyboardInterrupt:
        goes_on = "; the same command goes on" if args.command in ("adapt", "reproduce") else ""
        _complain(args.command, f"stopped{goes_on}")
        return 130  # as shells say it
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError, MemoryError) as error:
        _complain(args.command, error)
        return 2


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    kdpl = argparse.ArgumentParser(prog="kdpl", description="Prompt learning for CLIP without labels.")
    commands = kdpl.add_subparsers(dest="command", required=True, metavar="command")
    for add in (_add_adapt, _add_predict, _add_inspect, _add_reproduce, _add_check, _add_worlds):
        add(commands)
    return kdpl


def _say(line: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    line = without_controls(line).encode(encoding, "backslashreplace").decode(encoding)  # a path may be no text
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has seen enough, as "| head" has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would raise once more at the end
        raise SystemExit(128 + 13) from None  # as shells say it of a program that the pipe ended


def _complain(command: str, what: object) -> None:
    """One line; what a file is called does nothing to the console."""
    sys.stderr.write(f"kdpl {command}: {one_line(str(what))}\n")


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """The sentence alone: where in the package it was said helps no user.

    Pillow's own name no file; of a picture that cannot be read it is said anyhow, with its name.
    """
    if Path(filename).parent.name == "PIL":
        return
    sys.stderr.write(f"kdpl: {one_line(str(message))}\n")


# --- worlds --------------------------------------------------------------------------------------------------------


def _add_worlds(commands) -> None:
    command = commands.add_parser("worlds", help="list the data sets that are known by name")
    command.set_defaults(run=_worlds)


def _worlds(args: argparse.Namespace) -> int:
    from ..worlds.load import world_names

    _say("\n".join(world_names()))
    return 0


# --- check ---------------------------------------------------------------------------------------------------------


def _add_check(commands) -> None:
    command = commands.add_parser(
        "check",
        help="prove the real track on this machine, against published numbers",
        description="Compare zero-shot CLIP with published numbers, and a KDPL step with a recorded one. What is wrong "
        "is told with its likely cause, what could not be fetched with where to put it.",
    )
    command.add_argument(
        "--model", type=_model, **SEVERAL, help="name/weights, or name//path/to/file (default: OpenAI's RN50, ViT-B/32)"
    )
    command.add_argument("--world", **SEVERAL, help="data sets (default: some small ones)")
    command.add_argument("--root", help="folder of the real data sets (default: $KDPL_DATA)")
    command.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from .check import MODELS, WORLDS, check

    return 0 if check(args.model or MODELS, args.world or WORLDS, args.root, _say) else 1


# --- own pictures --------------------------------------------------------------------------------------------------


def _add_adapt(commands) -> None:
    from ..experiments.training import MODES
    from ..learners import LEARNERS

    command = commands.add_parser(
        "adapt",
        help="learn prompts from a folder of your pictures, without labels",
        description="Learn prompts from a folder of pictures: a subfolder for each class, or just pictures with "
        "--names for what may be in them, or without any names (the teacher then picks them from a dictionary).",
    )
    command.add_argument("folder", help="or webdataset shards, in quotes: 'train-{000..146}.tar'")
    command.add_argument("--out", required=True, help="folder for prompts, classifier and model card")
    _add_names(command)
    command.add_argument("--mode", choices=MODES)
    command.add_argument("--learner", default="coop", choices=LEARNERS)
    command.add_argument("--student", type=_model, help="name/weights (default: ViT-B-32-quickgelu/openai)")
    command.add_argument("--teacher", type=_model, help="name/weights (default: ViT-L-14-quickgelu/openai)")
    command.add_argument("--dictionary", default="imagenet21k", help="imagenet21k, open_images, or a file of names")
    command.add_argument("--templates", help="a JSON file from class names to sentences about them, for the teacher")
    command.add_argument("--epochs", type=int)
    command.add_argument("--lr", type=float)
    command.add_argument("--views", type=int, default=0, help="random crops of each picture (default: none)")
    _add_precision(command)
    command.add_argument("--labels", type=float, default=0.0, help="share of labels, 0 to 1, that kdpl learns from too")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--onnx", action="store_true", help="also write image tower and classifier as ONNX")
    command.set_defaults(run=_adapt)


def _adapt(args: argparse.Namespace) -> int:
    from ..vlm import TEMPLATE
    from .adapt import adapt_folder

    adapted = adapt_folder(
        args.folder, args.out, _class_names(args), args.mode, args.learner, args.student, args.teacher, args.epochs,
        args.lr, views=args.views, labels=args.labels, precision=args.precision, seed=args.seed,
        onnx=args.onnx, dictionary=args.dictionary, labelled=False if args.flat else None,
        templates=args.templates or (TEMPLATE,), report=_say,
    )  # fmt: skip
    _say("\n".join(f"{what}: {value:.1f} %" for what, value in adapted.measured.items()))
    _say("\n".join(f"written: {path}" for path in adapted.files.values()))
    return 0


def _add_predict(commands) -> None:
    command = commands.add_parser("predict", help="name what is in pictures, with a file that adapt wrote")
    command.add_argument("file", help="classifier.safetensors, or learned.safetensors")
    command.add_argument("pictures", nargs="+", help="files, or folders of them")
    command.add_argument("--student", type=_model, help="the model it belongs to, if its weights came from a file")
    command.add_argument("--teacher", type=_model, help="of a PromptKD: no file can hold it")
    _add_names(command, of_a_folder=False)
    command.add_argument("--top", type=int, default=3)
    command.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    from .predict import named_pictures, predictor

    top = whole(args.top, "--top", 1)
    predict = predictor(args.file, args.student, _class_names(args), args.teacher)
    status = 0
    for path, row, problem in named_pictures(lambda images: predict(images, top), args.pictures):
        if problem:  # of one picture: the others are named all the same
            status = 2
            _complain("predict", problem)
        else:
            _say(f"{one_line(path)}: " + ", ".join(f"{one_line(name)} {p:.0%}" for name, p in row))
    return status


def _add_inspect(commands) -> None:
    command = commands.add_parser(
        "inspect",
        help="show in a browser where two models differ on your pictures",
        description="Write one HTML page about a folder of pictures: those on which teacher and student differ most, "
        "what both say, and how well calibrated and how right they are where subfolders are labels. The page is "
        "complete in itself: it needs neither a network nor this program.",
    )
    command.add_argument("folder", help="pictures; those in a subfolder are labelled by its name")
    command.add_argument("--teacher", type=_model, help="name/weights (default: ViT-L-14-quickgelu/openai)")
    command.add_argument("--student", type=_model, help="name/weights (default: ViT-B-32-quickgelu/openai)")
    command.add_argument("--learned", help="a file that adapt wrote: shows its student before and after")
    _add_names(command)
    command.add_argument(
        "--dictionary", help="imagenet21k, open_images, or a file of names, of which the teacher chooses (default "
        "where there are neither names nor subfolders: imagenet21k)",
    )  # fmt: skip
    command.add_argument("--k", type=int, default=100, help="names chosen from a dictionary (default: 100)")
    command.add_argument("--scale", default="own", choices=("own", "student"), help="of the teacher's logits")
    _add_precision(command)
    command.add_argument("--most", type=int, default=200, help="pictures in the page, at most (default: 200)")
    command.add_argument("--out", default="inspect.html", help="the page (default: inspect.html)")
    command.add_argument("--no-open", action="store_true", help="do not open the page in the browser")
    command.set_defaults(run=_inspect)


def _inspect(args: argparse.Namespace) -> int:
    from .inspect_folder import inspect_folder

    path = inspect_folder(
        args.folder, args.out, args.teacher, args.student, args.learned, _class_names(args), args.dictionary, args.k,
        args.most, args.scale, args.precision, labelled=False if args.flat else None, report=_say,
    )  # fmt: skip
    _say(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if not args.no_open and not _opened(path):
        _say(f"To look at it, open {path.resolve().as_uri()} in a browser.")
    return 0


def _opened(path: Path) -> bool:
    """Show a page in the browser; not where there is no screen, as a browser of text would take over the shell."""
    desktop = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(desktop) and webbrowser.open(path.resolve().as_uri())


def _add_names(command, of_a_folder: bool = True) -> None:
    command.add_argument("--names", **SEVERAL, help="class names")
    command.add_argument("--names-file", help="a text file with a class name a line")
    if of_a_folder:
        command.add_argument(
            "--flat", action="store_true", help="subfolders are no classes: all pictures are unlabelled"
        )


def _class_names(args: argparse.Namespace) -> list[str] | None:
    """The class names that were typed, or those of the file; those between commas are several."""
    from ..worlds.dictionaries import read_names

    if args.names and args.names_file:
        raise ValueError("--names and --names-file are both there: give one of them.")
    if args.names_file is not None:
        path = as_path(args.names_file)
        if not path.is_file():
            raise FileNotFoundError(f"There is no names file {path}: give a text file with a class name a line.")
        names = read_names(path)
        if not names:
            raise ValueError(f"{path} has no class name in it: write one a line.")
        return names
    typed = args.names or []
    # banana, beer mug, bottle: the shell has cut it at the spaces, and a comma ends each name but the last.
    if any(name.endswith(",") for name in typed) or (len(typed) == 1 and "," in typed[0]):
        names = [name.strip() for name in " ".join(typed).split(",") if name.strip()]
        _say(f"--names is read as {len(names)} names: {' | '.join(one_line(name) for name in names)}")
        return names
    return args.names


# --- reproduce -----------------------------------------------------------------------------------------------------


def _model(text: str) -> tuple[str, str | None]:
    from ..loading import model_pair

    return model_pair(text)


def _add_precision(command) -> None:
    command.add_argument(
        "--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of frozen weights; bf16 suits a GPU"
    )


def _add_reproduce(commands) -> None:
    from ..experiments.plan import TABLES
    from ..experiments.training import MODES
    from ..learners import LEARNERS

    command = commands.add_parser(
        "reproduce",
        help="train and test prompt learners as the paper does; goes on where it was stopped",
        description="Train and test prompt learners as the paper does. What is complete is skipped, so the same "
        "command goes on where it was stopped. The published settings are the defaults.",
    )
    command.add_argument("--table", default="base-to-novel", choices=TABLES)
    command.add_argument(
        "--world", **SEVERAL, help="the data set to train on (kdpl worlds lists them; default: emoji), or several, "
        "which get a table each and one of their averages",
    )  # fmt: skip
    command.add_argument(
        "--targets", **SEVERAL, default=[], help="data sets to test on, for --table cross-dataset (default: the "
        "paper's ten for imagenet, the other groups for a group of the emoji world)",
    )  # fmt: skip
    command.add_argument("--learner", **SEVERAL, choices=LEARNERS, help="default: the paper's five")
    command.add_argument(
        "--mode", **SEVERAL, choices=MODES, help="default: the paper's three; the others "
        "are controls without labels",
    )  # fmt: skip
    command.add_argument("--seeds", type=int, default=3, help="how many, from 1 on (default: 3)")
    command.add_argument("--shots", type=int, **SEVERAL, help="pictures a class (default: 16)")
    command.add_argument("--labelled", type=float, help="share of labels, 0 to 1, that kdpl learns from as well")
    command.add_argument("--student", type=_model, help="name/weights, e.g. RN50-quickgelu/openai")
    command.add_argument("--teacher", type=_model, **SEVERAL, help="one, or several to be averaged")
    _add_precision(command)
    command.add_argument("--scale", choices=("student", "own"), help="of the teacher's logits (default: student)")
    command.add_argument("--k", type=int, help="names kept for a batch without class names")
    command.add_argument("--views", type=int, help="crops of each picture, drawn once; 0: pictures as they are")
    command.add_argument("--epochs", type=int)
    command.add_argument("--batch-size", type=int)
    command.add_argument("--lr", type=float)
    command.add_argument("--out", default="results", help="folder of all runs (default: results)")
    command.add_argument("--root", help="folder of the real data sets (default: $KDPL_DATA)")
    command.add_argument("--workers", type=int, help="processes side by side (default: one for each GPU)")
    command.add_argument("--cluster", choices=("slurm", "local"), help="send the runs to a cluster (submitit)")
    command.add_argument(
        "--slurm", **SEVERAL, default=[], metavar="KEY=VALUE", help="what each job asks for: cpus_per_task, "
        "gpus_per_node, mem_gb, timeout_min, or an option of sbatch, as partition=… or account=…",
    )  # fmt: skip
    command.set_defaults(run=_reproduce)


def _reproduce(args: argparse.Namespace) -> int:
    from ..experiments import run, tables
    from ..experiments.plan import plan
    from ..experiments.slurm import RunsFailed
    from ..experiments.terms import LEGEND
    from ..experiments.training import PAPER_MODES
    from ..learners import PROMPT_LEARNERS

    whole(args.seeds, "--seeds", 1)
    if args.workers is not None:
        whole(args.workers, "--workers", 1)
    worlds = list(dict.fromkeys(args.world or ["emoji"]))  # one that is named twice would count twice in the average
    learners = args.learner or list(PROMPT_LEARNERS)
    modes = args.mode or list(PAPER_MODES)
    shots = args.shots or ([1, 2, 4, 8, 16] if args.table == "few-shot" else [16])
    fields = ("student", "scale", "k", "views", "labelled", "precision", "epochs", "batch_size", "lr")
    options = {field: getattr(args, field) for field in fields}
    plans = [
        plan(
            args.table, world, learners, modes, range(1, args.seeds + 1), shots, args.targets, args.root,
            teachers=args.teacher and tuple(args.teacher), **options,
        )
        for world in worlds
    ]  # fmt: skip
    failure = None
    try:
        run.run(
            [pair for pairs in plans for pair in pairs], args.out, args.root, args.workers, args.cluster, _say,
            _slurm_options(args.slurm),
        )  # fmt: skip
    except RunsFailed as error:  # what is complete has its table all the same
        failure = error
    title = "top-1 in per cent, mean ± standard deviation over seeds"
    for world, pairs in zip(worlds, plans):
        _say(f"\n{args.table}, {world}, {title}\n\n{_markdown(tables.table_rows(pairs, args.out))}")
    if len(plans) > 1:
        rows = _markdown(tables.average_rows(plans, args.out))
        _say(f"\n{args.table}, average of {len(plans)} data sets, {title}\n\n{rows}")
    _say(f"\n{LEGEND}")
    for title, rows in tables.paper_rows(args.table):
        _say(f"\n{title} (paper, not run here)\n\n{_markdown(rows)}")
    if failure:
        raise failure
    return 0


def _slurm_options(given: Sequence[str]) -> dict[str, object]:
    """``partition=gpu`` → slurm_partition, but for what submitit names alike for every cluster; numbers as such."""
    options: dict[str, object] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (key and equals and value):
            raise ValueError(f"--slurm {one}: write KEY=VALUE, as in --slurm partition=gpu gpus_per_node=1.")
        alike = key in ("cpus_per_task", "gpus_per_node", "mem_gb", "timeout_min", "nodes")
        options[key if alike else f"slurm_{key}"] = int(value) if value.isdigit() else value
    return options


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    """A Markdown table whose columns are those of any row."""
    head = list(dict.fromkeys(column for row in rows for column in row))
    lines = [head, ["---"] * len(head), *([row.get(column, "") for column in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
