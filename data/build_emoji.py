"""Draw the emoji world from its published sources: one sprite sheet a style and one metadata file.

    python data/build_emoji.py            fetch what is missing, draw, write data/emoji/
    python data/build_emoji.py --check    draw into memory and compare with what is committed

Twelve npm packages hold every drawing as SVG, a thirteenth as the glyphs of a font.  Each is pinned by version and by
the registry's SHA-512, fetched with ``npm pack`` into ``data/.cache`` (or put there by hand), and rendered with resvg.
Needs ``npm`` and ``pip install 'kdpl-notebooks[build]'``; nothing here runs when the suite is used.
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
import unicodedata
from pathlib import Path

from kdpl_utils.support.disk import write_checksums

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
OUT = HERE / "emoji"
SIZE = 64  # pixels, one sprite
COLUMNS = 41  # sprites in a row of a sheet

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
    "fluent-emoji": ("@iconify-json/fluent-emoji", "1.2.7", "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==", "MIT", "Microsoft Corporation"),
    "fluent-emoji-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==", "MIT", "Microsoft Corporation"),
    "fluent-emoji-high-contrast": ("@iconify-json/fluent-emoji-high-contrast", "1.2.6", "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==", "MIT", "Microsoft Corporation"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==", "CC-BY-4.0", "Emoji One"),
    "emojione-v1": ("@iconify-json/emojione-v1", "1.2.3", "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==", "CC-BY-SA-4.0", "Emoji One"),
    "emojione-monotone": ("@iconify-json/emojione-monotone", "1.2.1", "cZSNcPsuiAD6HCzCh/2dYKGh3pNI0jJlxBxQWfC33cQsPtqYZqulGBvlkThXYNvDl8VxgVHT9u+izyX/yeEIkA==", "CC-BY-4.0", "Emoji One"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2", "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==", "Apache-2.0", "Mozilla"),
    "noto-emoji": ("@fontsource/noto-emoji", "5.3.2", "N9CSzXJB04AVWYvFbuBgL2Dq964Zo91th/uOu/QLSuWBYuL9FWXGcEo6ZNwc/IJ7vmpm8KHaIKD7jF8pYm4taw==", "OFL-1.1", "Google Inc."),
}  # fmt: skip
FONTS = {"noto-emoji": 700}  # the weight that is drawn: lines as thick as in the other ink hands
# The Iconify metadata of this style has no code points; its twin uses the same icon names.
SAME_NAMES_AS = {"fluent-emoji": "fluent-emoji-flat"}


def fetch(package: str, version: str, sha512: str) -> tarfile.TarFile:
    """The published archive, from the cache or from npm; refused unless its checksum is the pinned one."""
    path = CACHE / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        print(f"fetching {package}@{version}", file=sys.stderr)
        command = ["npm", "pack", "--silent", f"{package}@{version}", "--pack-destination", str(CACHE)]
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


def read_concepts() -> list[dict]:
    """Every emoji of the eight groups without skin-tone variants, in Unicode order."""
    entries = read_json(fetch(*OPENMOJI), "data/openmoji.json")
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


def find_icons(style: str, concepts: list[dict]) -> list[str | None]:
    """For each concept the SVG document of its drawing in ``style``, or None."""
    archive = fetch(*STYLES[style][:3])
    if style in FONTS:
        glyphs = font_glyphs(archive, FONTS[style])
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
    named = fetch(*STYLES[SAME_NAMES_AS.get(style, style)][:3])
    by_code = {code_key(code): name for code, name in read_json(named, "chars.json").items()}
    by_name = {squeeze(name): name for name in sorted(drawings, reverse=True)}
    found = []
    for c in concepts:
        keys = [squeeze(n) for n in (c["name"], *unicode_names(c["emoji"]))]
        candidates = [by_code.get(code_key(c["code"])), *(by_name.get(k) for k in keys)]
        name = next((n for n in candidates if n in drawings), None)
        found.append(None if name is None else svg_document(drawings[name], icons))
    return found


def font_glyphs(archive: tarfile.TarFile, weight: int) -> dict[str, str]:
    """SVG documents of a font's glyphs, by ``code_key``: of single code points only, since the rest are ligatures."""
    from fontTools.pens.boundsPen import BoundsPen
    from fontTools.pens.svgPathPen import SVGPathPen
    from fontTools.ttLib import TTFont

    documents = {}
    for member in archive:
        if not member.name.endswith(f"-{weight}-normal.woff2"):
            continue
        font = TTFont(io.BytesIO(archive.extractfile(member).read()))
        glyphs = font.getGlyphSet()
        for code, glyph_name in font.getBestCmap().items():
            outline, bounds = SVGPathPen(glyphs), BoundsPen(glyphs)
            glyphs[glyph_name].draw(outline)
            glyphs[glyph_name].draw(bounds)
            if bounds.bounds is not None:
                documents[code_key(f"{code:x}")] = glyph_document(outline.getCommands(), bounds.bounds)
    return documents


