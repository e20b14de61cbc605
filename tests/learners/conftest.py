"""What the tests of a learner's files share: another model, three pictures."""

import pytest

import kdpl_utils as kd
from kdpl_utils.vlm import ImageBatches


@pytest.fixture(scope="module")
def other():
    return kd.load_vlm("emoji-student-rn", device="cpu")


@pytest.fixture(scope="module")
def pictures():
    return kd.load_world("emoji").test.images[:3]


@pytest.fixture(scope="module")
def pixels(student, pictures):
    return ImageBatches(student, pictures)[:]
