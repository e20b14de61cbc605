#!/usr/bin/env python3
"""Build the reading version: the executed notebooks as pages that need no kernel and no network.

    python3 docs/build.py              run the notebooks whose copies in executed/ are missing or old; write the pages
    python3 docs/build.py --gallery    also draw docs/gallery/ anew from these results (needs a Chromium)

Needs the environment of run.py and the extra "docs". The pages: docs/_build/html/index.html.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = ROOT / "notebooks"
EXECUTED = ROOT / "executed"
GALLERY = DOCS / "gallery"
CELLS = {  # the gallery's file → the cell whose picture it is
    "teacher_student": "05-move",
    "context_step": "03-explore",
    "learning_curves": "03-curves",
    "slopes": "03-shots-picture",
    "class_pick": "06-pick-widget",
    "k_curves": "06-mass-run",
    "similarity": "01-vectors-picture",
    "reliability": "01-sure-picture",
}
WIDTH = 900  # of a picture in the gallery


def repository() -> str | None:
    """Return the address in pyproject.toml, or the fork's in GitHub's CI; None while there is no address yet."""
    if "GITHUB_REPOSITORY" in os.environ:
        return f"https://github.com/{os.environ['GITHUB_REPOSITORY']}"
    address = re.search(r'^Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    return None if "/OWNER/" in address else address


def is_current(source: Path) -> bool:
    """Return whether the copy in executed/ has these cells, all of them run without an error."""
    if not (EXECUTED / source.name).exists():
        return False
    notebook = nbformat.read(EXECUTED / source.name, as_version=4)
    both = [[(cell.id, cell.source) for cell in one.cells] for one in (nbformat.read(source, as_version=4), notebook)]
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    ran = all(cell.execution_count and "error" not in {o.output_type for o in cell.outputs} for cell in code)
    return ran and both[0] == both[1]


def execute(paths: list[Path]) -> None:
    """Run copies of notebooks in executed/."""
    EXECUTED.mkdir(exist_ok=True)
    copies = [shutil.copy(path, EXECUTED) for path in paths]
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=1200", "--overwrite", "-v", *copies]
    if copies and subprocess.run(command, cwd=ROOT).returncode:
        sys.exit("There are no pages: the notebook above failed.")


def readable(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Prepare a notebook for readers: progress bars as they ended, alternative texts, no widget state.

    Raises:
        ValueError: a picture has no alternative text.
    """
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    page, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    page.metadata.pop("widgets", None)
    for cell in page.cells:
        shown = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        texts = [output.metadata.get("image/png", {}).get("alt") for output in shown]
        if not all(texts):
            raise ValueError(f"The cell {cell.id} shows a picture without an alternative text.")
        if texts:
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(texts), "width": "100%"}}
    return page


def picture_of(notebook: nbformat.NotebookNode, cell_id: str) -> tuple[str, bytes]:
    """Return the alternative text of a cell's picture, and the picture as a small PNG of few colours."""
    from PIL import Image

    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    output = next(output for output in cell.outputs if "image/png" in output.get("data", {}))
    image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    # This choice of colours keeps a thin line's colour beside a heat map.
    few = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, format="PNG", optimize=True)
    return output.metadata["image/png"]["alt"], small.getvalue()


def screenshot_of_inspect() -> tuple[str, bytes]:
    """Return words about, and a screenshot of, the page of ``kdpl inspect`` on the emoji world's test images (WebP)."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    import kdpl_utils as kd
    from kdpl_utils.apps.inspect_folder import inspect_folder

    world = kd.load_world("emoji")
    test = kd.of_classes(world.test, world.base)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        for i in range(0, len(test.labels), 3):
            path = Path(place, "emoji", world.classnames[int(test.labels[i])], f"{i:04d}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            test.images[i].save(path)
        page = inspect_folder(Path(place, "emoji"), place, teacher=world.teacher, student=world.student, most=40)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1320, "height": 900}, color_scheme="light")
        tab.goto(Path(page).as_uri())
        tab.evaluate("document.getElementById('pictures').scrollIntoView()")
        first = " ".join(tab.locator("article .facts").first.inner_text().split())
        image = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
        browser.close()
    small = io.BytesIO()
    image.save(small, format="WEBP", quality=85, method=6)
    return f"The page of kdpl inspect: the images on which teacher and student differ most. {first}.", small.getvalue()


def draw_gallery(notebooks: dict[str, nbformat.NotebookNode]) -> None:
    """Write docs/gallery/: a screenshot of inspect and a picture of each cell in CELLS."""
    drawn = {"inspect.webp": screenshot_of_inspect()}
    for name, cell in CELLS.items():
        drawn[f"{name}.png"] = picture_of(notebooks[cell[:2]], cell)
    text = "# Gallery\n\n`python3 docs/build.py --gallery` draws this from executed notebooks.\n"
    for name, (words, file) in drawn.items():
        (GALLERY / name).write_bytes(file)
        text += f"\n![{words}]({name})\n"
    (GALLERY / "README.md").write_text(text, encoding="utf-8")


def build(gallery: bool) -> Path:
    import course

    source = DOCS / "_build" / "source"
    shutil.rmtree(DOCS / "_build", ignore_errors=True)
    (source / "notebooks").mkdir(parents=True)
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    execute([path for path in paths if not is_current(path)])
    notebooks = {path.name[:2]: readable(nbformat.read(EXECUTED / path.name, as_version=4)) for path in paths}
    if gallery:
        draw_gallery(notebooks)
    kit = course.write_course(source)
    for path in paths:
        page = course.with_links(notebooks[path.name[:2]], path.stem, repository())
        nbformat.write(page, source / "notebooks" / path.name)
    shutil.copy(DOCS / "conf.py", source)
    shutil.copytree(DOCS / "static", source / "static")
    shutil.copytree(GALLERY, source / "gallery")
    index = (DOCS / "index.md").read_text(encoding="utf-8").replace("{{course}}", "\n".join(kit))
    index = index.replace("{{notebooks}}", "\n".join(f"notebooks/{path.stem}" for path in paths))
    (source / "index.md").write_text(index, encoding="utf-8")
    pages = DOCS / "_build" / "html"
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(pages)]
    if subprocess.run(sphinx).returncode:
        sys.exit("Sphinx could not build the pages. Is the extra installed: pip install -e '.[docs]'?")
    return pages / "index.html"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", action="store_true", help="draw docs/gallery/ anew")
    print(build(parser.parse_args().gallery))
