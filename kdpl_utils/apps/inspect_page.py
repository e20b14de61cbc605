"""The page of ``kdpl inspect``: one HTML file that needs neither a kernel nor a network.

Its frame, its looks and what filters and sorts lie as files in ``page/``. ``string.Template`` fills the frame in one
pass, so that a name which looks like a placeholder stays a name; a template engine would be one more dependency.
Whatever comes from outside (names, paths, models) passes ``html.escape`` or ``as_json``, and the page's policy lets
nothing run but the one script whose digest it names.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PIL import Image
from torch import LongTensor, Tensor

from ..evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    kl_bits,
    paired_bootstrap,
    reliability_curve,
    top1_agreement,
)
from ..support.disk import as_path, write_whole
from ..support.version import __version__
from .inspect_drawings import bars_svg, reliability_svg, thumbnail

PARTS = Path(__file__).with_name("page")
GENERATOR = '<meta name="generator" content="kdpl inspect'  # how an earlier page is known
TOP = 4  # names of each model in a picture's table
LOOKS = {"teacher": "teacher", "student": "before", "student before": "before", "student after": "after"}


@dataclass(frozen=True)
class Comparison:
    """What several models say about the same N pictures.

    Attributes:
        title: what the pictures are called together.
        paths: of the pictures, as the page names them.
        open_picture: row → the picture.
        names: C class names.
        labels: (N,) indices of names, -1 where a picture has none.
        logits: role → (N, C); the teacher's first, last the student that it is compared with.
        models: role → what the model is called.
        notes: sentences that a reader needs to judge the numbers.
    """

    title: str
    paths: Sequence[str]
    open_picture: Callable[[int], Image.Image]
    names: Sequence[str]
    labels: LongTensor
    logits: dict[str, Tensor]
    models: dict[str, str]
    notes: Sequence[str]

    @property
    def roles(self) -> list[str]:
        return list(self.logits)

    @property
    def labelled(self) -> Tensor:
        """(N,) whether a picture has a label."""
        return self.labels >= 0


def page_path(out: str | Path) -> Path:
    """Where the page goes: into a folder by its usual name, and never over a file that is no such page."""
    path = as_path(out)
    path = path / "inspect.html" if path.is_dir() else path
    if path.exists() and not path.is_file():  # a pipe or a console would be waited for
        raise ValueError(f"{path} is no regular file: give another place with --out.")
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as file:
            if GENERATOR not in file.read(2_000):
                raise ValueError(f"{path} is there and no page of kdpl inspect: give another place with --out.")
    return path


def write_page(comparison: Comparison, out: Path, most: int) -> Path:
    """Write the page, whole or not at all."""
    # File names that are no Unicode hold half characters, which become question marks.
    content = page(comparison, most).encode("utf-8", errors="replace")
    return write_whole(out, lambda partial: partial.write_bytes(content))


def page(comparison: Comparison, most: int) -> str:
    """The page as text, with the ``most`` pictures on which teacher and student differ most."""
    measured = [_per_picture(comparison, role) for role in comparison.roles]
    order = measured[-1]["kl"].argsort(descending=True, stable=True)[:most].tolist()
    style, script = ((PARTS / f"inspect.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    shown, total = len(order), len(comparison.paths)
    frame = Template((PARTS / "inspect.html").read_text(encoding="utf-8"))
    return frame.substitute(
        generator=GENERATOR + f' {__version__}">',
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        title=_text(comparison.title),
        models=_models(comparison),
        counts=f"{total:,} picture{'s' * (total != 1)}, {len(comparison.names):,} names.",
        notes="".join(f"<li>{_text(note)}</li>" for note in comparison.notes),
        summary=_summary(comparison, measured),
        differences=_differences(comparison),
        calibration=_calibration(comparison),
        shown=_shown(comparison, shown),
        classes=_class_options(comparison, measured, order),
        right=_right_options(comparison),
        sorts=_sort_options(comparison),
        cards="\n".join(_card(comparison, measured, i, rank) for rank, i in enumerate(order)),
        data=as_json(_data(comparison, measured, order)),
    )


def as_json(value) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _text(value: str) -> str:
    return html.escape(value, quote=True)


def _name(value: str) -> str:
    """A name between others: ``bdi`` keeps its direction of writing to itself."""
    return f"<bdi>{_text(value)}</bdi>"


def _digest(content: str) -> str:
    """What a policy calls the content of a style or script element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


# --- numbers of all pictures -----------------------------------------------------------------------------------------


def _per_picture(comparison: Comparison, role: str) -> dict[str, Tensor]:
    """(N,) each: the answer, its probability, the entropy and the KL from the teacher in bits."""
    scores = comparison.logits[role]
    probabilities = scores.softmax(-1)
    top = probabilities.max(-1)
    return {
        "answer": top.indices,
        "confidence": top.values,
        "entropy": entropy(probabilities) / math.log(2),
        "kl": kl_bits(comparison.logits["teacher"], scores),
    }


def _models(comparison: Comparison) -> str:
    items = []
    for role, model in comparison.models.items():
        items.append(f'<li><span class="key {LOOKS[role]}"></span><b>{role}</b>: {_name(model)}</li>')
    return "".join(items)


