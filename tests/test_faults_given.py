"""What somebody gives: labels of other types, other things in the place of a model, files and paths of their own."""

from __future__ import annotations

import functools
import io
import math
import re
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from faults import Fault, pattern
from PIL import Image
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils import checks, widgets
from kdpl_utils.apps.check import check
from kdpl_utils.experiments.terms import validation_used
from kdpl_utils.experiments.training import Training
from kdpl_utils.learners.classifier import Classifier, export_classifier, load_classifier, names_of
from kdpl_utils.learners.promptkd import from_promptkd
from kdpl_utils.towers.sentences import as_templates
from kdpl_utils.worlds.dictionaries import read_names

NAMES = ["sushi", "hot dog", "ice cream"]
EYE = torch.eye(3)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
QUICK = kd.Recipe(epochs=1, batch_size=3)


@dataclass
class Desk:
    """A model, and an empty folder in which the user is, with a home of its own."""

    vlm: kd.VLM
    folder: Path

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def checkpoint(self, **state: object) -> Path:
        torch.save({"state_dict": state}, self.folder / "model.pth.tar-50")
        return self.folder / "model.pth.tar-50"


@pytest.fixture(scope="module")
def vlm():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture
def desk(vlm, tmp_path, monkeypatch):
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return Desk(vlm, tmp_path / "here")


def some_pictures(n: int) -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), (40 * i, 80, 120)) for i in range(n)]


def pictures() -> kd.Split:
    return kd.Split(some_pictures(6), LABELS)


def features() -> torch.Tensor:
    return F.normalize(torch.randn((6, 128), generator=torch.Generator().manual_seed(0)), dim=-1)


def adapted(desk: Desk, images: object, labels: object = LABELS, recipe: object = QUICK) -> torch.Tensor:
    """CoOp after one epoch on six pictures."""
    learner = kd.CoOp(desk.vlm)
    kd.adapt(learner, images, kd.from_labels(LABELS, NAMES), labels, seed=0, recipe=recipe)
    return learner.prompt.ctx.detach()


def fitted(loss=None, n_images: object = 4, recipe: object = QUICK, **more) -> kd.History:
    module = torch.nn.Linear(2, 1)
    square = lambda rows: module(torch.ones(len(rows), 2)).square().mean()  # noqa: E731
    wanted = (lambda rows: loss(square(rows))) if loss else square
    return kd.fit(module, wanted, n_images, recipe, progress=False, **more)


