"""Draw the emoji world from its published sources: one sprite sheet a style and one metadata file.

    python data/build_emoji.py            fetch what is missing, draw, write data/emoji/
    python data/build_emoji.py --check    draw into memory and compare with what is committed

Most styles are npm packages of SVG files, one is an npm package of a font, and two are fonts of Debian packages.  Each
npm package is pinned by version and SHA-512, fetched with ``npm pack`` into the work folder (or put there by the user),
and rendered with resvg.  The icons that the teachers are pretrained on are rendered into the work folder and not
shipped.  Needs ``npm`` and ``pip install 'kdpl-notebooks[build]'``; nothing here runs when the suite is used.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import icons as icon_sets
from kdpl_utils.support.disk import write_checksums
from kdpl_utils.worlds.emoji import ARTISTS
from provenance import likeness

HERE = Path(__file__).resolve().parent
WORK = HERE / ".cache"
OUT = HERE / "emoji"
README = HERE / "README.md"
START, END = "<!-- icon sets: start -->", "<!-- icon sets: end -->"
SIZE = 64  # pixels, one sprite
COLUMNS = 41  # sprites in a row of a sheet
INK = tuple(ink for ink, _ in ARTISTS.values())  # no model may have seen these drawings, nor their originals
FEWEST = 20  # concepts in common of an icon set and an ink style, below which a median says little

GROUPS = (
    "smileys-emotion", "people-body", "animals-nature", "food-drink",
    "travel-places", "activities", "objects", "symbols",
)  # fmt: skip

# style: (npm package, version, SHA-512 of the archive as the registry publishes it, licence, author)
OPENMOJI = (
    "openmoji",
    "17.0.0",
    "EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
)
STYLES = {
    "noto": ("@iconify-json/noto", "1.2.9", "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==", "Apache-2.0", "Google Inc."),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5", "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==", "Apache-2.0", "Google Inc."),
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==", "CC-BY-4.0", "Twitter"),
    "openmoji": ("@iconify-json/openmoji", "1.2.29", "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==", "CC-BY-SA-4.0", "OpenMoji"),
    "openmoji-black": (*OPENMOJI, "CC-BY-SA-4.0", "OpenMoji"),
    "fluent-emoji-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==", "MIT", "Microsoft Corporation"),
    "fluent-emoji-high-contrast": ("@iconify-json/fluent-emoji-high-contrast", "1.2.6", "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==", "MIT", "Microsoft Corporation"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==", "CC-BY-4.0", "Emoji One"),
    "emojione-v1": ("@iconify-json/emojione-v1", "1.2.3", "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==", "CC-BY-SA-4.0", "Emoji One"),
    "emojione-monotone": ("@iconify-json/emojione-monotone", "1.2.1", "cZSNcPsuiAD6HCzCh/2dYKGh3pNI0jJlxBxQWfC33cQsPtqYZqulGBvlkThXYNvDl8VxgVHT9u+izyX/yeEIkA==", "CC-BY-4.0", "Emoji One"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2", "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==", "Apache-2.0", "Mozilla"),
    "streamline-emojis": ("@iconify-json/streamline-emojis", "1.2.4", "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==", "CC-BY-4.0", "Streamline"),
    "noto-emoji": ("@fontsource/noto-emoji", "5.3.2", "N9CSzXJB04AVWYvFbuBgL2Dq964Zo91th/uOu/QLSuWBYuL9FWXGcEo6ZNwc/IJ7vmpm8KHaIKD7jF8pYm4taw==", "OFL-1.1", "Google Inc."),
}  # fmt: skip
FONT_WEIGHTS = {"noto-emoji": 700}  # lines as thick as in the other ink styles
# style: (Debian package, version, font files, licence, author)
DEBIAN_FONTS = {
    "symbola": (
        "fonts-symbola", "2.60-1.1", ("/usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf",),
        "free for any use", "George Douros",
    ),
    "unifont": (
        "fonts-unifont", "1:15.0.01-2", ("/usr/share/fonts/opentype/unifont/unifont_upper.otf",),
        "OFL-1.1 or GPL-2.0-or-later with font exception", "Roman Czyborra, Paul Hardy and others",
    ),
}  # fmt: skip
PIXEL_FONTS = ("unifont",)  # their glyphs stand on a grid of 16 × 16 pixels, two of them below the base line
NUMBERED = ("streamline-emojis",)  # sets that number the drawings of one name: the first is taken


def fetch(package: str, version: str, sha512: str, work: Path) -> tarfile.TarFile:
    """Return the published archive, from the work folder or from npm; its checksum must be the pinned one."""
    path = work / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        print(f"fetching {package}@{version}", file=sys.stderr)
        command = ["npm", "pack", "--silent", f"{package}@{version}", "--pack-destination", str(work)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != sha512:
        sys.exit(f"{path} is not the pinned {package}@{version} (SHA-512 {found}): delete it and run this again.")
    return tarfile.open(path)


def read_json(archive: tarfile.TarFile, name: str):
    return json.load(archive.extractfile(f"package/{name}"))


def squeeze(text: str) -> str:
    """Letters and digits only: 'OK button', 'ok-button' and 'okbutton' become one key."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]", "", text.replace("&", "and"))


