"""What goes wrong where names, recipes, numbers and files of prompts enter: input → the sentence → what is kept."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from faults import Fault, pattern
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from properties import cases
from safetensors import safe_open
from safetensors.torch import save_file

import kdpl_utils as kd
from kdpl_utils.apps import adapt
from kdpl_utils.apps.card import model_card
from kdpl_utils.apps.cli import main
from kdpl_utils.experiments import lab
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.training import Training
from kdpl_utils.learners import VPT, CoCoOp, CoOp, MaPLe, PromptSRC
from kdpl_utils.learners.base import FrozenTexts
from kdpl_utils.learners.classifier import export_classifier, load_classifier, model_of
from kdpl_utils.learners.saving import saved_recipe
from kdpl_utils.support.markdown import as_code
from kdpl_utils.support.values import whole
from kdpl_utils.train import averaging_weights, learning_rate
from kdpl_utils.vlm import Pixels, check_names
from kdpl_utils.widgets.distributions import teacher_student

NAMES = ["sushi", "hot dog", "ice cream"]
HOSTILE = "<img src=x onerror=alert(1)>\n# [a](https://example.org) *b* `c` ``d`` https://example.org @me $\\frac$ |"
BEFORE = "the prompts that were saved there before"
NO_GPU = () if torch.cuda.is_available() else ("cuda", "cuda:0", "CUDA", 0, np.int64(1))


@dataclass
class Bench:
    """What a user has on the table: a model and an empty folder."""

    vlm: kd.VLM
    folder: Path
    made: dict[Path, bytes] = field(default_factory=dict)  # the user's files

    def mine(self, path: Path) -> Path:
        self.made[path] = path.read_bytes()
        return path

    def is_as_it_was(self) -> bool:
        """Whether the user's files are as they were, and no others are there."""
        return self.made == {path: path.read_bytes() for path in self.folder.iterdir()}

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
        return self.mine(path)

    def classifier(self, **changes: object) -> Path:
        """A classifier's file, some of its header or tensors replaced, or left out where they are None."""
        path = export_classifier(CoOp(self.vlm), NAMES, self.folder / "classifier.safetensors")
        return self.mine(changed(path, **changes))

    def learned(self, **changes: object) -> Path:
        """The same of learned prompts."""
        return self.mine(changed(kd.save_learner(VPT(self.vlm), self.folder / "learned.safetensors"), **changes))

    def saved(self) -> Path:
        """Learned prompts as they are saved, with their checksum."""
        return self.mine(kd.save_learner(CoOp(self.vlm), self.folder / "learned.safetensors"))

    def cut(self, path: Path, left: int) -> Path:
        path.write_bytes(path.read_bytes()[:left])
        return self.mine(path)

    def flipped(self, path: Path) -> Path:
        """One bit of the last number is another."""
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        return self.mine(path)

    def bytes(self, content: bytes) -> Path:
        path = self.folder / "some.safetensors"
        path.write_bytes(content)
        return self.mine(path)

    def checkpoint(self, **state: torch.Tensor) -> Path:
        path = self.folder / "model.pth.tar-50"
        torch.save({"state_dict": state}, path)
        return self.mine(path)

    def spoiled(self, kind: type = CoOp, value: float = math.nan) -> kd.Learner:
        """A learner with one number that is none."""
        learner = kind(self.vlm)
        with torch.no_grad():
            next(learner.parameters()).flatten()[3] = value
        return learner


def changed(path: Path, **changes: object) -> Path:
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    header.pop("sha256", None)  # as other programs write
    for key, value in changes.items():
        for place in (header, tensors):
            place.pop(key, None)
        if isinstance(value, torch.Tensor):
            tensors[key] = value
        elif value is not None:
            header[key] = value
    save_file(tensors, path, header)
    return path


