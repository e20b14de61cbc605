"""One call for any two models and anybody's pictures."""

import html
import re
from dataclasses import replace

import hostile
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps.inspect import inspect_pair
from kdpl_utils.evaluate import kl_bits

NAMES = ["tennis", "joker", "trophy", "ribbon", "bowling"]


@pytest.fixture(scope="module")
def pair():
    return kd.load_vlm("emoji-teacher-small", device="cpu"), kd.load_vlm("emoji-student-rn", device="cpu")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (48 + 8 * i, 64, 3), dtype=np.uint8)) for i in range(6)]


def logits(vlm, images, names, scale=None):
    features, text = kd.encode_images(vlm, images), kd.encode_names(vlm, names)
    return kd.logits(features, text, vlm.scale if scale is None else scale)


def line(explorer) -> str:
    return html.unescape(re.sub("<.*?>", "", explorer.text.value))


def shown_bits(explorer) -> list[float]:
    return [float(x) for x in re.findall(r"([\d.]+) bits \(", explorer.alt)]


def test_a_split_of_the_emoji_world(pair):
    world, (teacher, student) = kd.load_world("emoji/activities"), pair
    split, names = world.test.subset(range(0, 60, 3)), list(world.classnames)
    explorer = inspect_pair(teacher, student, split, names)
    images = [split.images[i] for i in range(len(split))]
    kl = kl_bits(logits(teacher, images, names), logits(student, images, names))
    assert shown_bits(explorer) == [round(kl.max().item(), 2)]
    assert f"Picture {int(kl.argmax()) + 1} of 20. Label: {names[split.labels[kl.argmax()]]}" in line(explorer)
    assert kd.inspect_pair is inspect_pair


def test_a_learned_prompt_and_its_steps(pair, pictures):
    teacher, student = pair
    prompts = [kd.PromptLearner(student), kd.PromptLearner(student, n_ctx=4)]
    explorer = inspect_pair(teacher, student, pictures, NAMES, student_after=prompts[1], teacher_scale=3.0)
    assert explorer.controls["step"].max == 1
    explorer.controls["order"].value = "as given"
    with torch.no_grad():
        after = kd.logits(kd.encode_images(student, pictures), prompts[1](NAMES), student.scale)
    expected = kl_bits(logits(teacher, pictures, NAMES, 3.0), after)[0].item()
    assert shown_bits(explorer)[1] == pytest.approx(expected, abs=0.006)
    assert inspect_pair(teacher, student, pictures, NAMES, student_after=prompts).controls["step"].max == 2
    assert inspect_pair(teacher, student, pictures, NAMES, student_after=kd.CoOp(student)).controls["step"].max == 1


def test_names_are_text(pair, pictures):
    explorer = inspect_pair(*pair, pictures, hostile.NAMES, labels=range(6))
    explorer.controls["order"].value = "as given"
    assert f"Label: {hostile.NAMES[0]}." in line(explorer) and "<img src=x" not in explorer.text.value
    assert explorer.png and "<script>" not in explorer.text.value + explorer.picture.value


def test_a_folder_of_images(pair, pictures, tmp_path):
    (tmp_path / "sub").mkdir()
    for i, (picture, name) in enumerate(zip(pictures, ("b.png", "a.jpg", "sub/c.webp", "sub/.hidden.png"))):
        picture.resize((300 + i, 200)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    explorer = inspect_pair(*pair, tmp_path, NAMES)
    assert "of 3." in line(explorer) and explorer.controls["picture"].max == 3
    assert inspect_pair(*pair, str(tmp_path), NAMES).alt == explorer.alt


def test_two_real_size_models_of_open_clip(pictures):
    """As open_clip makes them, in training mode; each has its own preprocessing and text tower."""
    torch.manual_seed(0)
    made = {}
    for name in ("ViT-B-32", "RN50"):
        model, _, preprocess = open_clip.create_model_and_transforms(name)
        made[name] = (model.train(), preprocess, open_clip.get_tokenizer(name))
    before = {n: torch.cat([p.flatten()[:50] for p in m.buffers()]) for n, (m, *_) in made.items()}
    explorer = inspect_pair(made["ViT-B-32"], made["RN50"], pictures, NAMES, labels=[0, 1, 2, 3, 4, -1])
    assert len(shown_bits(explorer)) == 1 and "of 6." in line(explorer)
    for name, (model, *_) in made.items():
        assert torch.equal(before[name], torch.cat([p.flatten()[:50] for p in model.buffers()])), "BatchNorm has moved"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"images": []}, "None of the 0 pictures"),
        ({"images": "nowhere"}, "There is no folder nowhere"),
        ({"images": [np.zeros((8, 8, 3))]}, "Image 0 is a ndarray: give PIL images"),
        ({"images": ["nowhere.png"]}, "nowhere.png"),
        ({"classnames": "tennis"}, "one string"),
        ({"classnames": ["tennis"]}, "'tennis' is the only name"),
        ({"labels": [0, 1]}, "6 images need as many labels, each from -1 to 4"),
        ({"teacher": "ViT-B-32"}, "Give the teacher as load_vlm returns it"),
        ({"student": torch.nn.Linear(2, 2)}, "Give the student as load_vlm returns it"),
        ({"student": None}, "same model"),
    ],
)
def test_refuses_in_one_sentence(pair, pictures, change, words):
    arguments = {"teacher": pair[0], "student": pair[1], "images": pictures, "classnames": NAMES} | change
    arguments["student"] = arguments["student"] or arguments["teacher"]
    with pytest.raises((ValueError, OSError), match=words) as caught:
        inspect_pair(**arguments)
    assert "\n" not in str(caught.value)


def test_pictures_of_any_mode_and_size(pair):
    images = [Image.new("L", (500, 20), 90), Image.new("RGBA", (7, 9)), Image.new("P", (64, 64))]
    explorer = inspect_pair(replace(pair[0], name="mine"), pair[1], images, NAMES)
    for rank in (1, 2, 3):
        explorer.controls["picture"].value = rank
        assert explorer.png