def shards(path: Path, n: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, picture in enumerate(some_pictures(n)):
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(buffer.getvalue())
            archive.addfile(info, io.BytesIO(buffer.getvalue()))
    return path


def spoiled(value: float) -> torch.Tensor:
    scores = EYE.clone()
    scores[1, 2] = value
    return scores


def without(learner: type, desk: Desk, key: str, **more) -> Path:
    """A checkpoint of the published MaPLe that lacks a tensor."""
    own = kd.MaPLe(desk.vlm).state_dict()
    theirs = {}
    for name, tensor in own.items():
        name = re.sub(r"^deep\.", "compound_prompts_text.", name)
        theirs[f"prompt_learner.{re.sub('^deep_proj', 'compound_prompt_projections', name)}"] = tensor
    del theirs[f"prompt_learner.{key}"]
    return desk.checkpoint(**theirs)


# --- labels, rows and numbers ----------------------------------------------------------------------------------------

ONE_FOR_EACH = "give whole numbers (N,), an index for each."
BOOLS = torch.tensor([True, False, True])
GIVEN = {
    # --- labels
    **{
        f"labels: {what}": Fault(lambda desk, call=call: call(), sentence)
        for what, call, sentence in (
            ("a mask", lambda: kd.accuracy(EYE, BOOLS), f"Labels are (3,) of torch.bool: {ONE_FOR_EACH}"),
            ("halves", lambda: kd.accuracy(EYE, torch.tensor([0, 0.5, 1])), ONE_FOR_EACH),
            ("none of some", lambda: kd.few_shot([0.0, math.nan, 1.0], 1, 0), ONE_FOR_EACH),
            ("one column for each class", lambda: kd.few_shot(EYE, 1, 0), "Labels are (3, 3) of torch.float32"),
            ("a mask of shots", lambda: kd.few_shot(BOOLS, 1, 0), "Labels are (3,) of torch.bool"),
            (
                "−1 in published shots",
                lambda: kd.coop_few_shot([-1, 0, 0], [0], 1, 0),
                "Labels hold -1: give numbers from",
            ),
            ("one text", lambda: kd.few_shot("012", 1, 0), "labels is one text, '012': give numbers."),
            ("bytes", lambda: kd.few_shot(b"012", 1, 0), "labels is one text"),
            ("a set", lambda: kd.few_shot({0, 1}, 1, 0), "labels is a set, which has no order: give a list."),
            ("a mapping", lambda: kd.few_shot({0: 1}, 1, 0), "labels is a dict, which has no order"),
            ("one number", lambda: kd.few_shot(3, 1, 0), "labels is 3: give a list of numbers"),
            ("nothing", lambda: kd.few_shot(None, 1, 0), "labels is None: give a list of numbers"),
            ("fewer than pictures", lambda: kd.Split(some_pictures(3), [0, 1]), "There are 2 labels for 3 pictures"),
            ("below −1", lambda: kd.Split(some_pictures(1), [-2]), "Labels hold -2: give numbers from -1 on."),
        )
    },
    # --- classes and rows
    **{
        f"classes: {what}": Fault(lambda desk, given=given: pictures().of_classes(given), sentence)
        for what, given, sentence in (
            ("a mask", [True, False, True], f"Classes are (3,) of torch.bool: {ONE_FOR_EACH}"),
            ("unlabelled", [-1], "Classes hold -1: give numbers from 0 on."),
            ("one twice", [0, 1, 0], "classes holds a number twice, of [0, 1, 0]"),
            ("one number", 1, "classes is 1: give a list of numbers"),
            ("a set", {0, 1}, "classes is a set, which has no order: give a list."),
            ("of two axes", EYE.long(), "Classes are (3, 3) of torch.int64"),
        )
    },
    **{
        f"rows of pixels: {what}": Fault(
            lambda desk, given=given: kd.Pixels(desk.vlm, some_pictures(3))[given], sentence
        )
        for what, given, sentence in (
            ("one", 1, "indices is 1: give a list of numbers"),
            ("one of NumPy", np.int64(1), "indices is of shape (): give a list of row numbers, or a mask."),
            ("of two axes", [[0, 1]], "indices is of shape (1, 2): give a list"),
        )
    },
    # --- losses and measures
    **{
        f"{kind}: {loss.__name__}": Fault(lambda desk, loss=loss, given=given: loss(given, given), sentence)
        for loss in (kd.forward_kl, kd.reverse_kl, kd.symmetric_kl, kd.kl_bits, kd.top1_agreement)
        for kind, given, sentence in (
            ("a list", EYE.tolist(), "are a list: give a tensor, as torch.as_tensor makes it."),
            ("an array", EYE.numpy(), "are a ndarray: give a tensor"),
            ("nothing", None, "are a NoneType: give a tensor"),
        )
    },
    **{
        f"measured: {what}": Fault(lambda desk, call=call: call(), sentence)
        for what, call, sentence in (
            ("names chosen by nan", lambda: kd.select_classes(spoiled(math.nan), 1), "are not finite for an image"),
            ("names chosen by infinity", lambda: kd.select_classes(spoiled(math.inf), 1), "no class can be chosen"),
            (
                "a mixture with nan",
                lambda: kd.mix_teachers([spoiled(math.nan), EYE]),
                "The logits of a teacher are not",
            ),
            ("a mixture by name", lambda: kd.mix_teachers({"a": EYE}), "The teachers are a dict: give a list"),
            ("a truth as alpha", lambda: kd.symmetric_kl(EYE, EYE, True), "alpha is True: give a number"),
            ("a text as alpha", lambda: kd.symmetric_kl(EYE, EYE, "0.5"), "alpha is '0.5': give a number"),
            ("nan on the front", lambda: kd.pareto_front([1, 2], [math.nan, 1]), "must be as many finite numbers"),
            ("a gain too few", lambda: kd.pareto_front([1, 2, 3], [5, 4]), "must be as many finite numbers"),
            ("no resample", lambda: kd.paired_bootstrap([1, 2], [2, 4], n=0), "n is 0: give a whole number"),
            ("half a resample", lambda: kd.paired_bootstrap([1, 2], [2, 4], n=1.5), "n is 1.5: give a whole number"),
            ("scores by name", lambda: kd.paired_interval({"a": 1, "b": 2}, [2, 3]), "before is a dict: give a list"),
            ("scores without order", lambda: kd.paired_interval({1.0, 2.0}, [2, 3]), "before is a set: give a list"),
            ("words as scores", lambda: kd.paired_interval(["a", "b"], [2, 3]), "before does not hold numbers alone"),
            ("no seed", lambda: kd.summarise([]), "There are no rows to summarise"),
            ("fewer than no class", lambda: kd.base_novel(-3), "n_classes is -3: give a whole number"),
            ("parts of a class", lambda: kd.base_novel(5.5), "n_classes is 5.5: give a whole number"),
            ("parts of a view", lambda: kd.random_crops(some_pictures(1), 1.5, 0), "views is 1.5: give a whole number"),
            ("parts of nothing", lambda: kd.random_crops(some_pictures(1), 1, 0, (math.nan, 1)), "part is nan: give a"),
            (
                "a part too large",
                lambda: kd.random_crops(some_pictures(1), 1, 0, (0.5, 2)),
                "largest part is 2: give a",
            ),
            (
                "features of another size",
                lambda: kd.logits(torch.ones(2, 4), torch.ones(3, 5), 1.0),
                "with the same model",
            ),
            (
                "names as a teacher",
                lambda: kd.from_teacher(NAMES, NAMES),
                "The teacher's logits holds 'sushi': give numbers",
            ),
            ("no teacher", lambda: kd.from_teacher(None, NAMES), "The teacher's logits is None: give a list"),
            ("truths as a teacher", lambda: kd.from_teacher(EYE.bool(), NAMES), "logits are booleans: give numbers"),
            ("nan for PromptKD", lambda: from_promptkd(spoiled(math.nan), NAMES), "The teacher's logits of 1 of 3"),
            (
                "a weight of PromptKD",
                lambda: from_promptkd(EYE, NAMES, math.nan),
                "weight is nan: give a number above 0",
            ),
        )
    },
    # --- a training
    **{
        f"a loss that {what}": Fault(lambda desk, loss=loss: fitted(loss), sentence)
        for what, loss, sentence in (
            ("forgets to return", lambda value: None, "The loss is None, …: does the function end without return?"),
            (
                "is a number",
                lambda value: value.item(),
                "and not a tensor of one number: .item() or float() cut it off",
            ),
            ("is an array", lambda value: value.detach().numpy(), "and not a tensor of one number"),
            ("is a list", lambda value: [value], "and not a tensor of one number"),
        )
    },
    **{
        f"fit: {what}": Fault(lambda desk, given=given: fitted(**given), sentence)
        for what, given, sentence in (
            ("pictures in a text", {"n_images": "8"}, "n_images is '8': give a whole number of at least 1."),
            ("parts of a picture", {"n_images": 2.5}, "n_images is 2.5: give a whole number"),
            ("a truth of pictures", {"n_images": True}, "n_images is True: give a whole number"),
            ("a dictionary as a recipe", {"recipe": {"epochs": 1}}, "recipe is {'epochs': 1}: give a kd.Recipe"),
            ("no recipe", {"recipe": None}, "recipe is None: give a kd.Recipe"),
            ("a number for an epoch", {"on_epoch": lambda epoch: 3.0}, "on_epoch gives 3.0: let it give a dictionary"),
        )
    },
    "fit: a setting of many lines": Fault(
        lambda desk: fitted(recipe=desk.vlm), "recipe is VLM(model=CLIP( (visual): …: give a kd.Recipe"
    ),
    "fit: a function to learn": Fault(
        lambda desk: kd.fit(lambda rows: rows, lambda rows: rows, 4), "The learner is a function: give the module"
    ),
    **{
        f"adapt: {what}": Fault(lambda desk, given=given: adapted(desk, *given), sentence)
        for what, given, sentence in (
            ("fewer labels", (features(), LABELS[:3]), "There are 3 labels for 6 pictures: give one for each"),
            ("fewer pictures", (features()[:3],), "There are 6 labels for 3 pictures"),
            (
                "pictures themselves",
                (some_pictures(6),),
                "images is a list: give kd.Pixels(vlm, pictures), or their unit",
            ),
            ("pictures of a world", (pictures().images,), "images is a list: give kd.Pixels"),
            ("features of any length", (5 * features(),), "images are features that are not of length 1"),
            ("a teacher of other pictures", (features()[:3], LABELS[:3]), "supervises is over 6 pictures, and there"),
            ("a recipe of others", (features(), LABELS, {"epochs": 1}), "recipe is {'epochs': 1}: give a kd.Recipe"),
        )
    },
    # --- something else in the place of a model
    **{
        f"{what} in the place of a model: {where}": Fault(
            lambda desk, use=use, given=given: use(given(desk)), "give what load_vlm returns."
        )
        for what, given in (
            ("a name", lambda desk: "emoji-student-rn"),
            ("name and weights", lambda desk: ("emoji-student-rn", None)),
            ("a module", lambda desk: desk.vlm.model),
        )
        for where, use in (
            ("CoOp", kd.CoOp),
            ("VPT", kd.VPT),
            ("a prompt", kd.PromptLearner),
            ("pictures", lambda model: kd.encode_images(model, some_pictures(1))),
            ("pixels", lambda model: kd.Pixels(model, some_pictures(1))),
            ("names", lambda model: kd.encode_names(model, NAMES)),
            ("words", lambda model: kd.nearest_words(model, torch.zeros(1, 128))),
        )
    },
    "a context of another width read as words": Fault(
        lambda desk: kd.nearest_words(desk.vlm, torch.zeros(2, 64)),
        "ctx is (2, 64), and the words of emoji-student-vit",
    ),
    **{
        f"pictures to encode: {what}": Fault(lambda desk, given=given: kd.encode_images(desk.vlm, *given), sentence)
        for what, given, sentence in (
            ("by name", ({"a": some_pictures(1)[0]},), "images is one dict: give a list of pictures."),
            ("in a set", ({1, 2},), "images is one set: give a list"),
            ("none at once", (some_pictures(1), 0), "batch_size is 0: give a whole number of at least 1."),
            ("fewer at once", (some_pictures(1), -1), "batch_size is -1: give a whole number"),
            ("without a path", ([""],), "A path is empty"),
        )
    },
    "no row of pixels": Fault(lambda desk: kd.Pixels(desk.vlm, some_pictures(3))[[]], "No picture is asked for: give"),
    "a dictionary of numbers to look in": Fault(
        lambda desk: kd.dictionary_report([1, 2], NAMES), "dictionary is [1, 2]: give a list of names."
    ),
    "a name of three hundred words": Fault(
        lambda desk: kd.encode_names(desk.vlm, ["cat " * 300, "dog"]), "'a photo of a cat cat … has 305 tokens, and"
    ),
    **{
        f"scores {what}": Fault(lambda desk, given=given: kd.accuracy(given, LABELS[:3]), sentence)
        for what, given, sentence in (
            ("that are complex", EYE.cfloat(), "Scores are torch.complex64 in the layout torch.strided: give a dense"),
            ("that are sparse", EYE.to_sparse(), "in the layout torch.sparse_coo: give a dense tensor of real"),
        )
    },
    # --- explorers
    **{
        f"an explorer: {what}": Fault(lambda desk, call=call: call(), sentence)
        for what, call, sentence in (
            (
                "a label beyond",
                lambda: widgets.teacher_student(some_pictures(3), NAMES, EYE, EYE, [0, 1, 5]),
                "Labels reach to 5, and there are 3 names: give indices of them.",
            ),
            (
                "steps without names",
                lambda: widgets.teacher_student(some_pictures(3), NAMES, EYE, [EYE, EYE, EYE], steps=["a"]),
                "There are 1 names for 3 steps: give one for each.",
            ),
            (
                "an unlabelled picture",
                lambda: widgets.class_pick(some_pictures(3), EYE, torch.tensor([-1, 0, 1]), NAMES, NAMES),
                "Labels hold -1: give numbers from 0 on.",
            ),
            (
                "an upside-down scale",
                lambda: widgets.temperature(some_pictures(3), NAMES, {"a": EYE}, LABELS[:3], -5),
                "scale is -5: give a number above 0",
            ),
        )
    },
    **{
        f"inspect_pair: {what}": Fault(
            lambda desk, given=given: kd.inspect_pair(desk.vlm, desk.vlm, some_pictures(3), NAMES, **given), sentence
        )
        for what, given, sentence in (
            ("a scale below 0", {"teacher_scale": -1}, "teacher_scale is -1: give a number above 0"),
            ("no scale", {"teacher_scale": 0}, "teacher_scale is 0: give a number above 0"),
            ("names as labels", {"labels": NAMES}, "labels holds 'sushi': give numbers"),
            ("parts of labels", {"labels": [0, 0.5, 1]}, ONE_FOR_EACH),
            ("no bar", {"k": 0}, "k is 0: give a whole number of at least 1."),
            ("a learner", {"student_after": kd.CoOp(kd.load_vlm("emoji-student-vit", device="cpu"))}, "is a learner:"),
        )
    },
    # --- streams
    **{
        f"shards: {what}": Fault(lambda desk, call=call: call(shards(desk.folder / "a-0.tar")), sentence)
        for what, call, sentence in (
            ("batches of none", lambda path: next(kd.Shards(path).batches(0)), "size is 0: give a whole number"),
            ("batches of fewer", lambda path: next(kd.Shards(path).batches(-1)), "size is -1: give a whole number"),
            ("one number as a part", lambda path: kd.Shards(path, part=1), "part = 1: give (k, n) to take every n-th"),
            ("counted downwards", lambda path: kd.Shards("a-{5..3}.tar"), "counts from 5 to 3, which are no shards"),
        )
    },
    # --- dictionaries
    **{
        f"a dictionary: {what}": Fault(lambda desk, given=given: kd.load_world("emoji", dictionary=given), sentence)
        for what, given, sentence in (
            ("in a set", {"a", "b"}, "The dictionary is a set: give a list of names"),
            ("by name", {"a": 1}, "The dictionary is a dict: give a list"),
            ("bytes", b"ab", "The dictionary is a bytes: give a list"),
            ("a number", 3, "The dictionary is a int: give a list"),
            ("nothing among names", ["a", None], "None is not a class name"),
            ("what pandas calls missing", pandas.Series(["a", math.nan]), "nan is not a class name"),
            ("indices", [0, 1], "0 is not a class name"),
            ("a name without a word", ["a", "_"], "'_' is not a class name: CLIP reads no word in it."),
        )
    },
    # --- worlds
    **{
        f"a world: {what}": Fault(lambda desk, given=given: kd.load_world(given), sentence)
        for what, given, sentence in (
            ("nothing", None, "A world is None: give its name, or the path of a folder"),
            ("a number", 3, "A world is 3: give its name"),
            ("no letter of a path", Path("a\0b"), "holds a character that no path may hold: leave it out."),
            ("an empty name", "", "A path is empty (is a variable of the shell not set?): name a file or a folder."),
        )
    },
    "a folder without a name": Fault(lambda desk: kd.folder_world(""), "A path is empty"),
    "a folder that is a number": Fault(lambda desk: kd.folder_world(3), "3 is no path: give a text or a pathlib.Path."),
    "neither labelled nor not": Fault(
        lambda desk: kd.folder_world(desk.folder, labelled="no"), "labelled is 'no': give True or False."
    ),
    "a world in the place of a split": Fault(
        lambda desk: kd.of_classes(kd.load_world("emoji"), [0]), "is no split: give pictures with labels, such as world"
    ),
    "a split of what can be read once": Fault(
        lambda desk: kd.Split((picture for picture in some_pictures(2)), [0, 1]), "images is one generator: give a list"
    ),
    "a prediction in words": Fault(
        lambda desk: checks.predict("a", "How many?", said="62"), "'62' is no answer to 'How many?': choose a number"
    ),
    # --- names and files
    "letters as the names of a training": Fault(
        lambda desk: kd.save_learner(kd.CoOp(desk.vlm), "l.safetensors", classnames="abc"),
        "classnames is one string, 'abc'",
    ),
    "the names of a training in a set": Fault(
        lambda desk: kd.save_learner(kd.CoOp(desk.vlm), "l.safetensors", classnames={"a", "b"}), "classnames is a set"
    ),
    **{
        f"text features that are {what}": Fault(
            lambda desk, spoil=spoil: Classifier(desk.vlm, spoil(kd.encode_names(desk.vlm, NAMES)), NAMES),
            "The text features of a classifier are not of length 1",
        )
        for what, spoil in (
            ("longer", lambda text: 3 * text),
            ("nothing", lambda text: 0 * text),
            ("whole numbers", lambda text: text.round().int()),
        )
    },
    **{
        f"a checkpoint {what}": Fault(lambda desk, make=make: kd.import_checkpoint(make(desk), desk.vlm), sentence)
        for what, make, sentence in (
            (
                "of one number",
                lambda desk: desk.checkpoint(ctx=torch.tensor(1.0)),
                "holds vectors of shape (), which are no",
            ),
            (
                "of one vector",
                lambda desk: desk.checkpoint(ctx=torch.ones(128)),
                "holds vectors of shape (128,), which are",
            ),
            ("of MaPLe without a bias", lambda desk: without(kd.MaPLe, desk, "proj.bias"), "proj.bias is None there"),
            (
                "of MaPLe without a map",
                lambda desk: without(kd.MaPLe, desk, "compound_prompt_projections.0.weight"),
                "deep_proj.0.weight is None there",
            ),
        )
    },
    **{
        f"a list of names: {what}": Fault(
            lambda desk, file=file, content=content: read_names(desk.write(file, content)), sentence
        )
        for what, file, content, sentence in (
            ("a dictionary in JSON", "a.json", '{"0": "cat"}', "a.json holds no list: write one of names"),
            ("half a JSON", "a.json", '["cat", ', "a.json is no JSON"),
            ("JSON nested too deeply", "a.json", "[" * 100_000, "a.json is no JSON"),
            ("YAML", "a.yaml", "names:\n- cat\n", "a.yaml is no list of names: write a text file with one name a line"),
            ("a page", "a.html", "<html>", "a.html is no list of names"),
            ("a row without a name", "a.csv", "id,ClassName\n1,cat\n2\n", "a.csv has a row without a name, '2'"),
            (
                "semicolons without a head",
                "a.csv",
                "1;cat\n2;dog\n",
                "a.csv has 2 columns: call the one with the names",
            ),
            ("tabs without a head", "a.tsv", "1\tcat\n2\tdog\n", "a.tsv has 2 columns: call the one with the names"),
        )
    },
    # --- a state of a training, and files that are folders
    **{
        f"a checkpoint of a training that is {what}": Fault(
            lambda desk, make=make: fitted(checkpoint=make(desk)), sentence
        )
        for what, make, sentence in (
            (
                "somebody's text",
                lambda desk: desk.write("thesis.txt", "my thesis"),
                "thesis.txt is there and holds no state",
            ),
            (
                "somebody's picture",
                lambda desk: desk.write("a.png", b"\x89PNG" + bytes(90)),
                "and holds no state of a training",
            ),
            ("a folder", lambda desk: desk.folder, "is a folder: give the path of a file, in which the"),
        )
    },
    "a folder to save as": Fault(
        lambda desk: kd.save_learner(kd.CoOp(desk.vlm), desk.folder),
        "is a folder: give the path of a file, which may be",
    ),
}


@pytest.mark.parametrize("case", GIVEN)
def test_what_cannot_be_used_is_refused_in_one_sentence(case, desk):
    before = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}
    with pytest.raises((ValueError, OSError)) as caught:
        GIVEN[case].given(desk)
    said = str(caught.value)
    assert re.search(pattern(GIVEN[case].sentence), said) and "\n" not in said
    # What the fault itself wrote before is there as it was.
    after = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}
    assert all(after[path] == content for path, content in before.items())
    assert not list(desk.folder.glob("*.safetensors")) or "checkpoint" in case
    if case.endswith("somebody's text"):
        assert (desk.folder / "thesis.txt").read_text() == "my thesis"


