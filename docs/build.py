#!/usr/bin/env python3
"""The reading version: the executed notebooks as pages, without a kernel and without a network.

    python3 docs/build.py              notebooks of executed/, run again where their cells have changed, as pages
    python3 docs/build.py --no-run     the same, but stop where a notebook would have to run
    python3 docs/build.py --repository OWNER/REPO    with links to Colab and to report a problem with a lesson
    python3 docs/build.py --gallery    also draw docs/gallery/ anew from these results (a minute; needs a Chromium)

Needs the environment of run.py and the extra "docs" (sphinx, myst-nb, furo).  The pages: docs/_build/html/index.html.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
DOCS, NOTEBOOKS, EXECUTED = ROOT / "docs", ROOT / "notebooks", ROOT / "executed"
GALLERY = DOCS / "gallery"
# What the gallery shows: its file, the notebook's number, the cell whose picture it is.
PICTURES = (
    ("teacher_student", "05", "05-move"),
    ("context_step", "03", "03-explore"),
    ("learning_curves", "03", "03-curves"),
    ("slopes", "03", "03-shots-picture"),
    ("class_pick", "06", "06-pick-widget"),
    ("k_curves", "06", "06-mass-run"),
    ("similarity", "01", "01-vectors-picture"),
    ("reliability", "01", "01-sure-picture"),
)
COLOURS, WIDTH = 256, 900  # of a picture in the gallery: small files


def same_cells(source: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> bool:
    """Whether these outputs belong to these cells, all of them run."""

    def cells(notebook):
        return [(cell.cell_type, cell.get("id"), cell.source) for cell in notebook.cells]

    ran = all(cell.execution_count for cell in executed.cells if cell.cell_type == "code" and cell.source.strip())
    return ran and cells(source) == cells(executed)


def executed_notebook(path: Path, run: bool) -> nbformat.NotebookNode:
    """The notebook with its outputs: those in executed/, or fresh ones where they are missing or of other cells."""
    done = EXECUTED / path.name
    if done.exists():
        notebook = nbformat.read(done, as_version=4)
        if same_cells(nbformat.read(path, as_version=4), notebook):
            return notebook
    if not run:
        sys.exit(f"{done} is missing or of other cells: run 'python3 run.py execute', or leave --no-run out.")
    EXECUTED.mkdir(exist_ok=True)
    if not runpy.run_path(str(ROOT / "run.py"))["run_notebook"](path, done):
        sys.exit(f"{path.name} failed: there is no reading version of it.")
    return nbformat.read(done, as_version=4)


def readable(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy for readers: no widget state (there is no kernel), and each picture's words as its alternative text."""
    page = nbformat.from_dict(notebook)
    page.metadata.pop("widgets", None)
    for cell in page.cells:
        words = [o.metadata.get("image/png", {}).get("alt") for o in cell.get("outputs", []) if "data" in o]
        if words := " ".join(filter(None, words)):
            cell.metadata["mystnb"] = {"image": {"alt": words, "width": "100%"}}
    return page


def without_alt(notebook: nbformat.NotebookNode) -> list[str]:
    """Cells that show a picture without words."""
    return [
        cell.get("id", "?")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt")
    ]


def picture(notebook: nbformat.NotebookNode, cell_id: str) -> tuple[bytes, str]:
    """The picture of a cell and its words."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []) if cell.get("id") == cell_id else []:
            if "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"]), output.metadata["image/png"]["alt"]
    raise LookupError(f"The cell {cell_id} shows no picture.")


def small(file: bytes) -> bytes:
    """The same picture for a web page: at most ``WIDTH`` pixels wide, few colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(file)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # A thin line keeps its colour beside a heat map, which the usual choice of colours sacrifices to the map.
    few = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(out, format="PNG", optimize=True)
    return out.getvalue()


