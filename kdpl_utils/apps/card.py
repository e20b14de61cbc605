"""The model card that ``kdpl adapt`` writes."""

from __future__ import annotations

import json
from pathlib import Path

from ..experiments.training import Training
from ..learners import Learner
from ..support.disk import digest
from ..support.markdown import as_code, plain_words
from ..worlds.world import World

OWN_ERRORS = {"labels": "", "pseudo-labels": " Where the student is sure and errs, it learns to err."}

HEADING = "# Prompts learned from "  # by which a later run knows its own page
SEAL = "<!-- kdpl adapt writes this page again as long as nobody has changed it: "  # and the digest of all before it


def model_card(
    folder: str | Path,
    world: World,
    job: Training,
    learned: Learner,
    measured: dict[str, float],
    gain: tuple[float, float, float] | None,
    minutes: float,
) -> str:
    """The model card as Markdown, with a head that makes its folder a model repository of the usual hub.

    Args:
        measured: what to list, in per cent.
        gain: points of accuracy over no prompts, (mean, low, high) of its 95 % interval over classes; None where not
            measured.
    """
    if job.mode == "labels":
        labels = "labels were used"
    elif job.labelled:
        labels = f"{job.labelled:.0%} of the labels were used"
    else:
        labels = "no label was used in training"
    names = ", ".join(as_code(name) for name in world.classnames[:40]) + (" …" if len(world.classnames) > 40 else "")
    student, teacher = (as_code(" ".join(filter(None, model))) for model in (job.student, job.teachers[0]))
    test = len(world.test) if (world.test.labels >= 0).all() else 0
    lines = [
        *front_matter(plain_words(Path(folder).name), job, measured),
        f"{HEADING}{as_code(Path(folder).name)}",
        "",
        f"* Method: {type(learned).__name__}, {job.mode} ({labels}); {learned.n_learned():,} learned numbers",
        f"* Student: {student}; teacher: {teacher}",
        f"* Data: {len(world.train)} training and {test} labelled test pictures",
        f"* Class names ({len(world.classnames)}): {names or 'none; the teacher picked from a dictionary'}",
        f"* Recipe: {job.recipe.epochs} epochs, batches of {job.recipe.batch_size}, learning rate {job.recipe.lr:g}, "
        f"seed {job.seed}; {minutes:.1f} minutes in all",
        "",
        "## Measured",
        "",
    ]
    lines += [f"* {what}: {value:.1f} %" for what, value in measured.items()] or ["Nothing: there are no class names."]
    if gain is not None:
        mean, low, high = gain
        verdict = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
        interval = f"{mean:+.1f} points, 95 % interval over classes {low:+.1f} to {high:+.1f}"
        lines += ["", f"On the test pictures the learned prompts are {verdict} none ({interval})."]
        if test < 200:
            lines += [f"{test} test pictures are few: a difference of some points may be chance."]
    lines += [
        "",
        "## Limits",
        "",
        "* One run with one seed."
        + OWN_ERRORS.get(job.mode, " Where the teacher errs, the student learns to err."),
        "* Prompts belong to the student named above, with these weights and no others.",
        "* Names outside the list can be tried, but nothing here measured them."
        if learned.open_vocabulary
        else "* It can name these classes and no others.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def sealed(card: str) -> str:
    """The card with a last line, unseen where it is shown, by which ``is_untouched`` knows it."""
    return f"{card}{SEAL}{digest(card)} -->\n"


def is_untouched(page: str) -> bool:
    """Whether a page is a model card as it was written; those of earlier versions do not say."""
    if f"\n{HEADING}" not in f"\n{page}":
        return False
    card, seal, rest = page.rpartition(SEAL)
    return not seal or rest == f"{digest(card)} -->\n"


def front_matter(folder: str, job: Training, measured: dict[str, float]) -> list[str]:
    """What the hub reads: YAML between two lines of dashes, each value written as JSON, which YAML contains."""
    told = {
        "license": "other",
        "license_name": "not-chosen",  # whose prompts they are is for who shares them to say
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "prompt-learning", "arxiv:2407.03056", job.learner, job.mode],
        "metrics": ["accuracy"],
    }
    base = hub_name(*job.student)
    if base:
        told["base_model"] = base
    accuracy = measured.get("test accuracy, learned")
    if accuracy is not None:
        result = {
            "task": {"type": "zero-shot-image-classification"},
            "dataset": {"type": "imagefolder", "name": folder},
            "metrics": [{"type": "accuracy", "name": "top-1 on its test pictures", "value": round(accuracy / 100, 4)}],
        }
        told["model-index"] = [{"name": f"Prompts learned from {folder}", "results": [result]}]
    return ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items()), "---", ""]


def hub_name(model: str, pretrained: str | None) -> str:
    """The repository on the hub that a model's weights come from; empty where there is none."""
    import open_clip

    if model.startswith("hf-hub:"):
        return model.removeprefix("hf-hub:")
    known = open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {}
    return (known or {}).get("hf_hub", "").strip("/")