# --- what is understood ----------------------------------------------------------------------------------------------

SHUFFLED = pandas.Series(LABELS.tolist(), index=[5, 3, 1, 0, 2, 4])
SAME = "the same as of a tensor, a list, a path"
ALIKE = {  # the same things, given in another way: both give one result
    f"labels as {what}": Fault(
        lambda desk, given=given: (kd.few_shot(given, 1, 0).tolist(), kd.few_shot(LABELS, 1, 0).tolist()), (), SAME
    )
    for what, given in (
        ("a list", LABELS.tolist()),
        ("an array", LABELS.numpy()),
        ("an array from behind", LABELS.flip(0).numpy()[::-1]),
        ("unsigned numbers", LABELS.numpy().astype(np.uint16)),
        ("floats that are whole", LABELS.double()),
        ("a generator", (label for label in LABELS.tolist())),
        ("a column in another order", SHUFFLED),
    )
}
ALIKE |= {
    f"{what} in another way": Fault(call, (), SAME)
    for what, call in (
        (
            "labels of views",
            lambda desk: (
                kd.Split(some_pictures(2), np.array([0, 1])).crops(2, 1).labels.tolist(),
                kd.Split(some_pictures(2), torch.tensor([0, 1])).crops(2, 1).labels.tolist(),
            ),
        ),
        ("scores", lambda desk: tuple(kd.accuracy(z, LABELS[:3]) for z in (EYE.long(), EYE))),
        ("truths as scores", lambda desk: tuple(kd.accuracy(z, LABELS[:3]) for z in (EYE.bool(), EYE))),
        ("classes", lambda desk: tuple(pictures().of_classes(c).labels.tolist() for c in (np.array([2, 0]), [2, 0]))),
        ("a seed of crops", lambda desk: tuple(noise_cropped(seed) for seed in (3.0, 3))),
        ("features in double precision", lambda desk: (adapted(desk, features().double()), adapted(desk, features()))),
        ("features as an array", lambda desk: (adapted(desk, features().numpy()), adapted(desk, features()))),
        (
            "scores of a view",
            lambda desk: tuple(kd.paired_interval(b, [2, 3]) for b in ({"a": 1.0, "b": 2.5}.values(), [1, 2.5])),
        ),
        (
            "a score before",
            lambda desk: (kd.claim("x", np.float32(2), iter([3.0, 4.0])), kd.claim("x", 2, [3.0, 4.0])),
        ),
        (
            "names of a generator",
            lambda desk: (
                kd.CoOp(desk.vlm).predict(some_pictures(2), (name for name in NAMES)),
                kd.CoOp(desk.vlm).predict(some_pictures(2), NAMES),
            ),
        ),
        (
            "names to export of a generator",
            lambda desk: (names_of(export_classifier(kd.CoOp(desk.vlm), iter(NAMES), "c.safetensors")), NAMES),
        ),
        ("epochs that nobody measures", lambda desk: (fitted(on_epoch=lambda epoch: None).metrics, {})),
        (
            "keys that are done, of a generator",
            lambda desk: (
                [k for k, _ in kd.Shards(shards(desk.folder / "a.tar"), skip=iter(["a.tar/2.png", "a.tar/0.png"]))],
                ["a.tar/1.png"],
            ),
        ),
        (
            "the one key that is done",
            lambda desk: (
                [k for k, _ in kd.Shards(shards(desk.folder / "a.tar"), skip="a.tar/0.png")],
                ["a.tar/1.png", "a.tar/2.png"],
            ),
        ),
        (
            "shards in a folder with brackets",
            lambda desk: (
                kd.Shards(shards(desk.folder / "x [2024]" / "a-0.tar").parent / "a-*.tar").shards,
                [str(desk.folder / "x [2024]" / "a-0.tar")],
            ),
        ),
        (
            "a dictionary in which names are one to CLIP",
            lambda desk: (
                kd.load_world("emoji", dictionary=["Hot_dog", "hot dog", "cafe\u0301", "caf\u00e9"]).dictionary,
                ("Hot_dog", "cafe\u0301"),
            ),
        ),
        ("names in JSON", lambda desk: (read_names(desk.write("a.json", '[\n "cat",\n "dog"\n]')), ["cat", "dog"])),
        (
            "names between semicolons",
            lambda desk: (read_names(desk.write("a.csv", "id;ClassName\r\n1;cat\r\n2;dog\r\n")), ["cat", "dog"]),
        ),
        (
            "names between tabs",
            lambda desk: (read_names(desk.write("a.tsv", "\ufeffid\tClassName\n1\tcat\n2\tdog\n")), ["cat", "dog"]),
        ),
        (
            "a name over two lines",
            lambda desk: (read_names(desk.write("a.csv", 'id,ClassName\n1,"hot\ndog"\n')), ["hot\ndog"]),
        ),
        (
            "sentences with a mark at their beginning",
            lambda desk: (as_templates(desk.write("a.json", '\ufeff{"cat": ["a cat."]}')), {"cat": ["a cat."]}),
        ),
    )
}  # fmt: skip