class Runs:
    """What a pickle may do when it is opened."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of a file was run')",)


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
        lambda bench: kd.from_dictionary(torch.zeros(4, 2), ["Apple", "apple"], 2), "as the same words"
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
    # --- files of prompts and classifiers ----------------------------------------------------------------------------
    **{
        f"a file of prompts: {what}": Fault(
            lambda bench, path_of=path_of: kd.load_learner(path_of(bench), bench.vlm), sentence
        )
        for what, path_of, sentence in (
            ("that is not there", lambda bench: bench.folder / "nothing", "There is no file"),
            ("that is a folder", lambda bench: bench.folder, "There is no file"),
            ("that is empty", lambda bench: bench.bytes(b""), "is not a safetensors file, or is cut short or changed"),
            ("that is text", lambda bench: bench.bytes(b"<html>"), "is not a safetensors file, or is cut short"),
            ("that promises too much", lambda bench: bench.bytes(b"\xff" * 8 + b"{}"), "is not a safetensors file"),
            ("that is a pickle", lambda bench: bench.bytes(pickle.dumps([1])), "is a pickle or an archive"),
            (
                "that torch saved",
                lambda bench: bench.checkpoint(ctx=torch.ones(1)),
                "it was not opened, as it may hold",
            ),
            ("that is a program", lambda bench: bench.program(), "is a pickle or an archive"),
            ("cut in the header", lambda bench: bench.cut(bench.learned(), 60), "cut short or changed: fetch it again"),
            ("cut at the end", lambda bench: bench.cut(bench.learned(), -4), "cut short or changed: fetch it again"),
            ("of a classifier", lambda bench: bench.classifier(), "holds no learner written by this library"),
            ("of an unknown kind", lambda bench: bench.learned(learner="Mine"), "holds a Mine, which is not known"),
            ("without settings", lambda bench: bench.learned(settings=None), "has no 'settings' in its header"),
            ("without a model", lambda bench: bench.learned(model=None), "has no 'model' in its header"),
            ("without weights' name", lambda bench: bench.learned(pretrained=None), "has no 'pretrained' in its"),
            ("without sizes", lambda bench: bench.learned(embedding=None), "has no 'embedding' in its header"),
            ("whose settings are text", lambda bench: bench.learned(settings="depth=3"), "that is no JSON"),
            ("whose settings are a list", lambda bench: bench.learned(settings="[1]"), "has a list as 'settings'"),
            (
                "with a wrong setting",
                lambda bench: bench.learned(settings='{"x": 1}'),
                "has the setting 'x', which a VPT",
            ),
            ("with a bad setting", lambda bench: bench.learned(settings='{"depth": 99}'), "is a VPT that does not fit"),
            (
                "of another shape",
                lambda bench: bench.learned(settings='{"depth": 2}'),
                "is a VPT of another model than",
            ),
            ("with a tensor less", lambda bench: bench.learned(**{"visual.0": None}), "visual.0 is None there"),
            ("with a tensor more", lambda bench: bench.learned(more=torch.ones(1)), "more is (1,) there and None here"),
            (
                "of nan",
                lambda bench: bench.learned(**{"visual.0": torch.full((8, 128), math.nan)}),
                "1024 of 1024 numbers",
            ),
            ("of infinity", lambda bench: bench.learned(**{"visual.0": torch.full((8, 128), -math.inf)}), "not finite"),
            (
                "of whole numbers",
                lambda bench: bench.learned(**{"visual.0": torch.ones(8, 128).int()}),
                "whole numbers",
            ),
            (
                "of other weights",
                lambda bench: bench.learned(weights="1f"),
                "was learned with other weights than these",
            ),
            (
                "of another model",
                lambda bench: bench.learned(model="emoji-student-rn"),
                "was learned with emoji-student-rn",
            ),
            ("that needs a teacher", lambda bench: bench.learned(learner="PromptKD", settings="{}"), "give teacher=…"),
        )
    },
    "a file of prompts: with one bit turned": Fault(
        lambda bench: kd.load_learner(bench.flipped(bench.saved()), bench.vlm),
        "is not a safetensors file, or is cut short or changed",
    ),
    **{
        f"a recipe in a file: {what}": Fault(
            lambda bench, text=text: saved_recipe(bench.learned(recipe=text)), sentence
        )
        for what, text, sentence in (
            ("missing", None, "has no 'recipe' in its header"),
            ("no JSON", "{", "has a 'recipe' in its header that is no JSON"),
            ("too deep", "[" * 100_000, "has a 'recipe' in its header that is no JSON"),
            ("unknown", '{"speed": 1}', "has 'speed' in its recipe, which no recipe has"),
            ("refused", '{"epochs": 0}', "has a recipe that is none: epochs is 0"),
            ("of nan", '{"lr": NaN}', "has a recipe that is none: lr is nan"),
        )
    },
    **{
        f"a classifier's file: {what}": Fault(
            lambda bench, changes=changes: load_classifier(bench.classifier(**changes), bench.vlm), sentence
        )
        for what, changes, sentence in (
            ("without names", {"classnames": None}, "has no 'classnames' in its header"),
            ("names that are no list", {"classnames": '"ab"'}, "has a str as 'classnames' in its header"),
            ("names that are none", {"classnames": "[1, 2, 3]"}, "1 is not a class name"),
            ("names that are one", {"classnames": '["a", "A", "b"]'}, "CLIP reads the class names 'a' and 'A'"),
            ("a name more", {"classnames": '["a", "b", "c", "d"]'}, "classifier for 4 names"),
            ("without features", {"text": None}, "has no tensor 'text'"),
            ("another tensor", {"more": torch.ones(2)}, "has no tensor 'tokens.0' and is no classifier"),
            ("features of another size", {"text": torch.ones(3, 7)}, "not (3, 7)"),
            (
                "features of nan",
                {"text": torch.full((3, 128), math.nan)},
                "The classifier has 384 of 384 numbers in text",
            ),
            ("tokens of another width", {"tokens.0": torch.ones(4, 7)}, "takes tokens (n, 128) in at most 6 layers"),
            ("tokens of infinity", {"tokens.0": torch.full((1, 128), math.inf)}, "in tokens.0 that are not finite"),
        )
    },
    "a classifier's file of another kind": Fault(
        lambda bench: load_classifier(bench.learned(), bench.vlm), "holds no classifier written by this library"
    ),
    "a checkpoint that holds nan": Fault(
        lambda bench: kd.import_checkpoint(bench.checkpoint(ctx=torch.full((4, 128), math.nan)), bench.vlm),
        "has 512 of 512 numbers in prompt.ctx that are not finite",
    ),
    "a checkpoint that is cut": Fault(
        lambda bench: kd.import_checkpoint(bench.cut(bench.checkpoint(ctx=torch.ones(4, 128)), 100), bench.vlm),
        "is not a PyTorch checkpoint, or is cut short",
    ),
    "a checkpoint that is empty": Fault(
        lambda bench: kd.import_checkpoint(bench.bytes(b""), bench.vlm), "is not a PyTorch checkpoint, or is cut short"
    ),
    "a checkpoint of prompts for another model": Fault(
        lambda bench: kd.import_checkpoint(bench.checkpoint(ctx=torch.ones(4, 512)), bench.vlm), "of another model than"
    ),
    # --- numbers that are none, saved or used -----------------------------------------------------------------------
    **{
        f"{value} saved by {kind.__name__}": Fault(
            lambda bench, kind=kind, value=value: kd.save_learner(bench.spoiled(kind, value), bench.saved()),
            "that are not finite (nan or infinity), and nothing can be computed with them",
            BEFORE,
        )
        for kind in (CoOp, CoCoOp, VPT, MaPLe, PromptSRC)
        for value in (math.nan, math.inf, -math.inf)
    },
    "nan exported": Fault(
        lambda bench: export_classifier(bench.spoiled(), NAMES, bench.folder / "c.safetensors"),
        "numbers in text that are not finite",
    ),
    "nan in tokens exported": Fault(
        lambda bench: export_classifier(bench.spoiled(VPT), NAMES, bench.folder / "c.safetensors"),
        "numbers in tokens.0 that are not finite",
    ),
    "nan used": Fault(
        lambda bench: bench.spoiled().predict(some_pictures(2), NAMES), "The logits of 2 of 2 images are not finite"
    ),
    "one picture for a list": Fault(
        lambda bench: CoOp(bench.vlm).predict(some_pictures(1)[0], NAMES),
        "images is one Image: give a list of pictures",
    ),
    "a path for a list": Fault(
        lambda bench: CoOp(bench.vlm).predict("a.png", NAMES), "images is one str: give a list of pictures"
    ),
    "a path to encode": Fault(lambda bench: kd.encode_images(bench.vlm, Path("a")), "give a list of pictures"),
    **{
        f"the first {k!r} names": Fault(
            lambda bench, k=k: CoOp(bench.vlm).predict(some_pictures(1), NAMES, k), f"k is {k!r}: give a whole number"
        )
        for k in (0, -1, 1.5, "2")
    },
    # --- numbers that are none, measured -----------------------------------------------------------------------------
    **{
        f"{measure.__name__} of {value}": Fault(
            lambda bench, measure=measure, value=value: measure(spoiled_scores(value), torch.tensor([0, 1, 2])),
            "The scores of 1 of 3 images are not finite, of image 1 first",
        )
        for measure in (kd.accuracy, kd.per_class_accuracy, kd.expected_calibration_error, kd.top1_agreement)
        for value in (math.nan, math.inf)
        if measure is not kd.top1_agreement
    },
    **{
        what: Fault(given, sentence)
        for what, given, sentence in (
            ("nan agrees", lambda bench: kd.top1_agreement(torch.eye(3), spoiled_scores(math.nan)), "are not finite"),
            ("nan in bits", lambda bench: kd.kl_bits(spoiled_scores(math.nan), torch.eye(3)), "are not finite"),
            ("nan's entropy", lambda bench: kd.entropy(spoiled_scores(math.nan)), "are not finite"),
            ("nan perturbed", lambda bench: kd.perturb(spoiled_scores(math.nan)), "are not finite"),
            (
                "no name left",
                lambda bench: kd.accuracy(torch.full((1, 2), -math.inf), torch.zeros(1)),
                "are not finite",
            ),
            ("an array", lambda bench: kd.accuracy(np.eye(3), torch.arange(3)), "Scores are a ndarray: give a tensor"),
            ("a list", lambda bench: kd.accuracy(torch.eye(3), [0, 1, 2]), "Labels are a list: give a tensor"),
            ("nan as temperature", lambda bench: kd.perturb(torch.eye(3), math.nan), "temperature is nan: give"),
            ("nan in bits", lambda bench: kd.kl_bits(torch.eye(3), torch.eye(3), math.nan), "temperature is nan: give"),
            ("nan as noise", lambda bench: kd.perturb(torch.eye(3), 1, math.nan), "noise is nan: give a number"),
            (
                "bins",
                lambda bench: kd.reliability_curve(torch.eye(3), torch.arange(3), 1.5),
                "bins is 1.5: give a whole",
            ),
            (
                "a mixture of one",
                lambda bench: kd.mix_teachers(torch.eye(3)),
                "A mixture needs a list of logits (B, C)",
            ),
            (
                "a mixture of two sizes",
                lambda bench: kd.mix_teachers([torch.eye(3), torch.eye(2)]),
                "of the same images and classes, not of shapes (2, 2), (3, 3).",
            ),
            ("no names", lambda bench: kd.select_classes(torch.eye(3), 0), "k must lie between 1 and the 3 classes"),
            ("part of a name", lambda bench: kd.select_classes(torch.eye(3), 1.5), "k is 1.5: give a whole number"),
        )
    },
    # --- what supervises ---------------------------------------------------------------------------------------------
    **{
        f"supervision: {what}": Fault(given, sentence)
        for what, given, sentence in (
            (
                "names as labels",
                lambda bench: kd.from_labels(["sushi", "hot dog"], NAMES),
                "labels holds 'sushi': give numbers, the index of each.",
            ),
            (
                "a label too high",
                lambda bench: kd.from_labels(torch.tensor([0, 3]), NAMES),
                "Labels lie in 0…3, and there",
            ),
            ("no label", lambda bench: kd.from_labels(torch.tensor([0, -1]), NAMES), "a picture without a label (-1)"),
            ("shares", lambda bench: kd.from_labels(torch.eye(3), NAMES), "Labels are (3, 3) of torch.float32"),
            ("one class", lambda bench: kd.from_labels(torch.zeros(2).long(), ["a"]), "'a' is the only class name"),
            ("one class taught", lambda bench: kd.from_teacher(torch.zeros(2, 1), ["a"]), "'a' is the only class name"),
            (
                "a teacher's nan",
                lambda bench: kd.from_teacher(spoiled_scores(math.nan), NAMES),
                "The teacher's logits of 1",
            ),
            (
                "a teacher's inf",
                lambda bench: kd.from_teacher(spoiled_scores(math.inf), NAMES),
                "The teacher's logits of 1",
            ),
            (
                "another size",
                lambda bench: kd.from_teacher(torch.eye(4), NAMES),
                "a column for each name in the same order",
            ),
            ("no picture", lambda bench: kd.from_teacher(torch.eye(3)[:0], NAMES), "The teacher's logits are (0, 3)"),
            (
                "K of none",
                lambda bench: kd.from_dictionary(torch.eye(3), NAMES, 0),
                "k is 0: give a whole number from 2",
            ),
            (
                "K of one",
                lambda bench: kd.from_dictionary(torch.eye(3), NAMES, 1),
                "k is 1: give a whole number from 2",
            ),
            (
                "K too many",
                lambda bench: kd.from_dictionary(torch.eye(3), NAMES, 4),
                "k is 4: give a whole number from 2",
            ),
            (
                "a dictionary's nan",
                lambda bench: kd.from_dictionary(spoiled_scores(math.nan), NAMES, 2),
                "are not finite",
            ),
            (
                "indices as a mask",
                lambda bench: kd.from_both(torch.arange(3), torch.tensor([0, 2]), torch.eye(3), NAMES),
                "known is (2,) of torch.int64: give 3 booleans, true for a picture whose label is known",
            ),
            (
                "a mask too short",
                lambda bench: kd.from_both(torch.arange(3), [True, False], torch.eye(3), NAMES),
                "known is (2,) of torch.bool: give 3 booleans",
            ),
            (
                "a known label that is none",
                lambda bench: kd.from_both(torch.tensor([0, -1, 1]), [True, True, False], torch.eye(3), NAMES),
                "Labels lie in -1…0",
            ),
        )
    },
    # --- a training that turns non-finite ----------------------------------------------------------------------------
    **{
        f"training: {what}": Fault(lambda bench, start=start: start(bench), sentence)
        for what, start, sentence in (
            (
                "a prompt that is none",
                lambda bench: train(bench.spoiled()),
                "The learner to train has 1 of 512 numbers in prompt.ctx that are not finite",
            ),
            (
                "a target that is none",
                lambda bench: train(CoOp(bench.vlm), target=math.nan),
                "not finite at step 0; the parameters are as before it: this looks like a target or a model that is",
            ),
            (
                "a name masked for the teacher alone",
                lambda bench: train(CoOp(bench.vlm), target=-math.inf),
                "The loss (inf) or its gradient is not finite at step 0",
            ),
            (
                "features that are none",
                lambda bench: train(CoOp(bench.vlm), features=math.nan),
                "this looks like pictures or features of this batch that are not finite",
            ),
            (
                "too long a step",
                lambda bench: train(CoOp(bench.vlm), stretch=1e37),
                "this looks like too long a step: lower the learning rate (it is 1000), or train in float32",
            ),
        )
    },
    # --- masks, and names in place of indices ------------------------------------------------------------------------
    **{
        f"rows: {what}": Fault(given, sentence)
        for what, given, sentence in (
            ("names as classes", lambda bench: pictures().of_classes(NAMES), "classes holds 'sushi': give numbers"),
            ("one name as classes", lambda bench: pictures().of_classes("sushi"), "classes is one text, 'sushi': give"),
            ("names as shots' labels", lambda bench: kd.few_shot(NAMES, 1, 1), "labels holds 'sushi': give numbers"),
            ("names as rows", lambda bench: pictures().subset(["a"]), "indices holds 'a': give numbers"),
            (
                "rows beyond the last",
                lambda bench: pictures().subset([0, 6]),
                "from 0 to 6, and there are 6 rows",
            ),
            (
                "parts of rows",
                lambda bench: pictures().subset([0.5]),
                "indices holds torch.float32: give",
            ),
            ("a short mask", lambda bench: pictures().subset([True, False]), "is a mask of shape (2,) over 6 rows"),
            ("views", lambda bench: pictures().crops(-1, 1), "views is -1: give a whole number of at least 0."),
            ("a seed of views", lambda bench: pictures().crops(1, "one"), "seed is 'one': give a whole number"),
            (
                "a mask of classes",
                lambda bench: kd.selection_recall(torch.tensor([True, False]), torch.tensor([0])),
                "give mask.nonzero().flatten() instead of a mask",
            ),
            (
                "a context of nan read as words",
                lambda bench: kd.nearest_words(bench.vlm, torch.full((2, 128), math.nan)),
                "The context has 256 of 256 numbers in ctx that are not finite",
            ),
            (
                "no word",
                lambda bench: kd.nearest_words(bench.vlm, torch.zeros(2, 128), 0),
                "k is 0: give a whole number",
            ),
            (
                "one text as a dictionary",
                lambda bench: kd.dictionary_report("cat", NAMES),
                "dictionary is one text",
            ),
            ("one text to look for", lambda bench: kd.dictionary_report(NAMES, "cat"), "classnames is one text, 'cat'"),
        )
    },
    # --- explorers ---------------------------------------------------------------------------------------------------
    "nan in an explorer": Fault(
        lambda bench: teacher_student(some_pictures(3), NAMES, spoiled_scores(math.nan), torch.eye(3)),
        "The logits of 1 of 3 images are not finite, of image 1 first",
    ),
    "nan in a later step of an explorer": Fault(
        lambda bench: teacher_student(some_pictures(3), NAMES, torch.eye(3), [torch.eye(3), spoiled_scores(math.inf)]),
        "The logits of 1 of 3 images are not finite",
    ),
    # --- plans of comparisons ----------------------------------------------------------------------------------------
    **{
        f"plan: {what}": Fault(lambda bench, given=given: planned(**given), sentence)
        for what, given, sentence in (
            ("no shots", {"shots": 0}, "shots is 0: give a whole number of at least 1."),
            ("shots in a list", {"shots": [4, 1.5]}, "shots is 1.5: give a whole number"),
            ("a seed", {"seeds": -1}, "seed is -1: give a whole number"),
            ("K", {"k": -1}, "k is -1: give a whole number of at least 0."),
            ("views", {"views": -1}, "views is -1: give a whole number of at least 0."),
            ("epochs", {"epochs": 0}, "epochs is 0: give a whole number of at least 1."),
            ("rate", {"lr": math.nan}, "lr is nan: give a number above 0"),
            ("labels", {"labelled": math.nan}, "labelled = nan: give the share of labels, 0 to 1"),
            ("labels as text", {"labelled": "half"}, "labelled = half: give the share of labels"),
            ("a model", {"student": 3}, "A model is 3: give 'name/weights', or its name and its weights as a pair."),
            ("a learner", {"learners": "coup"}, "There is no learner 'coup'"),
            ("a mode", {"modes": "kdlp"}, "There is no mode 'kdlp'"),
            ("a world", {"world": "emojis"}, "There is no world 'emojis'"),
        )
    },
    # --- models and devices ------------------------------------------------------------------------------------------
    **{
        f"device: {device!r}": Fault(
            lambda bench, device=device: kd.load_vlm("emoji-student-vit", device=device),
            f"device is {device!r}{sentence}",
        )
        for device, sentence in (
            ("gpu", ": give 'cuda', 'cuda:1', 'mps' or 'cpu', or None for the best there is."),
            ("", ": give 'cuda'"),
            ("cuda:-1", ": give 'cuda'"),
            ("meta", ": give 'cuda'"),
            (True, ": give 'cuda'"),
            (0.5, ": give 'cuda'"),
            ("cpu:1", ", and the last one here is cpu:0: give one up to that."),
            *((device, ", and PyTorch finds no cuda here") for device in NO_GPU),
        )
    },
    **{
        f"model: {what}": Fault(lambda bench, given=given: load_file(bench, *given), sentence)
        for what, given, sentence in (
            (
                "a tag of a shipped one",
                ("emoji-student-vit", "openai"),
                "comes with its weights, and 'openai' is no file",
            ),
            ("a pair in one", (("emoji-student-vit", None),), "give its name and its weights, as two texts"),
            ("no name", (None,), "The model is None with None"),
            ("a scheme of nobody's", ("s3:bucket/model",), "There is no model 's3:bucket/model'"),
            ("text as weights", ("emoji-student-vit", b"<html>", ".pt"), "is a pickle or a program that may run code"),
            ("nothing as weights", ("emoji-student-vit", b"", ".pt"), "does not hold weights of emoji-student-vit"),
            ("text as safetensors", ("emoji-student-vit", b"<html>", ".safetensors"), "does not hold weights of"),
            (
                "a pickle that runs",
                ("emoji-student-vit", pickle.dumps(Runs()), ".pt"),
                "is a pickle or a program that may",
            ),
            ("a folder without weights", ("local-dir:",), "has no file of weights beside its configuration"),
        )
    },
    "precision": Fault(lambda bench: kd.load_vlm("emoji-student-vit", precision="half"), "precision is 'half': choose"),
    "features of weights that are none": Fault(
        lambda bench: kd.encode_images(with_nan(bench.vlm), some_pictures(3)),
        "gives features that are not finite for one of the images 0 to 2",
    ),
    "text of weights that are none": Fault(
        lambda bench: kd.encode_names(with_nan(bench.vlm), NAMES), "gives text features that are not finite"
    ),
}


def pictures() -> kd.Split:
    return kd.Split(some_pictures(6), torch.tensor([0, 1, 2, 0, 1, 2]))


def planned(world: str = "emoji", learners=("coop",), modes=("kdpl",), seeds=(1,), **given) -> list:
    return plan("base-to-novel", world, learners, modes, seeds, **given)


def train(learner: kd.Learner, target: float = 0.0, features: float = 0.0, stretch: float = 1.0) -> None:
    """Two epochs of CoOp on eight features; what is given spoils the teacher's logits, the features, or the loss."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn((8, 128), generator=generator)
    pictures[:, 5] += features
    teacher = torch.randn((8, 3), generator=generator)
    teacher[:, 1] += target
    was = [p.detach().clone() for p in learner.parameters()]
    steps = []

    def loss(fetched: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        rows, images = fetched
        steps.append(rows)
        return stretch * kd.symmetric_kl(teacher[rows], learner(images, NAMES))

    recipe = kd.Recipe(epochs=2, batch_size=8, lr=1e3, warmup_epochs=0)
    try:
        kd.fit(learner, loss, 8, recipe, progress=False, fetch=lambda rows: (rows, pictures[rows]))
    except FloatingPointError:
        assert len(steps) == 1 and all(torch.equal(p, q) for p, q in zip(learner.parameters(), was))
        raise


def load_file(bench: Bench, name: object, content: bytes | str | None = None, suffix: str = "") -> kd.VLM:
    if name == "local-dir:":
        bench.mine(write_configuration(bench.folder))
        name = f"local-dir:{bench.folder}"
    if isinstance(content, bytes):
        path = bench.folder / f"weights{suffix}"
        path.write_bytes(content)
        content = str(bench.mine(path))
    return kd.load_vlm(name, content, device="cpu")


def write_configuration(folder: Path, **text: object) -> Path:
    config = open_clip.get_model_config("emoji-student-vit")
    file = {"model_cfg": {**config, "text_cfg": {**config["text_cfg"], **text}}, "preprocess_cfg": {}}
    path = folder / "open_clip_config.json"
    path.write_text(json.dumps(file), encoding="utf-8")
    return path


def with_nan(vlm: kd.VLM) -> kd.VLM:
    spoiled = copy.deepcopy(vlm)
    for weights in (spoiled.model.visual.proj, spoiled.model.text_projection):
        weights.data[0] = math.nan
    return spoiled


def spoiled_scores(value: float) -> torch.Tensor:
    scores = torch.eye(3)
    scores[1, 2] = value
    return scores


def some_pictures(n: int) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), (40 * i, 80, 120)) for i in range(n)]


