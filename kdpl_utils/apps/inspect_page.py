"""The page of ``kdpl inspect``: one HTML file that needs neither a kernel nor a network.

This file computes numbers, as one JSON; the page's own script (``page/inspect.js``) draws them. Names, paths and models
enter the page only as JSON or escaped, and its policy lets nothing run but that script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PIL import Image
from torch import LongTensor, Tensor

from ..evaluate import accuracy, entropy, expected_calibration_error, hits, kl_bits, reliability_curve, top1_agreement
from ..support.disk import as_path, atomic_write
from ..support.statistics import paired_bootstrap
from ..support.version import __version__

PARTS = Path(__file__).with_name("page")
GENERATOR = '<meta name="generator" content="kdpl inspect'  # how an earlier page is known
TOP = 4  # names of each model in a picture's table
SIDE = 176  # pixels of a picture in the page, at most
LOOKS = {"teacher": "teacher", "student": "before", "student before": "before", "student after": "after"}


@dataclass(frozen=True)
class Comparison:
    """What several models predict for the same N pictures."""

    title: str
    paths: Sequence[str]  # as the page names them
    open_picture: Callable[[int], Image.Image]  # row → the picture, or a small copy
    names: Sequence[str]
    labels: LongTensor  # (N,) indices of names, -1 where a picture has none
    logits: dict[str, Tensor]  # role → (N, C); the teacher's first, last the student that it is compared with
    models: dict[str, str]  # role → what the model is called
    notes: Sequence[str]  # what a reader needs to judge the numbers


def page_path(out: str | Path) -> Path:
    """Return where the page goes: into a folder by its usual name, and never over a file that is not such a page."""
    path = as_path(out)
    path = path / "inspect.html" if path.is_dir() else path
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as file:
            if GENERATOR not in file.read(2000):
                raise ValueError(f"{path} exists and is not a page of kdpl inspect: give another place with --out.")
    return path


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return a small copy without what its camera noted (place, time)."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    small.info = {}
    return small


def write_page(comparison: Comparison, out: Path, most: int) -> Path:
    """Write the page with the ``most`` pictures on which teacher and student differ most."""
    style, script = ((PARTS / f"inspect.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    page = Template((PARTS / "inspect.html").read_text(encoding="utf-8")).substitute(
        generator=f'{GENERATOR} {__version__}">',
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        title=html.escape(comparison.title),
        data=as_json(numbers(comparison, most)),
    )
    # A file name that is not Unicode holds half characters, which become question marks.
    return atomic_write(out, lambda part: part.write_bytes(page.encode("utf-8", errors="replace")))


def as_json(value) -> str:
    """Return JSON that may stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _digest(content: str) -> str:
    """What a policy calls the content of a style or script element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def numbers(comparison: Comparison, most: int) -> dict:
    """Return everything that the page shows, for JSON; models in the order of ``comparison.logits``."""
    z = comparison.logits
    p = {role: scores.softmax(-1) for role, scores in z.items()}
    bits = {role: kl_bits(z["teacher"], scores) for role, scores in z.items()}
    entropies = {role: entropy(shares) / math.log(2) for role, shares in p.items()}
    known = comparison.labels >= 0
    labels = comparison.labels[known]
    summary = [
        {
            "confidence": p[role].max(-1).values.mean().item(),
            "entropy": entropies[role].mean().item(),
            **({"agreement": top1_agreement(z["teacher"], z[role]), "kl": bits[role].mean().item()} if i else {}),
            **({"accuracy": accuracy(z[role][known], labels)} if len(labels) else {}),
            **({"ece": expected_calibration_error(p[role][known], labels)} if len(labels) else {}),
        }
        for i, role in enumerate(z)
    ]
    curves = {}
    differences = []
    for before, role in zip(["", *z], z if len(labels) else ()):
        columns = (column.tolist() for column in reliability_curve(p[role][known], labels))
        curves[role] = [point for point in zip(*columns) if point[2]]
        if before and len(labels) > 1:  # one picture has no interval
            mean, low, high = paired_bootstrap(*(100 * hits(z[one][known], labels).double() for one in (before, role)))
            interval = f"{mean:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
            differences.append(f"Accuracy, {role} minus {before}: {interval}, {len(labels):,} labelled pictures.")

    def picture(i: int) -> dict:
        """The most probable names of each model with the label, and all other names together."""
        rows = [shares[i] for shares in p.values()]
        label = int(comparison.labels[i])
        wanted = {c for row in rows for c in row.topk(min(TOP, len(row))).indices.tolist()} | ({label} - {-1})
        chosen = sorted(wanted, key=lambda c: -float(rows[0][c]))
        small = thumbnail(comparison.open_picture(i))
        file = io.BytesIO()
        small.save(file, format="JPEG", quality=85)
        return {
            "path": comparison.paths[i],
            "image": f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}",
            "width": small.width,
            "height": small.height,
            "label": comparison.names[label] if label >= 0 else None,
            "top": [comparison.names[int(row.argmax())] for row in rows],
            "table": [[comparison.names[c], *(float(row[c]) for row in rows)] for c in chosen],
            "others": len(comparison.names) - len(chosen),
            "rest": [max(0.0, 1 - float(row[chosen].sum())) for row in rows],
            "kl": [float(bits[role][i]) for role in p],
            "confidence": [float(row.max()) for row in rows],
            "entropy": [float(entropies[role][i]) for role in p],
        }

    return {
        "models": [{"role": role, "look": LOOKS[role], "name": comparison.models[role]} for role in z],
        "pictures": len(comparison.paths),
        "names": len(comparison.names),
        "notes": [*comparison.notes, *differences],
        "summary": summary,
        "curves": curves,
        "shown": [picture(i) for i in bits[[*z][-1]].argsort(descending=True, stable=True)[:most].tolist()],
    }