def noise_cropped(seed: float) -> bytes:
    noise = Image.effect_noise((64, 64), 90).convert("L")
    noise.putdata([(7 * i) % 251 for i in range(64 * 64)])
    return kd.random_crops([noise.convert("RGB")], 1, seed)[0].tobytes()


@pytest.mark.parametrize("case", ALIKE)
def test_the_same_in_another_way_gives_the_same(case, desk):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, expected = ALIKE[case].given(desk)
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected)
    else:
        assert found == expected


HOME_STAYS = "nothing is written but in the home folder"
AT_HOME = {
    f"a path that begins with ~: {what}": Fault(write, (), HOME_STAYS)
    for what, write in (
        ("prompts", lambda desk: kd.save_learner(kd.CoOp(desk.vlm), "~/a.safetensors")),
        ("a classifier", lambda desk: export_classifier(kd.CoOp(desk.vlm), NAMES, "~/a.safetensors")),
        ("of bytes", lambda desk: kd.save_learner(kd.CoOp(desk.vlm), b"~/a.safetensors")),
        ("a report", lambda desk: checks.export("~/a.json")),
    )
}


@pytest.mark.parametrize("case", AT_HOME)
def test_a_tilde_is_the_home_folder(case, desk):
    written = AT_HOME[case].given(desk)
    assert Path(written).parent == Path.home() == desk.folder.parent / "home" and Path(written).is_file()
    assert list(desk.folder.iterdir()) == []