def glyph_document(path: str, bounds: tuple[float, float, float, float]) -> str:
    """A glyph, centred in a square that it fills but for a narrow margin; a font's y axis points up."""
    left, bottom, right, top = bounds
    side = 1.06 * max(right - left, top - bottom)
    x, y = (left + right - side) / 2, -(bottom + top + side) / 2
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" viewBox="{x} {y} {side} {side}">'
            f'<path transform="scale(1 -1)" d="{path}"/></svg>')  # fmt: skip


def svg_document(icon: dict, defaults: dict) -> str:
    box = [icon.get(k, defaults.get(k, standard)) for k, standard in
           (("left", 0), ("top", 0), ("width", 16), ("height", 16))]  # fmt: skip
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000"'
            f' width="{SIZE}" height="{SIZE}" viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>')  # fmt: skip


def draw_sheet(style: str, concepts: list[dict]):
    """An RGBA sheet, one sprite a concept in row order, and for which concepts there is a drawing."""
    import resvg_py
    from PIL import Image
    from tqdm import tqdm

    rows = -(-len(concepts) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SIZE, rows * SIZE))
    drawn = []
    for i, svg in enumerate(tqdm(find_icons(style, concepts), desc=style, unit="emoji", leave=False)):
        if svg is not None:
            png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
            sprite = Image.open(io.BytesIO(png)).convert("RGBA")
            if sprite.getchannel("A").getextrema()[1] > 0:  # a few published drawings are empty
                sheet.paste(sprite, (i % COLUMNS * SIZE, i // COLUMNS * SIZE))
                drawn.append(i)
    return sheet, drawn


def encode_sheet(sheet) -> bytes:
    """Lossless WebP: half of PNG's size, every pixel kept, and browsers show it."""
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def shorten_bpe(merges: int) -> bytes:
    """The first ``merges`` merges of CLIP's own byte-pair list: they still spell every word."""
    import gzip

    from open_clip.tokenizer import default_bpe

    lines = gzip.open(default_bpe()).read().decode().split("\n")[: merges + 1]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def build() -> dict[str, bytes]:
    """Every file of the world but the trained weights, by name."""
    concepts, files, styles = read_concepts(), {}, {}
    for style, (package, version, _, licence, author) in STYLES.items():
        sheet, drawn = draw_sheet(style, concepts)
        files[f"sheets/{style}.webp"] = encode_sheet(sheet)
        styles[style] = {"source": f"{package}@{version}", "licence": licence, "author": author,
                         "pixels_sha256": hashlib.sha256(sheet.tobytes()).hexdigest(), "drawn": drawn}  # fmt: skip
        print(f"{style:28}{len(drawn):6} drawings {len(files[f'sheets/{style}.webp']) / 1e6:6.2f} MB", file=sys.stderr)
    files["bpe.txt.gz"] = shorten_bpe(2558)
    world = {"sprite_size": SIZE, "columns": COLUMNS, "styles": styles, "concepts": concepts}
    files["emoji.json"] = json.dumps(world, ensure_ascii=False, separators=(",", ":")).encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    files = build()
    if check:
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