@pytest.fixture(scope="module")
def vlm():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence(case, vlm, tmp_path):
    fault = FAULTS[case]
    bench = Bench(vlm, tmp_path)
    changes = changes_of(vlm)
    with pytest.raises((ValueError, OSError, FloatingPointError)) as caught:
        fault.given(bench)
    said = str(caught.value)
    assert re.search(pattern(fault.sentence), said) and "\n" not in said
    assert bench.is_as_it_was() and changes_of(vlm) == changes
    for path in bench.made:
        if fault.kept == BEFORE:
            assert kd.load_learner(path, vlm)


def changes_of(vlm: kd.VLM) -> list[int]:
    """How often each tensor of a model was changed in its place, and whether it wants a gradient."""
    tensors = [*vlm.model.parameters(), *vlm.model.buffers()]
    return [(tensor._version, tensor.requires_grad) for tensor in tensors]


# --- what is typed -------------------------------------------------------------------------------------------------

ADAPT = ["--student", "emoji-student-vit", "--teacher", "emoji-teacher-small", "--names", "red", "blue"]
TYPED = {  # the command → what is said
    "adapt: no epoch": ([*ADAPT, "--epochs", "0"], "epochs is 0: give a whole number of at least 1."),
    "adapt: no step": ([*ADAPT, "--lr", "0"], "lr is 0.0: give a number above 0"),
    "adapt: a step that is none": ([*ADAPT, "--lr", "nan"], "lr is nan: give a number above 0"),
    "adapt: too long a step": ([*ADAPT, "--lr", "1e38"], "lr is 1e+38: give a number above 0 and at most 1000."),
    "adapt: views": ([*ADAPT, "--views", "-1"], "views is -1: give a whole number of at least 0."),
    "adapt: an enormous seed": ([*ADAPT, "--seed", "9" * 30], "seed is 999999999999999999999999999999: give a whole"),
    "adapt: a seed below 0": ([*ADAPT, "--seed", "-1"], "seed is -1: give a whole number from 0"),
    "adapt: labels": ([*ADAPT, "--labels", "nan"], "the share of labels is nan: give a number of at least 0"),
    "adapt: one name": ([*ADAPT[:4], "--names", "red"], "'red' is the only class name"),
    "adapt: one name twice": ([*ADAPT, "Red"], "CLIP reads the class names 'red' and 'Red' as the same words"),
    "adapt: names and a file": ([*ADAPT, "--names-file", "{names}"], "--names and --names-file are both there"),
    "adapt: an empty file": ([*ADAPT[:4], "--names-file", "{empty}"], "empty.txt has no class name in it"),
    "adapt: a picture of names": ([*ADAPT[:4], "--names-file", "{binary}"], "binary.txt is not text in UTF-8"),
    "adapt: no file": ([*ADAPT[:4], "--names-file", "nowhere.txt"], "There is no names file nowhere.txt"),
    "adapt: a tag too much": (["--student", "emoji-student-vit/openai", *ADAPT[2:]], "comes with its weights, and"),
    "adapt: ONNX of CoCoOp": ([*ADAPT, "--learner", "cocoop", "--onnx"], "CoCoOp has no classifier to write as ONNX"),
    "adapt: somebody's page": ([*ADAPT, "--out", "{theirs}"], "README.md is there and was not written by this command"),
    "adapt: somebody's file": ([*ADAPT, "--out", "{other}"], "learned.safetensors is there and was not written"),
    "adapt: a file as a folder": ([*ADAPT, "--out", "{names}"], "names.txt is a file: give the path of a folder"),
    "predict: none of the names": (["{classifier}", "{pictures}", "--top", "0"], "--top is 0: give a whole number"),
    "predict: fewer than none": (["{classifier}", "{pictures}", "--top", "-1"], "--top is -1: give a whole number"),
    "predict: other names": (["{classifier}", "{pictures}", "--names", "a"], "has class names of its own"),
    "predict: no names": (["{prompts}", "{pictures}"], "holds prompts without class names: give some with --names."),
    "predict: no file": (["nowhere", "{pictures}"], "There is no file nowhere."),
    "predict: text": (["{names}", "{pictures}"], "is not a safetensors file, or is cut short or changed"),
    "reproduce: no seed": (["--seeds", "0"], "--seeds is 0: give a whole number of at least 1."),
    "reproduce: no worker": (["--workers", "0"], "--workers is 0: give a whole number of at least 1."),
    "reproduce: fewer workers": (["--workers", "-1"], "--workers is -1: give a whole number of at least 1."),
    "reproduce: no shots": (["--shots", "0"], "shots is 0: give a whole number of at least 1."),
    "reproduce: K": (["--k", "-1"], "k is -1: give a whole number of at least 0."),
    "reproduce: epochs": (["--epochs", "0"], "epochs is 0: give a whole number of at least 1."),
    "reproduce: a batch": (["--batch-size", "0"], "batch_size is 0: give a whole number of at least 1."),
    "reproduce: a step": (["--lr", "inf"], "lr is inf: give a number above 0"),
    "reproduce: views": (["--views", "-2"], "views is -2: give a whole number of at least 0."),
    "reproduce: labels": (["--labelled", "nan"], "labelled = nan: give the share of labels, 0 to 1"),
}
NOTHING_WRITTEN = "all files are as they were, nothing is written and no training begins"
COMMANDS = {case: Fault(*row, NOTHING_WRITTEN) for case, row in TYPED.items()}


