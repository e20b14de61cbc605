"""What goes wrong in use, one row each: it is refused in one sentence that names the thing, or it comes out right.

A row maps what happens to a function, which does it, and a pattern, which the error or the returned text must hold.
"""

import contextlib
import io
import math
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import EpsImagePlugin, Image

import kdpl_utils as kd
from kdpl_utils import plots
from kdpl_utils.apps.card import as_code
from kdpl_utils.apps.inspect_page import Comparison, write_page
from kdpl_utils.clip import models
from kdpl_utils.experiments.cache import FeatureCache
from kdpl_utils.learners.classifier import model_of
from kdpl_utils.support.disk import read_json, read_tensors, write_tensors
from kdpl_utils.support.pictures import open_picture

NAMES = ["banana", "beer mug", "dog"]
RAN = Path("code-of-a-stranger-ran")


class Pickled:
    def __reduce__(self):
        return Path.touch, (RAN,)


def spoiled_model(vlm):
    """Encode an image with a model whose weights are not finite."""
    broken = kd.load_vlm("emoji-student-vit", device="cpu")
    broken.model.visual.proj.data[0, 0] = math.nan
    kd.encode_images(broken, kd.load_world("emoji").test.images[:2])


def weights_without_network(vlm):
    def unreachable(*arguments, **settings):
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.known_models(), "create_model_and_transforms", unreachable)
        kd.load_vlm("RN50-quickgelu", "openai")


def prompts_of_other_weights(vlm):
    kd.load_learner(kd.save_learner(kd.CoOp(vlm), "learned.safetensors"), replace(vlm, weights="others"))


def prompts_that_are_not_finite(vlm):
    learner = kd.CoOp(vlm)
    learner.prompt.ctx.data[0, 0] = math.nan
    try:
        kd.save_learner(learner, "spoiled.safetensors")
    finally:
        assert not Path("spoiled.safetensors").exists()


def prompts_in_a_file_that_are_not_finite(vlm):
    path = kd.save_learner(kd.CoOp(vlm), "learned.safetensors")
    header, tensors = read_tensors(path)
    write_tensors(path, {name: tensor * math.nan for name, tensor in tensors.items()}, header)
    kd.load_learner(path, vlm)


def checkpoint_with_code(vlm):
    torch.save({"state_dict": {"prompt_learner.ctx": Pickled()}}, "model.pth.tar-50")
    kd.import_checkpoint("model.pth.tar-50", vlm)


def program_as_checkpoint(vlm):
    torch.jit.script(torch.nn.Linear(1, 1)).save("model.pth.tar-50")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.jit, "load", lambda *arguments, **settings: RAN.touch())
        kd.import_checkpoint("model.pth.tar-50", vlm)


def classifier_of_a_hub(vlm):
    header = {"classifier": "1", "model": "hf-hub:stranger/model", "pretrained": ""}
    model_of(write_tensors("classifier.safetensors", {"text": torch.eye(2)}, header))


