"""The model card that ``kdpl adapt`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..clip.models import known_models
from ..support.disk import atomic_write, digest

if TYPE_CHECKING:
    from ..learners import Learner
    from ..train import Recipe
    from .encode import Model

SEAL = "<!-- kdpl adapt replaces this page as long as nobody has changed it: "  # then JSON, unseen where it is shown
SHOWN = 40  # names


@dataclass
class Facts:
    """What the card says of a run; ``gain`` is (mean, low, high) points of accuracy over no prompts."""

    folder: str
    mode: str
    label_fraction: float
    student: Model
    teacher: Model
    recipe: Recipe
    names: Sequence[str]
    n_train: int
    n_test: int
    left_out: int = 0
    dictionary: str = ""
    picked: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    gain: tuple[float, float, float] | None = None
    minutes: float = 0.0


def model_card(facts: Facts, learned: Learner, has_classifier: bool) -> str:
    """Return the card as Markdown, with a head that makes its folder a model repository of the usual hub."""
    method = type(learned).__name__
    student, teacher = (as_code(" ".join(filter(None, model))) for model in (facts.student, facts.teacher))
    used = f"{facts.label_fraction:.0%} of the labels were used" if facts.label_fraction else "no label was used"
    used = "labels were used" if facts.mode == "labels" else used
    left_out = f"; {facts.left_out} could not be read and were left out" if facts.left_out else ""
    names = [f"* Class names ({len(facts.names)}): {_listed(facts.names)}"] if facts.names else []
    if facts.picked:
        names.append(f"* Names that the teacher picked most from {as_code(facts.dictionary)}: {_listed(facts.picked)}")
    model, teacher_model = (
        "kd.load_vlm({})".format(", ".join(repr(part) for part in pair if part))
        for pair in (facts.student, facts.teacher)
    )
    extra = f", teacher={teacher_model}" if method == "PromptKD" else ""
    file = "classifier.safetensors" if has_classifier else "learned.safetensors"
    load = f"{'load_classifier' if has_classifier else 'load_learner'}('{file}', {model}{extra})"
    on = f"the {facts.n_test} labelled test pictures" if facts.n_test else "the pictures it was learned from"
    lines = [
        *front_matter(facts.student, [method.lower(), facts.mode]),
        f"# Prompts learned from {as_code(facts.folder)}",
        "",
        f"* Method: {method}, {facts.mode} ({used}); {learned.n_parameters():,} parameters",
        f"* Student: {student}; teacher: {teacher}",
        f"* Data: {facts.n_train} training and {facts.n_test} labelled test pictures{left_out}",
        *names,
        f"* Recipe: {facts.recipe.epochs} epochs, batches of {facts.recipe.batch_size}, learning rate "
        f"{facts.recipe.lr:g}, seed {facts.recipe.seed}; {facts.minutes:.1f} minutes in all",
        "",
        "## Use",
        "",
        "```python",
        "import kdpl_utils as kd",
        f"learned = kd.{load}",
        f"learned.predict(['picture.jpg']{'' if has_classifier else ', names'})",
        "```",
        "",
        f"## Measured on {on}" if facts.measured else "## Nothing was measured, as there are no class names",
        "",
        *(f"* {what}: {value:.1f} %" for what, value in facts.measured.items()),
        *_verdict(facts),
        "",
        "## Limits",
        "",
        "* One run with one seed."
        + ("" if facts.mode == "labels" else " Where the teacher is wrong, the student learns to be wrong."),
        "* Prompts belong to the student named above, with these weights and no others.",
        "* Other names can be tried, but nothing here measured them."
        if learned.open_vocabulary
        else "* It can classify these classes and no others.",
        "",
    ]
    return "\n".join(lines)


def _verdict(facts: Facts) -> list[str]:
    """What the interval over classes supports."""
    if facts.gain is None:
        return []
    mean, low, high = facts.gain
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
    few = f" {facts.n_test} test pictures are few: some points may be chance." if facts.n_test < 200 else ""
    interval = f"{mean:+.1f} points, 95 % interval over classes {low:+.1f} to {high:+.1f}"
    return ["", f"The learned prompts are {verdict} none ({interval}).{few}"]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(as_code(name) for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")


def front_matter(student: Model, tags: Sequence[str]) -> list[str]:
    """Return what the hub reads: YAML between two lines of dashes, each value in JSON, which YAML contains."""
    name, pretrained = student
    config = known_models().get_pretrained_cfg(name, pretrained) if pretrained else {}
    hub = name.removeprefix("hf-hub:") if name.startswith("hf-hub:") else (config or {}).get("hf_hub", "").strip("/")
    head = {
        "license": "other",
        "license_name": "not-chosen",  # the author of the prompts chooses one
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "prompt-learning", "arxiv:2407.03056", *tags],
        **({"base_model": hub} if hub else {}),
    }
    return ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]


def as_code(text: str) -> str:
    """Return some text as a code span on one line, in which nothing is a tag, a link or an emphasis.

    >>> as_code("<img src=x>\\n# `[a](b)`")
    '`` <img src=x> # `[a](b)` ``'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest or not line else f"{fence}{line}{fence}"


def write_card(path: Path, card: str, run: str, measured: dict[str, float]) -> Path:
    """Write the card and a last line, unseen where it is shown, with which ``read_card`` knows it."""
    record = json.dumps({"run": run, "measured": measured, "page": digest(card)})
    return atomic_write(path, lambda part: part.write_bytes(f"{card}{SEAL}{record} -->\n".encode()))


def read_card(path: Path) -> dict:
    """Return what ``write_card`` recorded; nothing for a page that is missing, changed, or somebody else's."""
    text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    card, _, rest = text.partition(SEAL)
    try:
        record = json.loads(rest.removesuffix(" -->\n"))
        return record if record["page"] == digest(card) else {}
    except (ValueError, TypeError, KeyError):
        return {}