@pytest.fixture(scope="module")
def desk(vlm, tmp_path_factory) -> dict[str, Path]:
    """Four pictures, files of names, a classifier, prompts, and folders that hold somebody's own files."""
    folder = tmp_path_factory.mktemp("desk")
    paths = {"pictures": folder / "pictures", "theirs": folder / "theirs", "other": folder / "other"}
    for path in paths.values():
        path.mkdir()
    for i, picture in enumerate(some_pictures(4)):
        picture.save(paths["pictures"] / f"{i}.png")
    (paths["theirs"] / "README.md").write_text("# My own page\n", encoding="utf-8")
    (paths["other"] / "learned.safetensors").write_bytes(b"mine")
    files = {"names": b"red\nblue\n", "empty": b"\xef\xbb\xbf\n  \n", "binary": b"\x89PNG\r\n\xe9\xff\n"}
    for name, content in files.items():
        paths[name] = folder / f"{name}.txt"
        paths[name].write_bytes(content)
    paths["classifier"] = export_classifier(CoOp(vlm), NAMES, folder / "classifier.safetensors")
    paths["prompts"] = kd.save_learner(CoOp(vlm), folder / "prompts.safetensors")
    return paths


@pytest.mark.parametrize("case", COMMANDS)
def test_a_wish_that_cannot_be_is_one_sentence(case, desk, tmp_path, monkeypatch, capsys):
    typed, sentence, _ = COMMANDS[case]
    command, folder = case.split(":")[0], next(iter(desk.values())).parent
    monkeypatch.setattr(lab, "train_learner", lambda *_, **__: pytest.fail("a training began"))
    given = [str(desk[word[1:-1]]) if word.startswith("{") else word for word in typed]
    first = [str(desk["pictures"])] if command == "adapt" else []
    out = [] if command == "predict" else ["--out", str(tmp_path / "out")]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([command, *first, *out, *given]) == 2
    said = capsys.readouterr().err
    assert re.search(pattern(sentence), said) and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "content",
    ["red\nblue\n", "\ufeffred\r\nblue", "\n red \n\nblue\n"],
    ids=["plain", "of Windows", "with empty lines"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_of_names_is_read_as_it_is_meant(content, encoding, tmp_path, monkeypatch):
    (tmp_path / "names.txt").write_text(content.removeprefix("\ufeff") if encoding == "utf-16" else content, encoding)
    assert names_that_arrive(monkeypatch, ["--names-file", str(tmp_path / "names.txt")]) == ["red", "blue"]


@pytest.mark.parametrize("typed", [["red", "blue"], ["red, blue"], ["red,blue,"]])
def test_names_between_commas_are_several(typed, monkeypatch):
    assert names_that_arrive(monkeypatch, ["--names", *typed]) == ["red", "blue"]


def names_that_arrive(monkeypatch, typed: list[str]) -> list[str]:
    arrived = []

    def adapt_folder(folder, out, names, *_, **__):
        arrived.extend(names)
        raise ValueError("enough")

    monkeypatch.setattr(adapt, "adapt_folder", adapt_folder)
    assert main(["adapt", "folder", "--out", "out", *typed]) == 2
    return arrived


def test_prompts_without_a_classifier_are_used_all_the_same(desk, tmp_path, capsys):
    """CoCoOp's classes depend on the picture: no classifier, but kdpl predict takes what was learned."""
    out = tmp_path / "out"
    command = ["adapt", str(desk["pictures"]), "--out", str(out), *ADAPT, "--learner", "cocoop", "--epochs", "1"]
    assert main([*command, "--dictionary", str(desk["names"])]) == 0
    assert sorted(path.name for path in out.glob("[!.]*") if path.is_file()) == ["README.md", "learned.safetensors"]
    capsys.readouterr()
    picture = str(desk["pictures"] / "1.png")
    assert main(["predict", str(out / "learned.safetensors"), picture]) == 0
    assert main(["predict", str(out / "learned.safetensors"), picture, "--names", "green", "grey"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "red" in first and "blue" in first and "green" in second and "grey" in second
    assert main([*command, "--dictionary", str(desk["names"])]) == 0, "its own files are replaced"


def test_a_table_names_the_shots_that_were_used():
    with pytest.warns(UserWarning, match="has at most 32 training pictures a class: so many are used, not 1000"):
        jobs = [job for job, _ in plan("few-shot", "emoji", "coop", "kdpl", 1, [4, 32, 1000]) if job.mode == "kdpl"]
    assert [job.shots for job in jobs] == [4, 32]


def test_one_thing_may_stand_for_a_list():
    one = plan("base-to-novel", "emoji", "coop", "kdpl", np.int64(1), 4, student="emoji-student-vit", k=np.int64(0))
    same = plan("base-to-novel", "emoji", ["coop"], ["kdpl"], [1], [4], student=("emoji-student-vit", None), k=0)
    assert one == same and json.dumps(vars(one[1][0]), default=vars)


@pytest.mark.parametrize("name", ["$$", "$\\frac$", "\\$", "a_b^c", HOSTILE, "\\mathdefault{x}$"])
def test_a_name_is_text_in_an_explorer(name):
    shown = teacher_student(some_pictures(3), ["a", "b", name], torch.eye(3), [torch.eye(3), torch.eye(3).flip(0)])
    shown.controls["picture"].value = 3
    assert len(shown.png) > 1000 and "<img src=x" not in shown.text.value + shown.picture.value.replace(shown.alt, "")


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
    write_configuration(tmp_path, hf_tokenizer_name="somebody/words", tokenizer_kwargs={"trust_remote_code": True})
    weights = {key: tensor.contiguous() for key, tensor in vlm.model.state_dict().items()}
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    asked = []
    monkeypatch.setattr("open_clip.get_tokenizer", lambda name, **options: asked.append(options))
    kd.load_vlm(f"local-dir:{tmp_path}", device="cpu")
    assert asked == [{"trust_remote_code": False}]


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
    kd.from_dictionary(torch.zeros(4, 2), ["8ball", "8 ball"], 2)


def test_names_of_numpy_are_names():
    assert [type(name) for name in check_names(np.array(["hot_dog", "sushi"]))] == [str, str]


@pytest.mark.parametrize("device", ["cpu", "CPU", " cpu ", torch.device("cpu"), "cpu:0"])
def test_a_device_may_be_written_in_many_ways(device):
    assert kd.load_vlm("emoji-student-rn", device=device).device == torch.device("cpu")


def test_the_last_step_may_not_overshoot():
    """Loss and gradient are finite, the update is not: the prompt stays as it was before it."""
    learner, steps = torch.nn.Linear(2, 1, bias=False), []

    def loss(rows: torch.Tensor) -> torch.Tensor:
        steps.append(learner.weight.detach().clone())
        return (1e37 if len(steps) == 2 else 1e-3) * learner(torch.ones(1, 2)).sum()

    with pytest.raises(FloatingPointError) as caught:
        kd.fit(learner, loss, 4, kd.Recipe(epochs=2, batch_size=4, lr=1e3, warmup_epochs=0), progress=False)
    said = str(caught.value)
    assert said.startswith("The parameters behind the update (the loss is ") and "are not finite at step 1" in said
    assert "lower the learning rate (it is 500)" in said
    assert torch.equal(learner.weight, steps[1]) and not torch.equal(steps[0], steps[1])


def test_a_mask_chooses_the_rows_that_are_true(vlm):
    """Where ones and zeros are meant as numbers they stay numbers."""
    mask = [True, False, False, True, False, False]
    for some in (mask, np.array(mask), torch.tensor(mask), [0, 3], np.array([0, 3]), torch.tensor([0, 3])):
        chosen = pictures().subset(some)
        assert chosen.labels.tolist() == [0, 0] and [image.getpixel((0, 0))[0] for image in chosen.images] == [0, 120]
        assert torch.equal(Pixels(vlm, some_pictures(6))[some], Pixels(vlm, some_pictures(6))[[0, 3]])
    assert pictures().subset([1, 0]).labels.tolist() == [1, 0]
    assert pictures().of_classes(np.array([2, 1])).labels.tolist() == [1, 0, 1, 0]


def test_features_that_are_none_are_made_again(vlm, tmp_path):
    cache, made = FeatureCache(tmp_path), []

    def make(rows: range) -> torch.Tensor:
        made.append(rows)
        return torch.full((len(rows), 2), math.nan if len(made) == 1 else 1.0)

    cache.tensor(("key",), 3, make)
    with pytest.warns(UserWarning, match="is damaged"):
        assert torch.equal(cache.tensor(("key",), 3, make), torch.ones(3, 2))


def test_a_folder_is_what_is_in_it_and_not_what_it_is_called(tmp_path, monkeypatch):
    """A folder called emojis has the models, recipes and shots of one called photos."""
    monkeypatch.chdir(tmp_path)
    worlds = []
    for name in ("photos", "emojis", "emoji/food-drinks"):
        for part in ("red", "blue"):
            (tmp_path / name / part).mkdir(parents=True)
            for i, picture in enumerate(some_pictures(10)):
                picture.save(tmp_path / name / part / f"{i}.png")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            worlds.append(kd.load_world(name, dictionary=NAMES))
    same = ("student", "teacher", "recipes", "views", "shots_as_published", "transformer", "students", "teachers")
    first, *others = ({field: getattr(world, field) for field in same} for world in worlds)
    assert all(other == first for other in others) and first["student"][0] == "ViT-B-32-quickgelu"


def test_a_mask_may_be_a_list_and_labels_an_array():
    labels, mask, logits = np.array([0, -1, 1]), [True, False, True], torch.randn(3, 3)
    names, loss = kd.from_both(labels, mask, logits, NAMES)(torch.arange(3))
    _, same = kd.from_both(torch.tensor(labels), torch.tensor(mask), logits, NAMES)(torch.arange(3))
    z = torch.randn(3, 3)
    assert names == NAMES and torch.equal(loss(z), same(z))


@pytest.mark.parametrize("loss", [kd.forward_kl, kd.reverse_kl, kd.symmetric_kl])
def test_a_masked_name_adds_nothing(loss):
    """−∞ for teacher and student is a name that is not there: value and gradient are those without it."""
    teacher, student = (torch.randn((4, 5), generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    there = [0, 1, 3, 4]
    masked = [logits.index_fill(1, torch.tensor([2]), -math.inf) for logits in (teacher, student)]
    masked[1].requires_grad_()
    plain = student[:, there].clone().requires_grad_()
    expected, value = loss(teacher[:, there], plain), loss(*masked)
    torch.testing.assert_close(value, expected)
    (gradient,), (wanted,) = torch.autograd.grad(value, masked[1]), torch.autograd.grad(expected, plain)
    torch.testing.assert_close(gradient[:, there], wanted)
    assert (gradient[:, 2] == 0).all()


def test_a_teacher_that_excludes_a_name_is_finite_forwards_only():
    teacher = torch.tensor([[0.0, -math.inf, 0.0]])
    assert kd.forward_kl(teacher, torch.zeros(1, 3)).item() == pytest.approx(math.log(3 / 2))
    assert kd.reverse_kl(teacher, torch.zeros(1, 3)).item() == math.inf


# --- properties ------------------------------------------------------------------------------------------------------

LETTERS = st.characters(codec="utf-8")
SOME_TEXT = st.text(LETTERS, max_size=12) | st.text("aAbB1 _-'.&;#x\u00e9e\u0301\u00a0\ufeff\u200d<>{}$", max_size=8)


@cases(400)
@given(one=SOME_TEXT, other=SOME_TEXT)
@example(one="0", other="\x85")
def test_two_names_are_one_if_their_tokens_are(vlm, one, other):
    read = [vlm.tokenizer.encode(name.replace("_", " ")) for name in (one, other)]
    # A name of white space alone is none, also where the tokenizer reads some of it (U+0085).
    usable = all(read) and all(name.strip() and "<" not in name for name in (one, other))
    try:
        check_names([one, other])
    except ValueError as error:
        assert "\n" not in str(error)
        assert not usable or read[0] == read[1]
    else:
        assert all(read) and read[0] != read[1]


@cases(200)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 6),
    k=st.integers(-2, 8),
    seed=st.integers(0, 999),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 50.0, 1e4]),
    odd=st.sampled_from([None, math.nan, math.inf, -math.inf]),
)
def test_logits_of_any_size_give_a_number_or_a_sentence(rows, columns, k, seed, scale, odd):
    teacher, student = scale * torch.randn((2, rows, columns), generator=torch.Generator().manual_seed(seed))
    if odd is not None:
        teacher[seed % rows, seed % columns] = odd
        student[seed % rows, seed % columns] = odd
    usable = odd is None or (odd == -math.inf and columns > 1)
    if usable:
        losses = [loss(teacher, student).item() for loss in (kd.forward_kl, kd.reverse_kl, kd.symmetric_kl)]
        assert all(math.isfinite(loss) and loss > -1e-3 for loss in losses)
        assert losses[2] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-5, abs=1e-6)
    labels = torch.arange(rows) % columns
    measures = (
        lambda: kd.accuracy(teacher, labels),
        lambda: kd.expected_calibration_error(teacher.softmax(-1), labels),
        lambda: kd.top1_agreement(teacher, student),
    )
    for measure in measures:
        try:
            assert 0 <= measure() <= 1 and usable
        except ValueError as error:
            assert not usable and "not finite" in str(error)
    try:
        chosen = kd.select_classes(teacher, k).tolist()
    except ValueError as error:
        is_k = not 1 <= k <= columns and "k must lie" in str(error) or k < 0 and "k is" in str(error)
        assert is_k or (not usable and "not finite" in str(error))
    else:
        assert usable and len(set(chosen)) == k == len(chosen) and all(0 <= c < columns for c in chosen)


