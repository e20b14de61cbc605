import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import RandomResizedCrop

import kdpl_utils as kd
from kdpl_utils.worlds.world import LazyList, Split, base_novel, of_classes, random_crops


def digest(images):
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def test_a_lazy_list_is_a_sequence():
    made = LazyList(5, lambda i: 10 * i)
    assert list(made) == [0, 10, 20, 30, 40] and made[-1] == made[torch.tensor(4)] == 40 and made[1:3] == [10, 20]
    with pytest.raises(IndexError, match="outside"):
        made[5]


@pytest.mark.parametrize("n, base", [(1, 1), (2, 1), (37, 19), (102, 51), (47, 24), (10, 5), (397, 199), (101, 51)])
def test_base_is_the_larger_half(n, base):
    assert base_novel(n) == (range(base), range(base, n))


def test_subset_and_of_classes_keep_pictures_with_their_labels():
    labels = torch.tensor([3, 0, 2, 1, 2, 3])
    split = Split(LazyList(6, lambda i: 10 * int(labels[i]) + i), labels)
    part = split.subset([4, 0])
    assert list(part.images) == [24, 30] and part.labels.tolist() == [2, 3]
    novel = of_classes(split, range(2, 4))
    assert list(novel.images) == [30, 22, 24, 35] and novel.labels.tolist() == [1, 0, 0, 1]
    assert novel.labels.dtype == torch.long and len(of_classes(split, range(4, 6))) == 0
    twice = of_classes(split.subset(torch.tensor([5, 1, 0])), range(3, 4))
    assert list(twice.images) == [35, 30]


# Crops


def ramp(width, height):
    """A picture whose red is x and whose green is y."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def test_crops_are_functions_of_seed_and_index():
    images = [ramp(64, 64), ramp(80, 60), ramp(30, 90)]
    crops, again = (random_crops(images, 4, seed=2) for _ in range(2))
    assert len(crops) == 12
    assert [digest([again[i]]) for i in reversed(range(12))] == [digest([crops[i]]) for i in reversed(range(12))]
    assert digest(random_crops(images, 2, seed=2)) == digest(crops[:6])  # more views keep the first ones
    assert len({digest([c]) for c in crops}) == 12 and digest(random_crops(images, 4, seed=3)) != digest(crops)
    assert [crop.size for crop in crops[:4]] == [(64, 64), (60, 60), (30, 30), (64, 64)]


def test_a_crop_is_no_larger_than_a_model_wants():
    assert random_crops([Image.new("RGB", (500, 375))], 1, seed=0)[0].size == (336, 336)


def test_the_whole_area_leaves_the_picture_or_its_mirror():
    picture = ramp(64, 64)
    seen = [digest([crop]) for crop in random_crops([picture], 40, seed=0, scale=(1.0, 1.0))]
    upright, mirrored = digest([picture]), digest([ImageOps.mirror(picture)])
    assert set(seen) == {upright, mirrored} and 10 < seen.count(upright) < 30


def test_crops_are_drawn_as_torchvision_draws_them():
    picture = ramp(250, 250)
    ours = []
    for crop in random_crops([picture], 600, seed=0):
        red, green = (np.asarray(crop)[..., k].astype(int) for k in (0, 1))
        ours.append((np.ptp(red) + 1, np.ptp(green) + 1, red.min(), green.min()))
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(600)]
    theirs = [(w, h, x, y) for y, x, h, w in theirs]
    for a, b in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        assert a.mean() == pytest.approx(b.mean(), abs=4 * b.std() * math.sqrt(2 / 600))
        assert a.std() == pytest.approx(b.std(), rel=0.15)


def test_crops_of_a_split_keep_labels_and_have_a_key_of_their_own():
    pictures = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in (0, 100)]
    split = Split(pictures, torch.tensor([1, 0]), key="two")
    crops = split.crops(3, seed=1)
    assert len(crops) == len(crops.images) == 6 and crops.labels.tolist() == [1, 0] * 3
    assert [crop.getpixel((0, 0))[0] for crop in crops.images] == [0, 100] * 3
    assert split.crops(0, seed=1) is split
    assert len({split.key, crops.key, split.crops(3, seed=2).key, split.crops(2, seed=1).key}) == 4
    assert Split(pictures, split.labels).crops(3, seed=1).key == ""


def test_the_recipe_of_a_world_is_coops():
    emoji = kd.load_world("emoji/activities")
    assert emoji.recipe == emoji.recipes["coop"] and kd.Recipe(**emoji.recipe).lr > 0
    assert replace(emoji, recipes={}).recipe == {}