def _shown(comparison: Comparison, shown: int) -> str:
    total = len(comparison.paths)
    if shown == total:
        return "All pictures are shown"
    return f"Shown are the {shown:,} of {total:,} pictures on which teacher and {comparison.roles[-1]} differ most"


def _summary(comparison: Comparison, measured: list[dict[str, Tensor]]) -> str:
    """A row for each model, and what the labels say of their differences."""
    known, labels = comparison.labelled, comparison.labels[comparison.labelled]
    rows = []
    for role, values in zip(comparison.roles, measured):
        right, error = "–", "–"
        if len(labels):
            right = f"{accuracy(comparison.logits[role][known], labels):.1%}"
            error = f"{expected_calibration_error(comparison.logits[role][known].softmax(-1), labels):.1%}"
        agreement, kl = "–", "–"
        if role != "teacher":
            agreement = f"{top1_agreement(comparison.logits['teacher'], comparison.logits[role]):.1%}"
            kl = f"{values['kl'].mean():.2f} bits"
        confidence, bits = f"{values['confidence'].mean():.1%}", f"{values['entropy'].mean():.2f} bits"
        cells = "".join(f"<td>{cell}</td>" for cell in (agreement, kl, confidence, bits, right, error))
        rows.append(f'<tr><th scope="row"><span class="key {LOOKS[role]}"></span>{role}</th>{cells}</tr>')
    return "".join(rows)


def _differences(comparison: Comparison) -> str:
    """Accuracy against the model before, with its interval over the labelled pictures."""
    known, labels = comparison.labelled, comparison.labels[comparison.labelled]
    if len(labels) < 2:  # one picture has no interval
        return ""
    hits = {role: (z[known].argmax(-1) == labels).double() for role, z in comparison.logits.items()}
    sentences = []
    for first, second in zip(comparison.roles, comparison.roles[1:]):
        mean, low, high = (100 * value for value in paired_bootstrap(hits[first], hits[second]))
        interval = f"{mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
        sentences.append(f"<li>Accuracy, {second} minus {first}: {interval}, {len(labels):,} labelled pictures.</li>")
    return "".join(sentences)