@cases(60)
@given(n=st.integers(1, 40), batch_size=st.integers(1, 50), epochs=st.integers(1, 3), seed=st.integers(0, 2**62))
def test_every_batch_shape_trains(n, batch_size, epochs, seed):
    """Full batches of different pictures each epoch; a batch larger than the set is the whole set."""
    learner, seen = torch.nn.Linear(2, 1), []

    def loss(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows.tolist())
        return learner(torch.ones(len(rows), 2)).square().mean()

    history = kd.fit(learner, loss, n, kd.Recipe(epochs, batch_size, seed=seed), progress=False)
    steps = max(1, n // batch_size)
    assert len(history.loss) == len(seen) == epochs * steps
    for epoch in range(epochs):
        rows = [row for batch in seen[epoch * steps : (epoch + 1) * steps] for row in batch]
        assert len(set(rows)) == len(rows) == min(n, steps * batch_size) and set(rows) <= set(range(n))


@cases(300)
@given(data=st.data())
def test_a_changed_file_of_prompts_is_refused_by_name(vlm, tmp_path, data):
    """Bytes changed, cut or put in anywhere: never another prompt, never another kind of error."""
    path = tmp_path / "learned.safetensors"
    if not path.exists():
        kd.save_learner(CoOp(vlm), tmp_path / "whole.safetensors")
    whole_file = (tmp_path / "whole.safetensors").read_bytes()
    content = bytearray(whole_file)
    at = data.draw(st.integers(0, len(content) - 1), label="at")
    how = data.draw(st.sampled_from(["change", "cut", "insert"]), label="how")
    if how == "change":
        content[at] ^= data.draw(st.integers(1, 255), label="by")
    elif how == "cut":
        del content[at:]
    else:
        content[at:at] = data.draw(st.binary(min_size=1, max_size=9), label="what")
    path.write_bytes(content)
    if bytes(content) == whole_file:
        return
    with pytest.raises(ValueError, match="learned.safetensors") as caught:
        kd.load_learner(path, vlm)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("whole, changed", [(b'"sha256":"', b'"shb256":"'), (b'"sha256":"', b'"sha256":"~')])
def test_a_checksum_that_was_changed_is_no_missing_one(vlm, tmp_path, whole, changed):
    """Files of earlier versions have none and are read; that is no way around the check."""
    path = tmp_path / "learned.safetensors"
    kd.save_learner(CoOp(vlm), path)
    content = path.read_bytes()
    at = content.index(whole)
    path.write_bytes(content[:at] + changed + content[at + len(changed) :])
    with pytest.raises(ValueError, match="learned.safetensors is not a safetensors file, or is cut short or changed"):
        kd.load_learner(path, vlm)


@cases(320)
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


@cases(300)
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


PAGE = {"Names, numbers, models and files that are given": FAULTS, "Commands": COMMANDS}