def code_key(code: str) -> str:
    """Code points without variation selectors and joiners, whose use differs between the sets."""
    return "-".join(c.lower().lstrip("0") for c in code.split("-") if c.lower() not in ("fe0f", "200d"))


def read_concepts(work: Path) -> list[dict]:
    """Return every emoji of the eight groups without skin-tone variants, in Unicode order."""
    entries = read_json(fetch(*OPENMOJI, work), "data/openmoji.json")
    concepts = []
    for e in sorted(entries, key=lambda e: e["order"] or 0):
        if e["group"] in GROUPS and not e["skintone"]:
            tags = f"{e['tags']}, {e['openmoji_tags']}".split(",")
            keywords = sorted({t.strip().lower() for t in tags} - {"", e["annotation"].lower()})
            concepts.append({"name": e["annotation"], "group": e["group"], "subgroup": e["subgroups"],
                             "code": e["hexcode"], "emoji": e["emoji"], "keywords": keywords})  # fmt: skip
    names = [c["name"] for c in concepts]
    assert len(set(names)) == len(names), "two concepts of one name"
    return concepts


def unicode_names(emoji: str) -> list[str]:
    """The Unicode name of a one-character emoji (older sets are named after it)."""
    characters = [c for c in emoji if c != "\ufe0f"]
    return [unicodedata.name(characters[0], "")] if len(characters) == 1 else []


def find_drawings(style: str, concepts: list[dict], work: Path) -> list[str | None]:
    """Return for each concept the SVG document of its drawing in ``style``, or None."""
    if style in DEBIAN_FONTS:
        glyphs = {}
        for path in map(Path, DEBIAN_FONTS[style][2]):
            if not path.exists():
                sys.exit(f"{path} is missing: install the Debian package {DEBIAN_FONTS[style][0]}.")
            glyphs.update(font_glyphs(path.read_bytes(), on_grid=style in PIXEL_FONTS))
        return [glyphs.get(code_key(c["code"])) for c in concepts]
    archive = fetch(*STYLES[style][:3], work)
    if style in FONT_WEIGHTS:
        glyphs = {}
        for member in archive:
            if member.name.endswith(f"-{FONT_WEIGHTS[style]}-normal.woff2"):
                glyphs.update(font_glyphs(archive.extractfile(member).read()))
        return [glyphs.get(code_key(c["code"])) for c in concepts]
    if style == "openmoji-black":
        members = (m for m in archive if m.name.startswith("package/black/svg/"))
        svgs = {Path(m.name).stem: archive.extractfile(m).read().decode() for m in members}
        return [svgs.get(c["code"]) for c in concepts]
    icons = read_json(archive, "icons.json")
    drawings = dict(icons["icons"])
    for alias, target in icons.get("aliases", {}).items():
        if set(target) == {"parent"} and target["parent"] in icons["icons"]:
            drawings[alias] = icons["icons"][target["parent"]]
    by_code = {code_key(code): name for code, name in read_json(archive, "chars.json").items()}
    by_name = {squeeze(name): name for name in sorted(drawings, reverse=True)}
    if style in NUMBERED:
        by_name = {squeeze(re.sub(r"-\d+$", "", name)): name for name in sorted(drawings, reverse=True)}
    found = []
    for c in concepts:
        keys = [squeeze(n) for n in (c["name"], *unicode_names(c["emoji"]))]
        candidates = [by_code.get(code_key(c["code"])), *(by_name.get(k) for k in keys)]
        name = next((n for n in candidates if n in drawings), None)
        found.append(None if name is None else svg_document(drawings[name], icons))
    return found