def draw_gallery(notebooks: dict[str, nbformat.NotebookNode]) -> str:
    """Write docs/gallery/ from the outputs, and return it as Markdown (addresses relative to docs/gallery)."""
    GALLERY.mkdir(exist_ok=True)
    entries = []
    for name, draw in (("moving.webp", moving_picture), ("inspect.webp", inspected)):
        words, file = draw()
        (GALLERY / name).write_bytes(file)
        entries.append(f"![{words}]({name})")
    for name, number, cell in PICTURES:
        file, words = picture(notebooks[number], cell)
        (GALLERY / f"{name}.png").write_bytes(small(file))
        entries.append(f"![{words}]({name}.png)")
    text = "\n\n".join(entries) + "\n"
    (GALLERY / "README.md").write_text(
        "# Gallery\n\nDrawn by `python3 docs/build.py --gallery` from executed notebooks.\n\n" + text, encoding="utf-8"
    )
    return text


def moving_picture() -> tuple[str, bytes]:
    """The signature explorer while KDPL trains: one run, epoch by epoch (WebP).

    Shown is the picture whose KL falls most, of those that the teacher names rightly; the words say so.
    """
    import torch
    from PIL import Image

    import kdpl_utils as kd
    from kdpl_utils.evaluate import kl_bits
    from kdpl_utils.widgets.distributions import teacher_student

    world = kd.load_world("emoji")
    student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
    names, train = [world.classnames[i] for i in world.base], kd.of_classes(world.train, world.base)
    features, seen = (kd.encode_images(vlm, train.images) for vlm in (student, teacher))
    target = kd.logits(seen, kd.encode_names(teacher, names, world.templates), student.scale)
    texts = [kd.encode_names(student, names)]

    def loss(prompt, batch):
        return kd.symmetric_kl(target[batch], kd.logits(features[batch], prompt(names), student.scale))

    def watch(prompt):
        texts.append(prompt(names))
        return {}

    kd.learn(student, loss, train.labels, 0, kd.Recipe(**world.recipe), on_epoch=watch)
    students = [kd.logits(features, text, student.scale) for text in texts]
    explorer = teacher_student(train.images, names, target, students, train.labels, k=5)
    fall = kl_bits(target, students[0]) - kl_bits(target, students[-1])
    fall[target.argmax(-1) != train.labels.to(target.device)] = -torch.inf
    explorer.controls["order"].value = "as given"
    explorer.controls["picture"].value = int(fall.argmax()) + 1
    frames = []
    for epoch in range(len(texts)):
        explorer.controls["step"].value = epoch
        frames.append(Image.open(io.BytesIO(explorer.png)).convert("RGB"))
    height = max(frame.height for frame in frames)
    frames = [on_white(frame, height) for frame in frames]
    out, times = io.BytesIO(), [900] + [350] * (len(frames) - 2) + [2500]
    frames[0].save(
        out, format="WEBP", save_all=True, append_images=frames[1:], duration=times, loop=0, quality=72, method=6
    )
    chosen = "of those that the teacher names rightly, the one whose KL falls most"
    words = f"One training picture over the epochs of one KDPL run ({chosen}). At the end: {explorer.alt}"
    return words, out.getvalue()


def inspected() -> tuple[str, bytes]:
    """The page of ``kdpl inspect`` in a browser: the emoji world's test pictures before and after KDPL (WebP)."""
    import kdpl_utils as kd
    from kdpl_utils.apps.inspect_folder import inspect_folder

    world = kd.load_world("emoji")
    student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
    names, train = [world.classnames[i] for i in world.base], kd.of_classes(world.train, world.base)
    target = kd.logits(kd.encode_images(teacher, train.images), kd.encode_names(teacher, names), student.scale)
    learner, features = kd.CoOp(student), kd.encode_images(student, train.images)
    kd.adapt(learner, features, kd.from_teacher(target, names), train.labels, 0, kd.Recipe(**world.recipe))
    test = kd.of_classes(world.test, world.base)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "emoji")
        for i in range(0, len(test), 3):
            path = folder / names[int(test.labels[i])] / f"{i:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            test.images[i].save(path)
        learned = kd.save_learner(learner, Path(place, "learned.safetensors"))
        page = inspect_folder(folder, place, world.teacher, learned=learned, most=40)
        return photographed(page)


