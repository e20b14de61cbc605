"""Small drawings inside the page of ``kdpl inspect``: bars, the reliability diagram, pictures as data."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

from PIL import Image

SIDE = 176  # pixels of a picture, at most
BAR, GAP = 8, 2  # pixels
SIZE, LEFT, LOW = 300, 46, 40  # of the reliability diagram: its side, and what its axes take


def thumbnail(image: Image.Image) -> tuple[str, int, int]:
    """A small copy as a data address, without what its camera noted (place, time), and its width and height."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", *small.size


def bars_svg(values: Sequence[float], looks: Sequence[str]) -> str:
    """A bar for each share, one below the other; the numbers stand beside it, so readers aloud pass it."""
    bars = []
    for place, (value, look) in enumerate(zip(values, looks)):
        bars.append(f'<rect class="{look}" y="{place * BAR}" width="{100 * value:.1f}%" height="{BAR - GAP}"/>')
    height = BAR * len(values) - GAP
    return f'<svg aria-hidden="true" width="100%" height="{height}">{"".join(bars)}</svg>'


def reliability_svg(curves: Mapping[str, Sequence[Sequence[float]]], looks: Mapping[str, str]) -> str:
    """Accuracy over confidence: role → (mean confidences, accuracies, counts), one of each a bin."""

    def x(share: float) -> float:
        return LEFT + share * (SIZE - LEFT - 10)

    def y(share: float) -> float:
        return SIZE - LOW - share * (SIZE - LOW - 10)

    parts = [f'<path class="axis" d="M{x(0)} {y(1)}V{y(0)}H{x(1)}"/>']
    parts.append(f'<path class="diagonal" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{x(tick)}" y="{y(0) + 15}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{x(0.5)}" y="{SIZE - 6}" text-anchor="middle">confidence (highest probability)</text>')
    parts.append(f'<text x="12" y="{y(0.5)}" text-anchor="middle" transform="rotate(-90 12 {y(0.5)})">accuracy</text>')
    for role, (confidences, accuracies, counts) in curves.items():
        used = [point for point in zip(confidences, accuracies, counts) if point[2]]
        line = "L".join(f"{x(confidence):.1f} {y(right):.1f}" for confidence, right, _ in used)
        for kind in ("rim", looks[role]):  # light colours stay visible on white
            parts.append(f'<path class="curve {kind}" d="M{line}"/>')
        for confidence, right, count in used:
            radius = 2.5 + 5 * math.sqrt(count / max(counts))
            parts.append(
                f'<path class="mark {looks[role]}" d="{_mark(looks[role], x(confidence), y(right), radius)}"/>'
            )
    words = f"Reliability diagram of {', '.join(curves)}; its numbers are in the table below."
    return f'<svg role="img" aria-label="{words}" viewBox="0 0 {SIZE} {SIZE}">{"".join(parts)}</svg>'


def _mark(look: str, x: float, y: float, r: float) -> str:
    """The outline of a role's marker, as in all figures: a square, a circle, a diamond."""
    if look == "teacher":
        return f"M{x - r:.1f} {y - r:.1f}h{2 * r:.1f}v{2 * r:.1f}h{-2 * r:.1f}z"
    if look == "before":
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z"
    return f"M{x - r:.1f} {y:.1f}L{x:.1f} {y - r:.1f}L{x + r:.1f} {y:.1f}L{x:.1f} {y + r:.1f}z"
