"""One step of everything on a CUDA device: ``pytest -m cuda``."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import kdpl_utils as kd

DEVICE = "cuda"
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
NAMES = ["banana", "beer mug", "dog", "spoon"]


@pytest.fixture(scope="module")
def here():
    """Student and teacher on the device, eight pictures and what the teacher says of them."""
    student = kd.load_vlm("emoji-student-vit", device=DEVICE)
    teacher = kd.load_vlm(*kd.load_world("emoji").teacher, device=DEVICE)
    images = kd.load_world("emoji").train.images[:8]
    target = kd.logits(kd.encode_images(teacher, images), kd.encode_names(teacher, NAMES), student.scale)
    return SimpleNamespace(student=student, teacher=teacher, images=images, target=target)


def test_features_are_those_of_the_cpu(here):
    on_cpu = kd.load_vlm("emoji-student-vit", device="cpu")
    features = kd.encode_images(here.student, here.images)
    assert features.device.type == DEVICE
    assert (features.cpu() - kd.encode_images(on_cpu, here.images)).abs().max() < 1e-3
    text = kd.encode_names(here.student, NAMES)
    assert (text.cpu() - kd.encode_names(on_cpu, NAMES)).abs().max() < 1e-3


@pytest.mark.parametrize("kind", [kd.CoOp, kd.CoCoOp, kd.VPT, kd.MaPLe, kd.PromptSRC, kd.PromptKD, kd.LinearProbe])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_each_learner(here, kind, precision):
    student = kd.load_vlm("emoji-student-vit", device=DEVICE, precision=precision)
    settings = {kd.PromptKD: {"teacher": here.teacher}, kd.LinearProbe: {"classnames": NAMES}}.get(kind, {})
    learner = kind(student, **settings)
    inputs = kd.ImageBatches(student, here.images)
    before = [parameter.detach().clone() for parameter in learner.parameters()]
    recipe = kd.Recipe(epochs=1, batch_size=8, lr=0.1, warmup_epochs=0)
    history = kd.fit(learner, kd.from_teacher(inputs, here.target, NAMES), 8, recipe, progress=False)
    after = list(learner.parameters())
    assert len(history.loss) == 1 and any((a != b).any() for a, b in zip(after, before, strict=True))
    assert all(parameter.device.type == DEVICE for parameter in after)
    assert len(learner.predict(here.images[:2], NAMES, k=3)[0]) == 3


@pytest.mark.parametrize("mode", ["labels", "kdpl", "kdpl-ca"])
def test_fit_lowers_the_loss(here, mode):
    features = kd.encode_images(here.student, here.images)
    labels = here.target.argmax(-1)
    loss = {
        "labels": lambda prompt, batch: F.cross_entropy(kd.logits(features[batch], prompt(NAMES), 30.0), labels[batch]),
        "kdpl": kd.from_teacher(features, here.target, NAMES),
        "kdpl-ca": kd.from_dictionary(features, here.target, NAMES, k=4),
    }[mode]
    history = kd.fit(kd.PromptLearner(here.student), loss, 8, kd.Recipe(epochs=8, batch_size=8, lr=0.1), progress=False)
    assert history.loss[-1] < history.loss[0]


def test_adapt_runs_on_the_device(here, tmp_path, monkeypatch):
    from kdpl_utils.apps.adapt import adapt_folder

    monkeypatch.chdir(tmp_path)
    for i, image in enumerate(here.images):
        path = tmp_path / "pictures" / NAMES[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    models = {"student": here.student.name, "teacher": here.teacher.name}
    adapt_folder(tmp_path / "pictures", tmp_path / "out", epochs=1, **models)
    assert list((tmp_path / "out").glob("*.safetensors"))
