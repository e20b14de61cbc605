"""Class names and file names that would be markup, formulas or commands where they were not escaped."""

import torch
from PIL import Image

from kdpl_utils.apps.inspect_page import Comparison

NAMES = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "$$ and $\\frac$",
    "${title} $cards",
    "\"double\" and 'single' & &amp; &lt;b&gt;",
    "two\nlines",
    "שלום עולם",
    "\u202egnp.esrever",
    "`code` {braces} %s \\u003c",
    "😀 \u2028 emoji",
    "a" * 60,
]


def comparison(pictures: int = 24, labelled: bool = True) -> Comparison:
    """Three models over these names: the student after lies between the teacher and the student before."""
    draw = torch.Generator().manual_seed(0)
    teacher, before = 4 * torch.randn(2, pictures, len(NAMES), generator=draw)
    labels = torch.arange(pictures) % len(NAMES) if labelled else torch.full((pictures,), -1)
    if labelled:
        labels[0] = -1
        teacher[torch.arange(pictures), labels.clamp(min=0)] += 5
    folders = ["<b>folder</b>", "\"quoted'", "שלום"]

    def picture(i: int) -> Image.Image:
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        image = Image.new("RGB", (300, 100 + 10 * i), (10 * i % 256, 90, 120))
        image.info["exif"] = exif.tobytes()
        return image

    return Comparison(
        title="<i>pictures</i> & ${more}",
        paths=[f"{folders[i % 3]}/{i:03d}.png" for i in range(pictures)],
        open_picture=picture,
        names=NAMES,
        labels=labels,
        logits={"teacher": teacher, "student before": before, "student after": (teacher + before) / 2},
        models={"teacher": "a <big> one", "student before": "a small one", "student after": "a small one, taught"},
        notes=["A note with <b>markup</b>."],
    )
