"""What goes wrong where names, recipes, numbers and files of prompts enter: input → the sentence → what is kept."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import kdpl_utils as kd
from kdpl_utils.apps.card import model_card
from kdpl_utils.experiments.training import Training
from kdpl_utils.learners import VPT, CoCoOp, CoOp, MaPLe, PromptSRC
from kdpl_utils.learners.base import FrozenTexts
from kdpl_utils.learners.classifier import export_classifier, model_of
from kdpl_utils.learners.saving import saved_recipe
from kdpl_utils.support.markdown import as_code
from kdpl_utils.support.values import whole
from kdpl_utils.train import averaging_weights, learning_rate
from kdpl_utils.vlm import check_names

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
    # --- names that CLIP cannot tell apart, or that are none ---------------------------------------------------------
    **{
        f"names: {what}": Fault(lambda bench, names=names: CoOp(bench.vlm).classifier(names), sentence)
        for what, names, sentence in (
            ("one string", "sushi", "classnames is one string, 'sushi': give a list of names."),
            ("none", [], "The list of class names is empty"),
            ("no list", None, "classnames is a NoneType: give a list of names, in the order of labels."),
            ("a set has no order", {"a", "b"}, "classnames is a set: give a list"),
            ("a mapping", {"a": 0, "b": 1}, "classnames is a dict: give a list"),
            ("bytes", b"ab", "classnames is a bytes: give a list"),
            ("indices", [0, 1], "0 is not a class name: every name must be a non-empty string."),
            ("a missing name", ["a", None], "None is not a class name"),
            ("twice", ["a", "b", "a"], "The class name 'a' occurs twice"),
            ("case", ["Hot dog", "hot dog"], "CLIP reads the class names 'Hot dog' and 'hot dog' as the same words"),
            ("underscore", ["hot_dog", "hot dog"], "'hot dog' occurs twice"),
            ("two spaces", ["hot  dog", "hot dog"], "as the same words"),
            ("a space at the end", ["hot dog ", "hot dog"], "as the same words"),
            ("a no-break space", ["hot\u00a0dog", "hot dog"], "as the same words"),
            ("a byte order mark", ["\ufeffhot dog", "hot dog"], "as the same words"),
            ("two normal forms", ["cafe\u0301", "caf\u00e9"], "as the same words"),
            ("full width", ["\uff21\uff22", "ab"], "as the same words"),
            ("an entity", ["R&amp;B", "R&B"], "as the same words"),
            ("where words end", ["8ball", "8 ball"], "as the same words"),
            ("punctuation", ["hot-dog", "hot - dog"], "as the same words"),
            ("only an underscore", ["_", "a"], "'_' is not a class name: CLIP reads no word in it."),
            ("only a mark", ["\ufeff", "a"], "CLIP reads no word in it"),
            ("half a letter", ["a\udcff", "b"], "is no valid text (a file name of another encoding?): rename it."),
            ("the end of the sentence", ["&lt;end&#95;of&#95;text&gt;", "b"], "holds a mark of CLIP's own"),
        )
    },
    "names of a dictionary that differ by case": Fault(
        lambda bench: kd.from_dictionary(torch.zeros(4, 2), ["Apple", "apple"], 1), "as the same words"
    ),
    "names to encode that differ by case": Fault(
        lambda bench: kd.encode_names(bench.vlm, ["Apple", "apple"]), "as the same words"
    ),
    # --- sentences around names --------------------------------------------------------------------------------------
    **{
        f"templates: {what}": Fault(lambda bench, t=templates: kd.encode_names(bench.vlm, NAMES, t), sentence)
        for what, templates, sentence in (
            ("one string", "a photo of a {}.", "templates is one string, 'a photo of a {}.': give a list"),
            ("none", [], "The list of templates is empty"),
            ("without a place", ["a photo."], "The template 'a photo.' has no single {} for the name"),
            ("two places", ["{} and {}"], "has no single {} for the name"),
            ("a named place", ["a {name}."], "has no single {} for the name"),
            ("a number", [3], "The template 3 has no single {}"),
            ("an end", ["a <end_of_text> {}"], "holds a mark of CLIP's own"),
        )
    },
    "a template of frozen texts without a place": Fault(
        lambda bench: FrozenTexts(bench.vlm, ["a photo."]), "has no single {} for the name"
    ),
    "words and a number of vectors": Fault(
        lambda bench: CoOp(bench.vlm, ctx_init="a photo of a", n_ctx=4),
        "ctx_init is 'a photo of a' and n_ctx is 4: give the words to start from, or the number of vectors",
    ),
    "a place for the name in the words": Fault(
        lambda bench: CoOp(bench.vlm, ctx_init="a photo of a {}."), "leave {} out, the name follows the words by itself"
    ),
    "a place for the name in MaPLe's words": Fault(
        lambda bench: MaPLe(bench.vlm, ctx_init="a {} photo"), "leave {} out"
    ),
    "a list of words": Fault(lambda bench: CoOp(bench.vlm, ctx_init=["a", "photo"]), "give one text, such as"),
    # --- numbers -----------------------------------------------------------------------------------------------------
    **{
        f"recipe: {field} = {value!r}": Fault(
            lambda bench, field=field, value=value: kd.Recipe(**{field: value}), f"{field} is {value!r}: give a "
        )
        for field, values in {
            "epochs": (0, -1, 2.5, "3", True, None, float("nan"), float("inf")),
            "batch_size": (0, 1.5),
            "lr": (0, 0.0, -0.1, float("nan"), float("inf"), 1e38, "0.1", None),
            "momentum": (-0.1, 1.5, float("nan")),
            "weight_decay": (-1, float("nan"), float("inf")),
            "warmup_epochs": (-1, 0.5),
            "warmup_lr": (-1e-5, float("nan")),
            "seed": (-1, 2**64, 10**30, 0.5, "1"),
        }.items()
        for value in values
    },
    **{
        f"recipe: average = {value!r}": Fault(
            lambda bench, value=value: kd.Recipe(average=value), "average is (mean, standard deviation) in epochs"
        )
        for value in ((15, 0), (15, -1), (15,), 15, (1, 2, 3), (float("nan"), 1), (1, float("inf")), "ab")
    },
    **{
        f"{what}": Fault(given, sentence)
        for what, given, sentence in (
            ("no shots", lambda bench: kd.few_shot(torch.zeros(4), 0, 1), "shots is 0: give a whole number"),
            ("half a shot", lambda bench: kd.few_shot(torch.zeros(4), 0.5, 1), "shots is 0.5: give a whole number"),
            ("an enormous seed", lambda bench: kd.few_shot(torch.zeros(4), 1, 10**30), "seed is 1000000000"),
            ("no word as a seed", lambda bench: kd.random_subset(4, 2, "one"), "seed is 'one': give a whole number"),
            ("fewer than none", lambda bench: kd.random_subset(4, -2, 1), "size is -2: give a whole number"),
            ("published shots", lambda bench: kd.coop_few_shot([0, 1], [0, 1], -1, 1), "shots is -1"),
            ("no vector", lambda bench: VPT(bench.vlm, n_ctx=0), "n_ctx is 0: give a whole number"),
            ("part of a vector", lambda bench: MaPLe(bench.vlm, n_ctx=1.5), "n_ctx is 1.5: give a whole number"),
            ("a word of a number", lambda bench: PromptSRC(bench.vlm, n_ctx="4"), "n_ctx is '4': give a whole number"),
            ("too deep", lambda bench: VPT(bench.vlm, depth=99), "depth is 99, and the image tower"),
            ("not deep", lambda bench: VPT(bench.vlm, depth=0), "depth is 0: give a whole number"),
            ("a seed", lambda bench: CoCoOp(bench.vlm, seed=-1), "seed is -1: give a whole number"),
            ("a setting", lambda bench: CoOp(bench.vlm, seed=object()), "seed is a object, which no file can hold"),
        )
    },
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


# --- what is understood --------------------------------------------------------------------------------------------


def test_numbers_of_numpy_are_numbers(vlm, tmp_path):
    """In a recipe, as settings, as seeds: what is saved is what Python would have saved."""
    one, tenth = np.int64(1), np.float32(0.1)
    recipe = kd.Recipe(epochs=np.int32(2), lr=tenth, seed=torch.tensor(3), average=(np.float64(1), one), batch_size=4.0)
    assert json.loads(json.dumps(vars(recipe))) == {**vars(recipe), "average": [1.0, 1]}
    assert {type(value) for value in vars(recipe).values()} == {int, float, tuple}
    learner = VPT(vlm, n_ctx=np.int64(2), depth=one, seed=np.uint8(7))
    path = kd.save_learner(learner, tmp_path / "learned.safetensors", recipe)
    again = kd.load_learner(path, vlm)
    assert saved_recipe(path) == recipe and again.settings == {"n_ctx": 2, "depth": 1, "seed": 7}
    assert torch.equal(VPT(vlm, n_ctx=2, depth=1, seed=7).visual[0], again.visual[0])
    labels = torch.arange(3).repeat(5)
    assert torch.equal(kd.few_shot(labels, np.int64(2), one), kd.few_shot(labels, 2, 1))
    assert torch.equal(kd.coop_few_shot(labels, labels, 2.0, one)[0], kd.coop_few_shot(labels, labels, 2, 1)[0])
    assert torch.equal(kd.random_subset(9, np.int16(3), one), kd.random_subset(9, 3, 1))


def test_a_dictionary_may_hold_both_spellings(vlm):
    """As the emoji world's does: 8ball and 8 ball have one feature, and either may be chosen."""
    features = kd.encode_names(vlm, ["8ball", "8 ball"])
    assert torch.equal(features[0], features[1])
    kd.from_dictionary(torch.zeros(4, 2), ["8ball", "8 ball"], 1)