def photographed(page: Path) -> tuple[str, bytes]:
    """The list of pictures of a page of ``kdpl inspect`` as a browser shows it, and words about the first."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1320, "height": 900}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.evaluate("document.getElementById('pictures').scrollIntoView()")
        count = tab.locator("#count").inner_text()
        first = " ".join(tab.locator("article .facts").first.inner_text().split())
        file = tab.screenshot()
        browser.close()
    words = f"The page of kdpl inspect: filters, and the pictures on which teacher and student differ most. {count} "
    out = io.BytesIO()
    Image.open(io.BytesIO(file)).convert("RGB").save(out, format="WEBP", quality=85, method=6)
    return f"{words}The first: {first}.", out.getvalue()


def fault_page() -> str:
    """A page of all that can go wrong, made of the very tables that the tests start from (``tests/faults.py``)."""
    sys.path.insert(0, str(ROOT / "tests"))
    modules = [importlib.import_module(path.stem) for path in sorted((ROOT / "tests").glob("test_faults_*.py"))]
    tables = {title: rows for module in modules for title, rows in module.PAGE.items()}
    number = sum(map(len, tables.values()))
    text = f"""# What can go wrong

Each row is a test of this suite, {number} of them: what goes wrong, a part of what is said (… stands for words of the
case), and what is kept. A row without a sentence is understood, and nothing has to be said.
"""
    for title, rows in tables.items():
        text += f"\n## {title}\n\n| what goes wrong | what is said | what is kept |\n|---|---|---|\n"
        for fault, row in rows.items():
            said = "<br>".join(quoted(sentence) for sentence in row.sentences) or "–"
            text += f"| {as_words(fault)} | {said} | {as_words(row.kept)} |\n"
    return text


def as_words(text: str) -> str:
    """Text in a table of Markdown: every sign stands for itself."""
    return re.sub(r"([\\`*_{}\[\]<>#|$@&~])", r"\\\1", text)


def quoted(text: str) -> str:
    from kdpl_utils.support.markdown import as_code

    return as_code(text).replace("|", "\\|")


def on_white(frame, height: int):
    from PIL import Image

    page = Image.new("RGB", (frame.width, height), "white")
    page.paste(frame)
    return page.resize((WIDTH, round(height * WIDTH / frame.width)), Image.Resampling.LANCZOS)


def build(run: bool, gallery: bool, repository: str | None) -> Path:
    import course

    from kdpl_utils.widgets.errors import widget_errors

    source, pages = DOCS / "_build" / "source", DOCS / "_build" / "html"
    shutil.rmtree(DOCS / "_build", ignore_errors=True)
    (source / "notebooks").mkdir(parents=True)
    notebooks = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = notebooks[path.name[:2]] = executed_notebook(path, run)
        wrong = widget_errors(notebook) + [f"cell {cell}: a picture without words" for cell in without_alt(notebook)]
        if wrong:
            sys.exit(f"{path.name}: " + "; ".join(wrong))
        page = course.with_links(readable(notebook), path.stem, repository)
        nbformat.write(page, source / "notebooks" / path.name)
    if gallery:
        draw_gallery(notebooks)
    shutil.copy(DOCS / "conf.py", source)
    shutil.copytree(DOCS / "static", source / "static")
    titles = "\n".join(f"notebooks/{path.stem}" for path in sorted(NOTEBOOKS.glob("*.ipynb")))
    (source / "faults.md").write_text(fault_page(), encoding="utf-8")
    index = (DOCS / "index.md").read_text(encoding="utf-8").replace("{{notebooks}}", titles)
    index = index.replace("{{course}}", "\n".join(course.write_course(source, notebooks)))
    if GALLERY.exists():
        shutil.copytree(GALLERY, source / "gallery")
        index += "\n```{include} gallery/README.md\n:start-line: 4\n:relative-images:\n```\n"
    (source / "index.md").write_text(index, encoding="utf-8")
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(pages)]
    if subprocess.run(sphinx).returncode:
        sys.exit(
            "The pages could not be built: Sphinx says why above. Is the extra installed: pip install -e '.[docs]'?"
        )
    return pages / "index.html"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-run", action="store_true", help="never run a notebook")
    parser.add_argument("--gallery", action="store_true", help="draw docs/gallery/ anew")
    parser.add_argument(
        "--repository",
        metavar="OWNER/REPO",
        default=os.environ.get("GITHUB_REPOSITORY"),
        help="where the lessons lie on GitHub, for links to Colab and to report a problem (in GitHub's CI it is known)",
    )
    options = parser.parse_args()
    print(build(not options.no_run, options.gallery, options.repository))
