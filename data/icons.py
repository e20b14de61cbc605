"""Collect the icons that the teachers are pretrained on: black drawings of things from 152 sets, with their names.

They are the teachers' ink.  Nothing of them ships: they are rendered into a work folder and read from there.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Every set of Iconify in one package: (npm package, version, SHA-512 of the archive).
ICONIFY = (
    "@iconify/json",
    "2.2.535",
    "nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw==",
)
LICENCES = ("MIT", "Apache-2.0", "ISC", "OFL-1.1", "CC0-1.0", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0")
OTHER_CATEGORIES = ("Logos", "Programming", "Flags / Maps", "Emoji")
NO_ICONS = ("fluent-emoji",)  # an emoji set that has no category
SIZE = 40  # pixels, one icon
SETS_OF_A_NAME = 8  # a name that so many sets draw is a common one
SETS_OF_A_FACE = 3  # faces are rarer
DRAWINGS = 3  # of one set and name: outlined, filled, rounded
FILE = "icons.npz"

# What icon sets append to a name to tell the versions of a drawing apart.
VERSION = re.compile(
    r"outlined?|fill(ed)?|solid|regular|light|thin|bold|duotone|broken|linear|twotone|round(ed)?|sharp|lined?|\d+|x\d+|s|o"
    r"|alt\d*|icon|ios|md|plump|flex|remix|freehand|circle|square|off|variant|color|print|pop|pencil|stroke|duo|mono"
    r"|flat|small|large|mini|micro|b|f|l|t|d|sm|lg|fine|baseline",
    re.IGNORECASE,
)
PREFIXES = ("baseline", "outline", "round", "sharp", "twotone", "ios", "md", "i", "bx", "bxs", "bxl")
# "mood-happy", "emoji-sad", "face-wink": faces under their own words, as "happy face", "sad face", "winking face".
FACE_PREFIXES = ("mood", "emoji", "face", "emotion", "smiley", "emoticon")
FACE_WORDS = {
    "smile": "smiling", "grin": "grinning", "wink": "winking", "frown": "frowning", "kiss": "kissing", "cry": "crying",
    "laugh": "laughing", "sleep": "sleeping", "yawn": "yawning", "vomit": "vomiting", "drool": "drooling",
    "grimace": "grimacing", "think": "thinking", "surprise": "surprised", "confuse": "confused",
    **{word: word for word in (
        "smiling grinning winking frowning kissing crying laughing sleeping yawning vomiting drooling grimacing "
        "thinking surprised confused happy unhappy sad angry neutral meh dizzy shocked cool love expressionless flushed "
        "tired sleepy squint beam sweat stars tongue heart hearts eyes tear tears astonished nervous annoyed blush "
        "zipped sick crazy silent bored mad excited worried scared nauseated cheerful hungry cute evil devil upset"
    ).split()},
}  # fmt: skip


@dataclass(frozen=True)
class Icons:
    """N icons.

    Attributes:
        alpha: (N, 40, 40) uint8, how black each pixel is.
        names: what each shows.
        sets: the Iconify set of each.
    """

    alpha: np.ndarray
    names: list[str]
    sets: list[str]

    def without(self, sets: Collection[str]) -> Icons:
        """Return the icons of the other sets."""
        rows = [row for row, icon_set in enumerate(self.sets) if icon_set not in sets]
        return Icons(self.alpha[rows], [self.names[row] for row in rows], [self.sets[row] for row in rows])


def plain_name(icon_name: str) -> str:
    """Return the words of an icon's name without those that only tell versions apart."""
    words = icon_name.split("-")
    while len(words) > 1 and VERSION.fullmatch(words[-1]):
        words.pop()
    while len(words) > 1 and words[0] in PREFIXES:
        words.pop(0)
    if words[0] in FACE_PREFIXES and len(words) > 1 and all(word in FACE_WORDS for word in words[1:]):
        words = [*(FACE_WORDS[word] for word in words[1:]), "face"]
    return " ".join(words)


def read_sets(archive: tarfile.TarFile) -> Iterator[dict]:
    """Read the icon sets in the archive's order: jumping in a compressed file reads it again from the start."""
    for member in archive:
        if member.name.startswith("package/json/"):
            yield json.load(archive.extractfile(member))


def find_icons(archive: tarfile.TarFile, emoji_names: Collection[str]) -> list[tuple[str, str, str]]:
    """Return (name, set, SVG document) of the icons whose name is common, an emoji's or a face's.

    Args:
        archive: the package ``ICONIFY``.
        emoji_names: names that are kept however few sets draw them.
    """
    icons_by_name = defaultdict(list)
    for icon_set in read_sets(archive):
        prefix, about = icon_set["prefix"], icon_set["info"]
        if about.get("category") in OTHER_CATEGORIES or prefix in NO_ICONS or about.get("palette"):
            continue
        if about["license"].get("spdx") not in LICENCES:
            continue
        versions = Counter()
        for icon_name, icon in icon_set["icons"].items():
            name = plain_name(icon_name)
            versions[name] += 1
            if versions[name] <= DRAWINGS:
                icons_by_name[name].append((name, prefix, svg_document(icon, icon_set)))

    def is_kept(name: str) -> bool:
        sets = len({prefix for _, prefix, _ in icons_by_name[name]})
        is_face = name.endswith(" face") and sets >= SETS_OF_A_FACE
        return len(name) > 1 and (sets >= SETS_OF_A_NAME or is_face) or name in emoji_names

    return [icon for name in sorted(icons_by_name) if is_kept(name) for icon in icons_by_name[name]]


def describe_sets(archive: tarfile.TarFile, used: Collection[str]) -> str:
    """Return a paragraph for each licence that lists the titles and authors of the sets."""
    titles = defaultdict(list)
    for icon_set in read_sets(archive):
        if icon_set["prefix"] in used:
            about = icon_set["info"]
            titles[about["license"]["spdx"]].append(f"{about['name']} ({about['author']['name']})")
    return "\n\n".join(f"{licence}: {', '.join(sorted(titles[licence]))}." for licence in LICENCES if licence in titles)


def svg_document(icon: dict, defaults: dict) -> str:
    """Return the SVG of an icon, in a square."""
    left, top, width, height = (
        icon.get(key, defaults.get(key, standard))
        for key, standard in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    side = max(width, height)
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000"'
            f' width="{SIZE}" height="{SIZE}" viewBox="{box}">{icon["body"]}</svg>')  # fmt: skip


def render_icon(svg: str) -> np.ndarray | None:
    """Return the opacity of an icon, or None if it is empty or cannot be drawn."""
    import resvg_py
    from PIL import Image

    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True))
    except ValueError:  # a few published icons are not valid SVG
        return None
    alpha = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA").resize((SIZE, SIZE)))[:, :, 3]
    return alpha if alpha.max() > 100 else None


def render_icons(found: list[tuple[str, str, str]]) -> Icons:
    """Render all icons, on every core."""
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(render_icon, [svg for _, _, svg in found], chunksize=200))
    rows = [i for i, alpha in enumerate(drawn) if alpha is not None]
    return Icons(np.stack([drawn[i] for i in rows]), [found[i][0] for i in rows], [found[i][1] for i in rows])


def save_icons(icons: Icons, path: Path) -> None:
    """Write the icons as one file."""
    with path.open("wb") as file:
        np.savez(file, alpha=icons.alpha, names=np.array(icons.names), sets=np.array(icons.sets))


def load_icons(path: Path) -> Icons:
    """Read the icons that ``save_icons`` wrote."""
    with np.load(path) as file:
        return Icons(file["alpha"], file["names"].tolist(), file["sets"].tolist())