def test_names_of_numpy_are_names():
    assert [type(name) for name in check_names(np.array(["hot_dog", "sushi"]))] == [str, str]


# --- properties ------------------------------------------------------------------------------------------------------

LETTERS = st.characters(codec="utf-8")
SOME_TEXT = st.text(LETTERS, max_size=12) | st.text("aAbB1 _-'.&;#x\u00e9e\u0301\u00a0\ufeff\u200d<>{}$", max_size=8)


@settings(max_examples=400, deadline=None)
@given(one=SOME_TEXT, other=SOME_TEXT)
def test_two_names_are_one_if_their_tokens_are(vlm, one, other):
    read = [vlm.tokenizer.encode(name.replace("_", " ")) for name in (one, other)]
    usable = all(read) and not any("<" in name for name in (one, other))
    try:
        check_names([one, other])
    except ValueError as error:
        assert "\n" not in str(error)
        assert not usable or read[0] == read[1]
    else:
        assert all(read) and read[0] != read[1]


@settings(max_examples=300, deadline=None)
@given(
    value=st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none(), st.booleans()), least=st.integers(-9, 9)
)
def test_a_whole_number_or_a_sentence(value, least):
    try:
        number = whole(value, "it", least)
    except ValueError as error:
        assert str(error).startswith("it is ")
    else:
        assert type(number) is int and number == value and number >= least


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(-2, 60),
            "batch_size": st.integers(-2, 60),
            "lr": st.floats(),
            "momentum": st.floats(),
            "weight_decay": st.floats(),
            "warmup_epochs": st.integers(-2, 60),
            "seed": st.integers(),
            "average": st.none() | st.tuples(st.floats(), st.floats()),
        },
    )
)
def test_a_recipe_is_usable_or_refused(fields):
    try:
        recipe = kd.Recipe(**fields)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    rates = [learning_rate(recipe, epoch) for epoch in range(recipe.epochs)]
    assert all(math.isfinite(rate) and rate >= 0 for rate in rates)
    torch.Generator().manual_seed(recipe.seed)
    if recipe.average:
        assert averaging_weights(recipe).isfinite().all()
