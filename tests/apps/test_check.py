"""The check of the real track, on a tiny archive and weights that are random but for one matrix.

That matrix, the text projection, is solved for, so that the names point at their classes: then every fault costs
accuracy, as with real weights. What the right set scores stands for the published number.
"""

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import InterpolationMode, Normalize, Resize

import kdpl_utils as kd
from kdpl_utils.apps import check as module
from kdpl_utils.apps.check import MEAN, STD, Setup, compare, kdpl_step, published_top1
from kdpl_utils.apps.cli import main
from kdpl_utils.support.shipped import data_file
from kdpl_utils.vlm import TEMPLATE, VLM, encode_images

NAMES = ("beagle", "red panda", "hot dog", "river", "oak tree", "violin", "kiwi", "sailing boat")
PER_CLASS = 20


def tiny(quick_gelu=True):
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
        quick_gelu=quick_gelu,
    )
    with torch.no_grad():  # a fresh transformer does little: larger weights make its layers count …
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.mul_(2)
            if name.endswith("c_fc.bias"):  # … and here the two kinds of GELU differ most
                p.fill_(-2)
            if name.endswith("c_fc.weight"):
                p.mul_(0.5)
            if name.endswith("c_proj.weight"):
                p.mul_(20)
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(data_file("bpe.txt.gz")))
    preprocess = image_transform(32, False, MEAN, STD, resize_mode="shortest", interpolation="bicubic")
    return VLM(model.eval().requires_grad_(False), preprocess, tokenizer, "RN50-quickgelu")


def write_archive(folder):
    """Oblong noisy pictures, a pattern for each class, in ``train`` and ``test``."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(len(NAMES), 5, 7, 3))
    for part, n in (("train", PER_CLASS), ("test", PER_CLASS)):
        for label, name in enumerate(NAMES):
            (folder / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = 128 + 40 * patterns[label] + 20 * rng.normal(size=patterns[label].shape)
                picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((64, 44), Image.NEAREST)
                picture.save(folder / part / name / f"{i}.png")


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """The right set, its test pictures, and its top-1 in the published number's place."""
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder)
    world = kd.folder_world(folder, dictionary=["tree"])
    vlm = tiny()
    seen = encode_images(vlm, world.train.images)
    means = torch.stack([seen[world.train.labels == y].mean(0) for y in range(len(NAMES))])
    means = torch.nn.functional.normalize(means - means.mean(0), dim=-1)
    with torch.no_grad():
        vlm.model.text_projection.copy_(torch.eye(64, 32))
        raw = torch.zeros(len(NAMES), 64)
        for half in (0, 1):  # what the tower gives before the projection, 32 numbers at a time
            vlm.model.text_projection.copy_(torch.eye(64).roll(-32 * half, 0)[:, :32])
            raw[:, 32 * half : 32 * half + 32] = vlm.model.encode_text(
                vlm.tokenizer([TEMPLATE.format(name) for name in world.classnames])
            )
        vlm.model.text_projection.copy_(torch.linalg.pinv(raw) @ means)
    setup = Setup(vlm, world.classnames, TEMPLATE)
    top1 = 100 * kd.accuracy(setup.logits(world.test), world.test.labels)
    return setup, world, top1


def test_the_right_set_passes(right):
    setup, world, published = right
    assert 60 < published < 99
    fits, sentence = compare(setup, world.test, published)
    assert fits and sentence.endswith("right.")
    assert compare(setup, world.test, published - 0.4)[0] and not compare(setup, world.test, published + 0.7)[0]


def forget_quick_gelu(setup):
    plain = tiny(quick_gelu=False).model
    plain.load_state_dict(setup.vlm.model.state_dict())
    return replace(setup, vlm=replace(setup.vlm, model=plain.eval()))


def with_steps(setup, steps):
    changed = type(setup.vlm.preprocess)(steps)
    return replace(setup, vlm=replace(setup.vlm, preprocess=changed))


def other_colours(setup):
    wrong = Normalize((0.9, 0.1, 0.5), (0.1, 0.5, 0.2))
    return with_steps(setup, [wrong if isinstance(s, Normalize) else s for s in setup.vlm.preprocess.transforms])


def squashed(setup):
    """To a square whatever the shape, as other models want it."""
    steps = [s for s in setup.vlm.preprocess.transforms if type(s).__name__ not in ("Resize", "CenterCrop")]
    return with_steps(setup, [Resize((32, 32), InterpolationMode.BICUBIC), *steps])


def other_sentence(setup):
    return replace(setup, template="itap of the small {}, a type of thing.")


def shuffled_names(setup):
    return replace(setup, classnames=(*setup.classnames[3:], *setup.classnames[:3]))