def font_glyphs(font_file: bytes, on_grid: bool = False) -> dict[str, str]:
    """Return SVG documents of a font's glyphs, by ``code_key``: of single code points only, the rest are ligatures.

    Args:
        font_file: content of the font.
        on_grid: whether the glyphs are pixels on a grid, which the sprite's pixels must meet.
    """
    from fontTools.pens.boundsPen import BoundsPen
    from fontTools.pens.svgPathPen import SVGPathPen
    from fontTools.ttLib import TTFont

    documents = {}
    font = TTFont(io.BytesIO(font_file))
    glyphs, em = font.getGlyphSet(), font["head"].unitsPerEm
    for code, glyph_name in font.getBestCmap().items():
        outline, bounds = SVGPathPen(glyphs), BoundsPen(glyphs)
        glyphs[glyph_name].draw(outline)
        glyphs[glyph_name].draw(bounds)
        if bounds.bounds is not None:
            cell = (0, -em / 8, em, em * 7 / 8) if on_grid else with_margin(bounds.bounds)
            documents[code_key(f"{code:x}")] = glyph_document(outline.getCommands(), cell)
    return documents


def with_margin(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return the square round a glyph that it fills except for a narrow margin."""
    left, bottom, right, top = bounds
    side = 1.06 * max(right - left, top - bottom)
    x, y = (left + right - side) / 2, (bottom + top - side) / 2
    return x, y, x + side, y + side


def glyph_document(path: str, square: tuple[float, float, float, float]) -> str:
    """Return the SVG document of a glyph; a font's y axis points up."""
    left, bottom, right, top = square
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}"'
            f' viewBox="{left} {-top} {right - left} {top - bottom}">'
            f'<path transform="scale(1 -1)" d="{path}"/></svg>')  # fmt: skip


def svg_document(icon: dict, defaults: dict) -> str:
    box = [icon.get(k, defaults.get(k, standard)) for k, standard in
           (("left", 0), ("top", 0), ("width", 16), ("height", 16))]  # fmt: skip
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000"'
            f' width="{SIZE}" height="{SIZE}" viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>')  # fmt: skip


