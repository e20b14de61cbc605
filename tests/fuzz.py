#!/usr/bin/env python3
"""Files that nobody would think of: a fuzzer that watches the code changes them until a reader does what it should not.

    python tests/fuzz.py TARGET [--seconds 60] [--found FOLDER]

A reader may give what it reads, or refuse it with a ValueError of one line that names the file.  Anything else ends the
run, and the file that did it is kept in --found; ``python tests/fuzz.py TARGET FILE`` runs that one again.
Needs ``pip install atheris``, which is there for Linux and macOS; no test does.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kdpl_utils"]):
    import kdpl_utils as kd
    from kdpl_utils.learners import published
    from kdpl_utils.learners.classifier import kind_of, names_of
    from kdpl_utils.support.disk import read_json, write_json
    from kdpl_utils.support.pictures import open_picture
    from kdpl_utils.support.tensors import read_tensors
    from kdpl_utils.towers.sentences import as_templates
    from kdpl_utils.worlds.dictionaries import read_names
    from kdpl_utils.worlds.lists import read_published_split

import torch
from PIL import Image
from safetensors.torch import save_file

STUDENT = kd.load_vlm("emoji-student-vit")
NAMES = ["red panda", "hot dog"]


def read_prompts(path: Path) -> None:
    kind_of(path)
    names_of(path)
    kd.load_learner(path, STUDENT)


def without_checksum(path: Path) -> None:
    """As earlier versions wrote them: with it, a changed file is refused at once and nothing behind it is tried."""
    header, tensors = read_tensors(path)
    save_file(tensors, path, header)


def valid_prompts(path: Path) -> None:
    kd.save_learner(kd.CoOp(STUDENT), path, kd.Recipe(), NAMES)
    without_checksum(path)


def valid_classifier(path: Path) -> None:
    kd.export_classifier(kd.VPT(STUDENT, n_ctx=1), NAMES, path)
    without_checksum(path)


def valid_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"ctx": torch.zeros(4, STUDENT.model.token_embedding.weight.shape[1])}}, path)


def valid_split(path: Path) -> None:
    path.write_text(json.dumps({part: [["a/1.jpg", 0, "a"], ["b/2.jpg", 1, "b"]] for part in ("train", "val", "test")}))


def valid_picture(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((24, 16), 60).save(path, "TIFF", exif=exif)


# What is read, a name for its file, and how a valid one is written, from which the fuzzer starts.
TARGETS: dict[str, tuple[Callable[[Path], object], str, Callable[[Path], object]]] = {
    "prompts": (read_prompts, "learned.safetensors", valid_prompts),
    "classifier": (lambda path: kd.load_classifier(path, STUDENT), "classifier.safetensors", valid_classifier),
    "checkpoint": (
        lambda path: published.import_checkpoint(path, STUDENT),
        "model.pth.tar-50",
        valid_checkpoint,
    ),
    "names": (read_names, "names.csv", lambda path: path.write_text("ClassName,Id\nred panda,1\nhot dog,2\n")),
    "templates": (
        lambda path: as_templates(path),
        "sentences.json",
        lambda path: path.write_text(json.dumps({"hot dog": ["a hot dog in a bun"]})),
    ),
    "split": (lambda path: read_published_split(path, Path("pictures")), "split_zhou_X.json", valid_split),
    "scores": (read_json, "scores.json", lambda path: write_json(path, {"base": 1.0})),
    "picture": (lambda path: open_picture(io.BytesIO(path.read_bytes()), path.name), "a.jpg", valid_picture),
}


def check(read: Callable[[Path], object], path: Path, content: bytes) -> None:
    """Let the reader have this content; whatever is no sentence about the file goes on to the fuzzer."""
    path.write_bytes(content)
    try:
        read(path)
    except ValueError as error:
        sentence = str(error)
        if path.name not in sentence or "\n" in sentence.strip():
            raise AssertionError(f"no sentence of one line that names {path.name}: {sentence!r}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="*", help="run these alone, once")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of what is damaged, a reader may warn and give nothing
    Image.MAX_IMAGE_PIXELS = 10**6
    read, name, write_valid = TARGETS[args.target]
    args.found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder) / name, Path(folder) / "corpus"
        corpus.mkdir()
        write_valid(path)
        path.replace(corpus / "valid")
        longest = 2 * (corpus / "valid").stat().st_size
        options = [f"-artifact_prefix={args.found}/", "-rss_limit_mb=8192", f"-max_len={longest}"]
        inputs = args.files or [f"-max_total_time={args.seconds}", str(corpus)]
        atheris.Setup([sys.argv[0], *options, *inputs], lambda content: check(read, path, content))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