FAULTS = {
    shuffled_names: "the class names are in another order",
    other_sentence: "the names stand in another sentence",
    forget_quick_gelu: "QuickGELU was forgotten",
    other_colours: "another mean and standard deviation",
    squashed: "resized in another way",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_planted_fault_is_named(right, fault):
    setup, world, published = right
    fits, sentence = compare(fault(setup), world.test, published)
    assert not fits and FAULTS[fault] in sentence
    assert sum(cause in sentence for cause in FAULTS.values()) == 1


def test_two_faults_at_once_are_both_named(right):
    setup, world, published = right
    fits, sentence = compare(other_colours(squashed(setup)), world.test, published)
    assert not fits and FAULTS[other_colours] in sentence and FAULTS[squashed] in sentence


def test_other_pictures_have_none_of_the_usual_causes(right):
    setup, world, published = right
    labels = world.test.labels.roll(7)  # not one to one with the pictures
    fits, sentence = compare(setup, replace(world.test, labels=labels), published)
    assert not fits and "none of the usual causes" in sentence


def test_a_small_difference_is_no_other_order(right):
    """Most pictures answer to their own name: the names are where they belong."""
    setup, world, published = right
    fits, sentence = compare(setup, world.test, published + 3)
    assert not fits and "none of the usual causes" in sentence


def test_the_step_is_the_recorded_one(monkeypatch):
    assert kdpl_step() == pytest.approx(module.RECORDED, rel=1e-6)
    lines = []
    assert module._check_step(lines.append) and lines[0].endswith("right.")
    half = lambda t, z: 0.5 * kd.symmetric_kl(t, z)  # noqa: E731
    monkeypatch.setattr(module, "symmetric_kl", half)
    assert not module._check_step(lines.append) and "wrong" in lines[1]


def test_the_command_says_what_is_right_and_what_could_not_be_fetched(right, monkeypatch, capsys):
    setup, world, published = right
    there = {"oxford_pets": world}

    def load_world(name, root):
        if name not in there:
            raise FileNotFoundError(f"{name} is not in {root}: put it there.")
        return there[name]

    def load_vlm(name, weights):
        if weights == "openai":
            raise FileNotFoundError(f"The weights of {name} could not be downloaded: fetch them.")
        return setup.vlm

    monkeypatch.setattr(module, "load_world", load_world)
    monkeypatch.setattr(module, "load_vlm", load_vlm)
    monkeypatch.setattr(module, "published_top1", lambda model, name: published if model == "RN50-quickgelu" else None)
    given = ["check", "--world", "oxford_pets", "dtd", "--model", "RN50-quickgelu//w.pt", "ViT-B-32-quickgelu/openai"]
    assert main([*given, "--root", "/data"]) == 0
    printed = capsys.readouterr().out
    assert "dtd was not checked: dtd is not in /data: put it there." in printed and module.MIRROR in printed
    assert "ViT-B-32-quickgelu was not checked" in printed and "right" in printed
    setup = forget_quick_gelu(setup)
    assert main(given) == 1
    assert "QuickGELU was forgotten" in capsys.readouterr().out
    there.clear()
    assert main(given) == 1 and "0 comparisons" in capsys.readouterr().out


def test_published_numbers_have_a_source_and_are_those_of_the_tables():
    table = kd.paper_tables()["zero_shot"]
    assert "published, not run here" in table["note"] and "KDPL" in table["source"]
    assert published_top1("ViT-B-32-quickgelu", "imagenet") == 62.0
    assert published_top1("RN50-quickgelu", "oxford_pets") == 83.7
    assert published_top1("ViT-B-32-quickgelu", "oxford_pets") is None
    known = kd.paper_tables()["domain_generalization"]
    for name, model in (("RN50", "RN50-quickgelu"), ("ViT-B/32", "ViT-B-32-quickgelu")):
        shifts = ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
        assert [table[model][world] for world in shifts] == known[name]["CLIP zero-shot"][:5]


def test_a_model_without_a_published_number_is_no_comparison(right, monkeypatch):
    setup, world, _ = right
    monkeypatch.setattr(module, "load_world", lambda name, root: world)
    monkeypatch.setattr(module, "load_vlm", lambda name, weights: setup.vlm)
    monkeypatch.setattr(module, "published_top1", lambda model, name: None)
    lines = []
    assert not module.check([("RN50-quickgelu", "w.pt")], ["oxford_pets"], report=lines.append)
    assert f"RN50-quickgelu on {world.name}: no published number is known here." in lines
    assert lines[-1] == "0 comparisons with published numbers; 0 things are wrong."