def damaged_prompts(vlm):
    path = kd.save_learner(kd.CoOp(vlm), "learned.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    kd.load_learner(path, vlm)


def postscript_as_jpg(vlm):
    Path("drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **settings: RAN.touch())
        open_picture("drawing.jpg")


def folder_of(*places, **settings):
    """Read a folder that has a picture in each place as a world."""

    def read(vlm):
        with_pictures(*places)
        kd.folder_world("pictures", **settings)

    return read


def with_pictures(*places):
    for i, place in enumerate(places):
        path = Path("pictures", place)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (20 * i, 90, 120)).save(path)


def data_without_network(vlm):
    def unreachable(*arguments, **settings):
        raise OSError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.EuroSAT", unreachable)
        kd.load_world("eurosat", "data")


def half_of_a_data_set(vlm):
    with_pictures(*(f"eurosat/2750/{name}/{name}_1.jpg" for name in ("Forest", "River", "Highway")))
    kd.load_world("eurosat", "pictures")


def adapted(vlm, n: int = 4) -> list[str]:
    """Learn from a folder and return the lines that are reported."""
    from kdpl_utils.apps.adapt import adapt_folder

    lines: list[str] = []
    with_pictures(*(f"{NAMES[i % 2]}/{i}.png" for i in range(n)))
    adapt_folder("pictures", "out", student=vlm.name, teacher=vlm.name, epochs=1, report=lines.append)
    return lines


def readme_of_the_user(vlm):
    mine = Path("out/README.md")
    mine.parent.mkdir()
    mine.write_text("mine")
    try:
        adapted(vlm)
    finally:
        assert mine.read_text() == "mine"


def unreadable_picture(vlm):
    Path("pictures/banana").mkdir(parents=True)
    Path("pictures/banana/broken.jpg").write_bytes(b"no picture")
    return " ".join(adapted(vlm, n=40))


def damaged_results(vlm):
    """Scores and features of damaged files are made again, and the files are named."""
    cache = FeatureCache("cache")
    split = kd.Split([Image.new("RGB", (32, 32))], torch.tensor([0]), key="one image")
    features = cache.features(vlm, split)
    (file,) = Path("cache").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    Path("scores.json").write_text("{")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert cache.features(vlm, split).equal(features) and read_json(Path("scores.json")) is None
    return said.getvalue().replace("\n", " ")


def formula_as_a_name(vlm):
    rows = {"teacher": torch.tensor([0.9, 0.1])}
    figure = plots.distributions(Image.new("RGB", (9, 9)), ["$$ and $\\frac$", "dog"], rows)
    figure.savefig(io.BytesIO())
    return figure.alt


def markup_as_a_name(vlm):
    scores = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    names = ["</script><img src=x>", "dog"]
    comparison = Comparison(
        title="<i>pictures",
        paths=["<b>.png", "2.png"],
        open_picture=lambda i: Image.new("RGB", (9, 9)),
        names=names,
        labels=torch.tensor([0, 1]),
        logits={"teacher": scores, "student": scores.flip(0)},
        models={"teacher": "a model", "student": "a model"},
        notes=[],
    )
    page = write_page(comparison, Path("page.html"), most=2).read_text(encoding="utf-8")
    return "as markup" if re.search("<img src=x|<i>pictures|<b>.png", page) else as_code(names[0])


def trained(lr: float, value: float):
    def fit(vlm):
        parameter = torch.nn.Linear(1, 1)
        recipe = kd.Recipe(epochs=1, batch_size=2, lr=lr, warmup_epochs=0)
        kd.fit(parameter, lambda learner, batch: value * learner.weight.square().sum(), 2, recipe, progress=False)

    return fit


def planned(**wrong):
    def plan(vlm):
        from kdpl_utils.experiments.plan import plan

        plan("base-to-novel", "emoji/activities", ["coop"], ["kdpl-ca"], [0], **wrong)

    return plan


FAULTS = {
    # names and sentences
    "a string for a list of names": (lambda vlm: kd.encode_names(vlm, "banana"), "one string, 'banana'"),
    "no names": (lambda vlm: kd.PromptLearner(vlm)([]), "list of class names is empty"),
    "two names that CLIP reads alike": (lambda vlm: kd.encode_names(vlm, ["mug", "Mug "]), "'mug' and 'Mug '"),
    "a name that is too long": (lambda vlm: kd.encode_names(vlm, ["mug " * 90]), r"'a photo of a mug.*at most \d+"),
    "a template without {}": (lambda vlm: kd.encode_names(vlm, NAMES, ["a photo"]), "'a photo' has no single {}"),
    # losses, features, scores
    "logits of other shapes": (lambda vlm: kd.symmetric_kl(torch.eye(3), torch.ones(3, 1)), r"\(3, 3\) and \(3, 1\)"),
    "a label outside the names": (lambda vlm: kd.from_labels(torch.eye(3), torch.arange(1, 4), NAMES), "1 to 3, .* 3"),
    "teacher's logits of other images": (
        lambda vlm: kd.from_teacher(torch.eye(3), torch.ones(4, 3), NAMES),
        "covers 4 images, but 3 were given",
    ),
    "features that are not finite": (spoiled_model, "emoji-student-vit gives features that are not finite.*image 0"),
    "a loss that is not finite": (trained(lr=0.1, value=math.nan), "loss is nan in step 0: look for logits"),
    "a last step that overshoots": (trained(lr=1e38, value=1e20), "not finite.*lower lr"),
    "scores that are not finite": (
        lambda vlm: kd.accuracy(torch.tensor([[1.0, 0.0], [math.nan, 0.0]]), torch.tensor([0, 0])),
        "not finite, of image 1",
    ),
    "a recipe's lr that is no number": (lambda vlm: kd.Recipe(lr=math.nan), "finite lr > 0.*lr=nan"),
    "a recipe without epochs": (lambda vlm: kd.Recipe(epochs=0), "epochs ≥ 1.*epochs=0"),
    # models and files
    "QuickGELU in the weights alone": (lambda vlm: kd.load_vlm("ViT-B-32", "openai"), "'ViT-B-32-quickgelu'"),
    "weights that are not there": (weights_without_network, r"'openai' of RN50.*Fetch http.*load_vlm\('RN50"),
    "a device that is not there": (lambda vlm: kd.load_vlm(device="cuda:7"), "on this device.*give 'cpu'"),
    "a tower that takes no prompts": (lambda vlm: kd.VPT(kd.load_vlm("emoji-student-rn")), "tower of emoji-student-rn"),
    "prompts of other weights": (prompts_of_other_weights, "learned.safetensors was learned with other weights"),
    "prompts to save that are not finite": (prompts_that_are_not_finite, "ctx in spoiled.safetensors is not finite"),
    "prompts to load that are not finite": (prompts_in_a_file_that_are_not_finite, "learned.safetensors is not finite"),
    "a damaged file of prompts": (damaged_prompts, "learned.safetensors is damaged"),
    "damaged results": (damaged_results, "cache/.*.safetensors is damaged .* scores.json is damaged .*made again"),
    "a checkpoint that runs code": (checkpoint_with_code, "model.pth.tar-50 .*nothing in it was run"),
    "a program in place of a checkpoint": (program_as_checkpoint, "model.pth.tar-50 .*nothing in it was run"),
    "a classifier that names a hub": (classifier_of_a_hub, "'hf-hub:stranger/model'.*nothing was loaded"),
    # pictures and folders
    "a formula as a name": (formula_as_a_name, r"\$\$ and \$\\frac\$"),
    "PostScript called .jpg": (postscript_as_jpg, "drawing.jpg cannot be read as a picture"),
    "folders at several depths": (folder_of("a/1.png", "b/c/1.png"), "depths, such as .*/1.png.*FOLDER/<class>"),
    "one folder of pictures": (folder_of("pets/1.png", "pets/2.png"), "one class only, 'pets'.*FOLDER/<class>"),
    "names of other folders": (
        folder_of("mug/1.png", "banana/1.png", classnames=["mug", "fruit"]),
        "'mug' is a subfolder.*others are not",
    ),
    "a data set that is not there": (data_without_network, "eurosat is not in data .*EuroSAT.* data/eurosat"),
    "a data set that is half unpacked": (half_of_a_data_set, "eurosat is incomplete: .* 3 classes of 10"),
    "markup as a name": (markup_as_a_name, "^`</script><img src=x>`$"),
    "a picture that cannot be read": (unreadable_picture, "Left out: .*broken.jpg cannot be read"),
    "a README of the user's": (readme_of_the_user, "out/README.md was not written by this command"),
    # runs
    "reproduce with an unknown student": (planned(student="emoji-student"), "no model 'emoji-student'"),
    "reproduce with an unknown teacher": (planned(teachers=["emoji-techer"]), "no model 'emoji-techer'"),
    "reproduce with too many names": (planned(k=10**6), "k is 1000000"),
    "reproduce without shots": (planned(shots=[0]), "shots is 0"),
}


@pytest.fixture(scope="module")
def vlm():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_or_comes_out_right(fault, vlm, tmp_path, monkeypatch):
    function, pattern = FAULTS[fault]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            said = function(vlm)
        except (ValueError, OSError, FloatingPointError) as error:
            said = str(error)
    assert re.search(pattern, str(said)) and "\n" not in said, said
    assert not RAN.exists()