def draw_sheet(style: str, concepts: list[dict], work: Path):
    """An RGBA sheet, one sprite a concept in row order, and for which concepts there is a drawing."""
    import resvg_py
    from PIL import Image
    from tqdm import tqdm

    rows = -(-len(concepts) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SIZE, rows * SIZE))
    drawn = []
    for i, svg in enumerate(tqdm(find_drawings(style, concepts, work), desc=style, unit="emoji", leave=False)):
        if svg is not None:
            png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
            sprite = Image.open(io.BytesIO(png)).convert("RGBA")
            if sprite.getchannel("A").getextrema()[1] > 0:  # a few published drawings are empty
                sheet.paste(sprite, (i % COLUMNS * SIZE, i // COLUMNS * SIZE))
                drawn.append(i)
    return sheet, drawn


def encode_sheet(sheet, path: Path) -> bytes:
    """Return the sheet as lossless WebP, half of PNG's size; a file that holds these pixels is kept as it is."""
    from PIL import Image

    if path.exists() and Image.open(path).convert("RGBA").tobytes() == sheet.tobytes():
        return path.read_bytes()
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def shorten_bpe(merges: int) -> bytes:
    """The first ``merges`` merges of CLIP's own byte-pair list: they still spell every word."""
    import gzip

    from open_clip.tokenizer import default_bpe

    lines = gzip.open(default_bpe()).read().decode().split("\n")[: merges + 1]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def choose_names(names: list[str], merges: bytes) -> list[str]:
    """Return the names in their order, each once: names of the same tokens are one to a model ("8ball", "8 ball")."""
    from open_clip import SimpleTokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bpe.txt.gz"
        path.write_bytes(merges)
        tokenizer = SimpleTokenizer(bpe_path=str(path))
    first = {}
    for name in names:
        first.setdefault(tuple(tokenizer.encode(name)), name)
    return list(first.values())


def check_likeness(icons: icon_sets.Icons, sheets: dict[str, Tensor], concepts: list[dict]) -> list[str]:
    """Return the icon sets whose drawings are too like an ink style's, and report how alike the others are at most."""
    row_of_name = {c["name"]: i for i, c in enumerate(concepts)}
    rows_of_set = defaultdict(dict)  # of each name the first drawing
    for row, (name, icon_set) in enumerate(zip(icons.names, icons.sets)):
        if name in row_of_name:
            rows_of_set[icon_set].setdefault(row_of_name[name], row)
    too_like, most = [], 0.0
    for icon_set, rows in rows_of_set.items():
        for style in INK:
            common = [c for c in rows if sheets[style][c, 3].any()]
            if len(common) < FEWEST:
                continue
            alpha = torch.from_numpy(icons.alpha[[rows[c] for c in common]])[:, None].float() / 255
            drawings = torch.cat([torch.zeros(len(common), 3, *alpha.shape[2:]), alpha], dim=1)
            found = likeness(sheets[style][common].float() / 255, drawings)
            if found.is_by_others:
                most = max(most, found.correlation)
            else:
                print(f"{icon_set} looks like {style}: {found}", file=sys.stderr)
                too_like.append(icon_set)
    print(f"ink styles and other icon sets: median correlation at most {most:.2f}", file=sys.stderr)
    return too_like


def sprites_of(sheet) -> Tensor:
    """Return the drawings of a sheet, (rows * columns, 4, SIZE, SIZE) uint8."""
    grid = torch.from_numpy(np.array(sheet)).view(-1, SIZE, COLUMNS, SIZE, 4)
    return grid.permute(0, 2, 4, 1, 3).reshape(-1, 4, SIZE, SIZE)


def build(work: Path) -> dict[str, bytes]:
    """Return every file of the world except the trained weights, by name, and write the icons to the work folder."""
    concepts, files, styles, ink = read_concepts(work), {}, {}, {}
    sources = {style: (f"{package}@{version}", *rest) for style, (package, version, _, *rest) in STYLES.items()}
    sources |= {style: (f"{package} {version}", *rest) for style, (package, version, _, *rest) in DEBIAN_FONTS.items()}
    for style, (source, licence, author) in sources.items():
        sheet, drawn = draw_sheet(style, concepts, work)
        name = f"sheets/{style}.webp"
        files[name] = encode_sheet(sheet, OUT / name)
        styles[style] = {"source": source, "licence": licence, "author": author,
                         "pixels_sha256": hashlib.sha256(sheet.tobytes()).hexdigest(), "drawn": drawn}  # fmt: skip
        if style in INK:
            ink[style] = sprites_of(sheet)
        print(f"{style:28}{len(drawn):6} drawings {len(files[name]) / 1e6:6.2f} MB", file=sys.stderr)
    emoji_names = [c["name"] for c in concepts]
    icons = icon_sets.render_icons(icon_sets.find_icons(fetch(*icon_sets.ICONIFY, work), set(emoji_names)))
    icons = icons.without(check_likeness(icons, ink, concepts))
    icon_sets.save_icons(icons, work / icon_sets.FILE)
    icon_names = sorted(set(icons.names))
    print(f"{len(icons.names)} icons of {len(icon_names)} names in {len(set(icons.sets))} sets", file=sys.stderr)
    files["bpe.txt.gz"] = shorten_bpe(2558)
    keywords = [keyword for c in concepts for keyword in c["keywords"]]
    dictionary = choose_names(emoji_names + keywords + icon_names, files["bpe.txt.gz"])
    print(f"{len(dictionary)} names in the dictionary", file=sys.stderr)
    world = {"sprite_size": SIZE, "columns": COLUMNS, "styles": styles, "concepts": concepts, "dictionary": dictionary}
    files["emoji.json"] = json.dumps(world, ensure_ascii=False, separators=(",", ":")).encode()
    return files


def list_icon_sets(work: Path) -> None:
    """Write the icon sets that the teachers see, with their licences, into the README."""
    icons = icon_sets.load_icons(work / icon_sets.FILE)
    text = icon_sets.describe_sets(fetch(*icon_sets.ICONIFY, work), icons.sets)
    before, rest = README.read_text(encoding="utf-8").split(START)
    README.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write no sheets")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is fetched (default: data/.cache)")
    arguments = parser.parse_args()
    files = build(arguments.work)
    if arguments.check:
        # The pixels' checksums are in emoji.json, so another encoder's bytes may differ and the drawings not.
        same = files["emoji.json"] == (OUT / "emoji.json").read_bytes()
        print("data/emoji is what its sources give" if same else "data/emoji differs from its sources")
        return 0 if same else 1
    (OUT / "sheets").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        part = OUT / f"{name}.part"
        part.write_bytes(content)
        part.replace(OUT / name)
    write_checksums(OUT)
    list_icon_sets(arguments.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
