"""What goes wrong where names, recipes, numbers and files of prompts enter: input → the sentence → what is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import kdpl_utils as kd
from kdpl_utils.apps.card import model_card
from kdpl_utils.experiments.training import Training
from kdpl_utils.learners import CoOp
from kdpl_utils.learners.classifier import export_classifier, model_of
from kdpl_utils.support.markdown import as_code

NAMES = ["sushi", "hot dog", "ice cream"]


@dataclass
class Bench:
    """What a user has on the table: a model and an empty folder."""

    vlm: kd.VLM
    folder: Path

    def program(self) -> Path:
        """A TorchScript archive that writes a file when it is made and looks like a checkpoint."""

        class Prompts(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.ctx = torch.nn.Parameter(torch.zeros(4, 128))

            def forward(self, x):
                return x

        path = self.folder / "model.pth.tar-50"
        torch.jit.script(Prompts()).save(path)
        return path

    def classifier(self, **header: str) -> Path:
        """A classifier's file with some words of its header replaced."""
        path = export_classifier(CoOp(self.vlm), NAMES, self.folder / "classifier.safetensors")
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
        save_file(tensors, path, {**metadata, **header})
        return path


class Fault(NamedTuple):
    given: Callable[[Bench], object]  # what the user does
    sentence: str  # a part of what is said
    kept: Callable[[Bench], bool] = lambda bench: True  # what is as it was


FAULTS = {
    # --- what a file may make this library do ------------------------------------------------------------------------
    "a TorchScript archive as a checkpoint": Fault(
        lambda bench: kd.import_checkpoint(bench.program(), bench.vlm),
        "is a TorchScript archive, a program that runs when it is loaded: it was not loaded",
    ),
    "a classifier that names a hub": Fault(
        lambda bench: model_of(bench.classifier(model="hf-hub:somebody/model", pretrained="")),
        "says that it belongs to 'hf-hub:somebody/model', which is no model that comes with this suite",
    ),
    "a classifier that names a folder": Fault(
        lambda bench: model_of(bench.classifier(model="local-dir:/tmp/model", pretrained="")),
        "name the model yourself (--student, or load_vlm), if you trust it",
    ),
    "a classifier that names a file of weights": Fault(
        lambda bench: model_of(bench.classifier(model="ViT-B-32-quickgelu", pretrained="weights.pt")),
        "with the weights 'weights.pt', which is no model",
    ),
    "a classifier that names a file for a shipped model": Fault(
        lambda bench: model_of(bench.classifier(pretrained="weights.pt")), "so nothing was loaded"
    ),
}


@pytest.fixture(scope="module")
def vlm():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_sentence(fault, vlm, tmp_path):
    bench = Bench(vlm, tmp_path)
    with pytest.raises((ValueError, OSError, FloatingPointError)) as caught:
        fault.given(bench)
    said = str(caught.value)
    assert fault.sentence in said and "\n" not in said
    assert fault.kept(bench)


# --- what a file may make this library do ----------------------------------------------------------------------------


def test_no_archive_with_a_program_reaches_torch(vlm, tmp_path, monkeypatch):
    path = Bench(vlm, tmp_path).program()
    for loader in ("load", "jit.load"):
        monkeypatch.setattr(f"torch.{loader}", lambda *_, **__: pytest.fail("the archive was loaded"))
    with pytest.raises(ValueError, match="TorchScript"):
        kd.import_checkpoint(path, vlm)


@pytest.mark.parametrize(
    ("name", "pretrained"), [("emoji-student-vit", None), ("ViT-B-32-quickgelu", "openai"), ("RN50", "cc12m")]
)
def test_what_is_published_needs_no_word(name, pretrained, vlm, tmp_path):
    path = Bench(vlm, tmp_path).classifier(model=name, pretrained=pretrained or "")
    assert model_of(path) == (name, pretrained)


def test_a_tokenizer_of_a_folder_runs_no_code(vlm, tmp_path, monkeypatch):
    """Hugging Face's loader asks, or does as the configuration says, unless it is told no."""
    import open_clip

    config = open_clip.get_model_config("emoji-student-vit")
    config["text_cfg"] |= {"hf_tokenizer_name": "somebody/words", "tokenizer_kwargs": {"trust_remote_code": True}}
    file = {"model_cfg": config, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(file), encoding="utf-8")
    weights = {key: tensor.contiguous() for key, tensor in vlm.model.state_dict().items()}
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    asked = []
    monkeypatch.setattr("open_clip.get_tokenizer", lambda name, **options: asked.append(options))
    kd.load_vlm(f"local-dir:{tmp_path}", device="cpu")
    assert asked == [{"trust_remote_code": False}]


HOSTILE = "<img src=x onerror=alert(1)>\n# [a](https://example.org) *b* `c` ``d`` https://example.org @me $\\frac$ |"


def test_names_are_text_on_the_card(vlm):
    world = kd.load_world("emoji")
    world = kd.World(**{**vars(world), "classnames": (HOSTILE, *world.classnames[1:])})
    models = {"student": ("emoji-student-vit", None), "teachers": (("<b>x</b>", "weights\n# of.pt"),)}
    job = Training("emoji", "coop", "kdpl", 1, recipe=kd.Recipe(), **models)
    card = model_card(f"/tmp/{HOSTILE.replace('/', '')}", world, job, CoOp(vlm), {}, None, 1.0)
    outside = _without_code(card)
    assert not any(mark in outside for mark in ("<", "](", "@", "://", "*b*", "$"))
    assert [line for line in card.splitlines() if line.startswith("#")][1:] == ["## Measured", "## Limits"]


def _without_code(markdown: str) -> str:
    """The page without its code spans, by CommonMark's rule: a run of backticks ends at the next run as long."""
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a", "`a`"),
        ("a`b", "`` a`b ``"),
        ("`", "`` ` ``"),
        (" a\r\n\tb ", "`a b`"),
        ("", "`  `"),
        ("\x1b[31m", "`[31m`"),
    ],
)
def test_a_code_span_holds_any_text(text, code):
    assert as_code(text) == code