def test_what_lies_at_home_is_read(desk):
    kd.save_learner(kd.CoOp(desk.vlm), "~/a.safetensors")
    assert kd.load_learner("~/a.safetensors", desk.vlm)
    some_pictures(1)[0].save(Path.home() / "a.png")
    assert kd.encode_images(desk.vlm, ["~/a.png"]).shape == (1, 128)
    assert read_names(Path.home() / "n.txt" if (Path.home() / "n.txt").write_text("cat") else "") == ["cat"]
    assert read_names("~/n.txt") == ["cat"]


def test_a_state_of_a_training_may_be_cut_or_empty(desk):
    """These are no files of anybody's: the training begins anew."""
    empty = desk.write("state", b"")
    with pytest.warns(UserWarning, match="state is damaged"):
        fitted(checkpoint=empty)
    assert not empty.exists()


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_a_classifier_of_another_precision_answers_the_same(kind, desk):
    """As another program may write it."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = export_classifier(kd.CoOp(desk.vlm), NAMES, "c.safetensors")
    expected = load_classifier(path, desk.vlm).predict(some_pictures(2))
    with safe_open(path, "pt") as file:
        header, text = file.metadata(), file.get_tensor("text")
    header.pop("sha256")
    save_file({"text": text.to(kind)}, path, header)
    found = load_classifier(path, desk.vlm).predict(some_pictures(2))
    assert [[name for name, _ in row] for row in found] == [[name for name, _ in row] for row in expected]


def test_prompts_of_a_teacher_take_no_other_teacher(desk):
    """Of the same width: PromptKD's classes are its teacher's text features, and no shape tells."""
    first, second = (kd.load_vlm(name, device="cpu") for name in ("emoji-teacher-small", "emoji-student-rn"))
    assert first.model.visual.output_dim == second.model.visual.output_dim
    path = kd.save_learner(kd.PromptKD(desk.vlm, first), "l.safetensors")
    assert kd.load_learner(path, desk.vlm, teacher=first)
    with pytest.raises(
        ValueError, match="text features of emoji-teacher-small, not emoji-student-rn: give that teacher"
    ):
        kd.load_learner(path, desk.vlm, teacher=second)
    changed = kd.VLM(**{**vars(first), "weights": "others"})
    with pytest.raises(ValueError, match="of emoji-teacher-small, whose weights are others: give that teacher"):
        kd.load_learner(path, desk.vlm, teacher=changed)


# --- what a learner hands over or gives back --------------------------------------------------------------------------

ANSWERS = {
    "nothing": None,
    "its result": torch.tensor(0.5),
    "its name": "kdpl",
    "a number": 3,
    "part of a function": functools.partial(kd.forward_kl, EYE),
    "a class": dict,
    **{
        f"what gives {what}": lambda *given, value=value, **more: value
        for what, value in {
            "a list": [1.0, 2.0],
            "a dictionary": {"loss": 1.0},
            "a text": "0.5",
            "an array": np.ones((2, 2)),
            "three axes": torch.zeros(2, 2, 2),
            "no number": torch.tensor(math.nan),
            "none of anything": torch.empty(0),
            "a truth": True,
            "a complex number": 1 + 2j,
            "a pair": (1, None),
            "a range": range(3),
            "a function": len,
            "an object": object(),
        }.items()
    },
    "what takes nothing": lambda: 0.5,
    "what changes what it is given": lambda *given, **more: [x.zero_() for x in given if isinstance(x, torch.Tensor)],
    "what gives up": lambda *given, **more: next(iter(())),
}
GOES_ON = "the lesson goes on with the library's version"
MUSEUM = ({"A": ["roles swapped"]}, {"A": 3}, ["roles swapped"], None, "roles swapped")
LESSONS = {f"a learner hands over {what}": Fault(answer, "○ or ✗", GOES_ON) for what, answer in ANSWERS.items()}


@pytest.mark.parametrize("case", LESSONS)
def test_a_lesson_goes_on_whatever_is_handed_over(case, capsys):
    for name, exercise in checks.EXERCISES.items():
        function = exercise(LESSONS[case].given)
        assert callable(function) and function is not LESSONS[case].given, name
        assert re.match(f"[○✗] {name}: ", capsys.readouterr().out)


@pytest.mark.parametrize("answers", MUSEUM)
def test_the_museum_goes_on_whatever_is_handed_over(answers, capsys):
    checks.bug_museum(answers)
    assert capsys.readouterr().out.startswith("✗ bug_museum: ")


# --- what something is called decides nothing -----------------------------------------------------------------------


def test_a_folder_called_emoji_has_chosen_nothing_on_validation_pictures():
    """As the world of that name has, and its other groups."""

    def job(world: str) -> Training:
        return Training(world, "coop", "kdpl", 1, ("emoji-student-rn", None), (), kd.Recipe())

    assert validation_used(job("emoji/objects")) == validation_used(job("emoji")) == "learning rate"
    assert validation_used(job("emoji/mine")) == validation_used(job("/data/emoji")) == "none"


def test_a_folder_called_like_a_data_set_is_compared_with_no_published_number(desk, monkeypatch):
    for part in ("cat", "dog"):
        (desk.folder / "oxford_pets" / part).mkdir(parents=True)
        for i, picture in enumerate(some_pictures(4)):
            picture.save(desk.folder / "oxford_pets" / part / f"{i}.png")
    monkeypatch.setattr(
        "kdpl_utils.apps.check.load_vlm", lambda *_: kd.VLM(**{**vars(desk.vlm), "name": "RN50-quickgelu"})
    )
    lines = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check([("RN50-quickgelu", "openai")], ["./oxford_pets"], report=lines.append)
    assert any("RN50-quickgelu on oxford_pets: no published number is known here." in line for line in lines), lines


PAGE = {
    "What is given in the place of something else": GIVEN,
    "The same things in another way": ALIKE,
    "Paths at home": AT_HOME,
    "What a learner hands over": LESSONS,
}