def _calibration(comparison: Comparison) -> str:
    """The reliability diagram with its numbers, or why there is none."""
    known, labels = comparison.labelled, comparison.labels[comparison.labelled]
    if not len(labels):
        return "<p>Without labels neither accuracy nor calibration can be measured.</p>"
    curves = {}
    for role, scores in comparison.logits.items():
        curves[role] = [values.tolist() for values in reliability_curve(scores[known].softmax(-1), labels)]
    rows = []
    for role, columns in curves.items():
        for confidence, right, count in zip(*columns):
            if count:
                rows.append(
                    f'<tr><th scope="row">{role}</th><td>{confidence:.2f}</td><td>{right:.2f}</td><td>{count}</td></tr>'
                )
    return (
        f"<figure>{reliability_svg(curves, LOOKS)}<figcaption>Accuracy by confidence. On the diagonal a model is right "
        "as often as it says; below it, less often. A larger mark stands for more pictures.</figcaption></figure>"
        f"<details><summary>The numbers of the diagram</summary><table><thead><tr><th>model</th><th>mean confidence"
        f"</th><th>accuracy</th><th>pictures</th></tr></thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


# --- what the reader chooses from ------------------------------------------------------------------------------------


def _option(value: str | int, words: str) -> str:
    return f'<option value="{_text(str(value))}">{_text(words)}</option>'


def _class_options(comparison: Comparison, measured: list[dict[str, Tensor]], order: list[int]) -> str:
    """The names that are the label or an answer of a picture in the page."""
    classes = {int(values["answer"][i]) for values in measured for i in order}
    classes |= {int(comparison.labels[i]) for i in order} - {-1}
    by_name = sorted(classes, key=lambda c: comparison.names[c].casefold())
    return "".join(_option(c, comparison.names[c]) for c in by_name)


def _right_options(comparison: Comparison) -> str:
    """Patterns of who is right, a character for each model: 1 right, 0 wrong, ? either; nothing without labels."""
    if not comparison.labelled.any():
        return ""
    roles, last = comparison.roles, comparison.roles[-1]
    any_between = "?" * (len(roles) - 2)
    patterns = {
        f"1{any_between}1": f"both right: teacher, {last}",
        f"0{any_between}0": f"both wrong: teacher, {last}",
        f"1{any_between}0": "only the teacher right",
        f"0{any_between}1": f"only the {last} right",
    }
    for place, role in enumerate(roles):
        for digit, word in (("1", "right"), ("0", "wrong")):
            patterns["?" * place + digit + "?" * (len(roles) - place - 1)] = f"{role} {word}"
    if len(roles) == 3:
        patterns |= {"?01": "learned: wrong before, right after", "?10": "unlearned: right before, wrong after"}
    return "".join(_option(pattern, words) for pattern, words in patterns.items())


def _sort_options(comparison: Comparison) -> str:
    """What to sort by: a value of the data, the place of the model, 1 up or -1 down."""
    roles = comparison.roles
    last = len(roles) - 1
    options = [(f"kl {last} -1", "KL, largest first"), (f"kl {last} 1", "KL, smallest first")]
    if last == 2:
        options += [
            ("kl 1 -1", "KL before, largest first"),
            ("fall 0 -1", "KL fell most"),
            ("fall 0 1", "KL rose most"),
        ]
    for place, role in enumerate(roles):
        options += [
            (f"confidence {place} -1", f"{role} most certain"),
            (f"confidence {place} 1", f"{role} least certain"),
        ]
    options += [("entropy 0 -1", "teacher's entropy, largest first"), ("path 0 1", "file name")]
    return "".join(_option(value, words) for value, words in options)


def _data(comparison: Comparison, measured: list[dict[str, Tensor]], order: list[int]) -> list[dict]:
    """What the script filters and sorts by, one entry a picture, as the cards stand in the page."""
    entries = []
    for i in order:
        label = int(comparison.labels[i])
        answers = [int(values["answer"][i]) for values in measured]
        classes = [c for c in dict.fromkeys([label, *answers]) if c >= 0]
        kl = [float(values["kl"][i]) for values in measured]
        entries.append(
            {
                "path": comparison.paths[i],
                "text": " \n ".join([comparison.paths[i], *(comparison.names[c] for c in classes)]),
                "classes": classes,
                "agree": answers[0] == answers[-1],
                "right": "".join("1" if answer == label else "0" for answer in answers) if label >= 0 else "",
                "kl": kl,
                "fall": [kl[1] - kl[-1]],
                "confidence": [float(values["confidence"][i]) for values in measured],
                "entropy": [float(values["entropy"][i]) for values in measured],
            }
        )
    return entries


# --- one picture -----------------------------------------------------------------------------------------------------


def _card(comparison: Comparison, measured: list[dict[str, Tensor]], i: int, rank: int) -> str:
    label = int(comparison.labels[i])
    answers = [int(values["answer"][i]) for values in measured]
    agree = answers[0] == answers[-1]
    facts = [f"<b>{measured[-1]['kl'][i]:.2f} bits</b> from the teacher"]
    if len(measured) == 3:
        facts[0] += f", {measured[1]['kl'][i]:.2f} before"
    facts.append(f'<span class="{"same" if agree else "other"}">{"agree" if agree else "disagree"}</span>')
    if label >= 0:
        facts.append(f"label {_name(comparison.names[label])}")
    alt = f"{comparison.paths[i]}" + (f", label {comparison.names[label]}" if label >= 0 else "")
    path = "/".join(_name(part) for part in comparison.paths[i].split("/"))
    image, width, height = thumbnail(comparison.open_picture(i))
    return (
        f'<article tabindex="-1" aria-labelledby="t{rank}"><h3 id="t{rank}">{path}</h3>'
        f'<img alt="{_text(alt)}" width="{width}" height="{height}" src="{image}">'
        f'<div><p class="facts">{" · ".join(facts)}</p>{_answers(comparison, measured, i, label)}</div></article>'
    )


def _answers(comparison: Comparison, measured: list[dict[str, Tensor]], i: int, label: int) -> str:
    """A row for each of the names most probable for a model, for the label, and for all others together."""
    probabilities = [scores[i].softmax(-1) for scores in comparison.logits.values()]
    wanted = [c for row in probabilities for c in row.topk(min(TOP, len(row))).indices.tolist()]
    if label >= 0:
        wanted.append(label)
    chosen = sorted(set(wanted), key=lambda c: -float(probabilities[0][c]))
    looks = [LOOKS[role] for role in comparison.roles]
    rows = []
    for c in chosen:
        mark = '<span title="the label">★</span> ' if c == label else ""
        values = [float(row[c]) for row in probabilities]
        firsts = [int(v["answer"][i]) == c for v in measured]
        rows.append(_row(mark + _name(comparison.names[c]), values, looks, firsts))
    others = len(comparison.names) - len(chosen)
    if others:
        rest = [max(0.0, 1 - float(row[chosen].sum())) for row in probabilities]
        rows.append(_row(f"<i>{others:,} other name{'s' * (others > 1)}</i>", rest, looks, [False] * len(looks)))
    entropies = "".join(f"<td>{values['entropy'][i]:.2f}</td>" for values in measured)
    heads = ""
    for role, look in zip(comparison.roles, looks):
        short = role.removeprefix("student ")
        heads += f'<th scope="col"><span class="key {look}"></span>{short}</th>'
    return (
        f'<table class="answers"><thead><tr><th scope="col">name</th><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f'<tfoot><tr><th scope="row">entropy, bits</th><td></td>{entropies}</tr></tfoot></table>'
    )


def _row(name: str, values: Sequence[float], looks: Sequence[str], firsts: Sequence[bool]) -> str:
    cells = "".join(f"<td>{f'<b>{v:.2f}</b>' if first else f'{v:.2f}'}</td>" for v, first in zip(values, firsts))
    return f'<tr><th scope="row">{name}</th><td class="bars">{bars_svg(values, looks)}</td>{cells}</tr>'
