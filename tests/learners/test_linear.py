"""The linear head: zero-shot at step 0, a row for each class, the published step, and no other names."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.learners import Learner, LinearProbe
from kdpl_utils.learners.classifier import classifier_of
from kdpl_utils.learners.saving import load_learner, save_learner
from kdpl_utils.train import Recipe, fit
from kdpl_utils.vlm import ImageBatches

NAMES = ["sushi", "hot dog", "ice_cream"]


def with_residual(vlm, seed=0):
    probe = LinearProbe(vlm, NAMES)
    noise = torch.randn(probe.residual.shape, generator=torch.Generator().manual_seed(seed))
    probe.residual.data = 0.5 * probe.start.norm(dim=-1, keepdim=True) * F.normalize(noise, dim=-1)
    return probe


def by_hand(vlm, pixels, residual, text=None):
    """Cosines with "a photo of a name." plus the residual, from the model's own towers."""
    sentences = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    with torch.no_grad():
        raw = vlm.model.encode_text(vlm.tokenizer(sentences))
        image = vlm.model.encode_image(pixels, normalize=True)
    rows = raw + residual
    return vlm.scale * image @ (rows / rows.norm(dim=-1, keepdim=True)).T


@pytest.mark.parametrize("kind", ["student", "other"])
def test_step_zero_is_zero_shot_to_the_bit(kind, request, pictures):
    vlm = request.getfixturevalue(kind)
    pixels = ImageBatches(vlm, pictures)[:]
    assert torch.equal(LinearProbe(vlm, NAMES)(pixels, NAMES), Learner(vlm)(pixels, NAMES))


def test_logits_and_gradient_by_hand(student, pixels):
    """Fails where the residual is applied twice, is not applied, or is added to unit features."""
    probe, labels = with_residual(student), torch.tensor([2, 0, 1])
    residual = probe.residual.detach().clone().requires_grad_()
    expected = by_hand(student, pixels, residual)
    torch.testing.assert_close(probe(pixels, NAMES), expected, atol=1e-4, rtol=1e-4)
    (grad,) = torch.autograd.grad(F.cross_entropy(expected, labels), residual)
    probe.loss(pixels, NAMES, lambda z: F.cross_entropy(z, labels)).backward()
    torch.testing.assert_close(probe.residual.grad, grad, atol=1e-5, rtol=1e-3)
    assert probe.n_parameters() == 3 * 128


def test_one_step_of_the_published_recipe(student, pixels):
    """SGD without weight decay: the row moves by the learning rate times its gradient, and nothing else does."""
    probe, labels = with_residual(student), torch.tensor([2, 0, 1])
    start = probe.residual.detach().clone()
    loss = kd.from_labels(pixels, labels, NAMES)
    (grad,) = torch.autograd.grad(loss(probe, torch.arange(3)), probe.residual)
    recipe = LinearProbe.recipe
    assert recipe == Recipe(epochs=300, batch_size=256, lr=0.1, momentum=0.9, weight_decay=0.0)
    fit(probe, loss, 3, replace(recipe, epochs=1, warmup_epochs=0), progress=False)
    torch.testing.assert_close(probe.residual.detach(), start - 0.1 * grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("supervise", [kd.from_labels, kd.from_teacher], ids=["labels", "kdpl"])
def test_it_learns_from_cached_features_by_the_same_losses(student, pixels, supervise):
    features = Learner(student).image(pixels)
    probe = LinearProbe(student, NAMES)
    target = torch.tensor([2, 0, 1]) if supervise is kd.from_labels else 9 * torch.eye(3)[[2, 0, 1]]
    history = fit(probe, supervise(features, target, NAMES), 3, LinearProbe.recipe, progress=False)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert probe(features, NAMES).argmax(1).tolist() == [2, 0, 1]
    assert torch.equal(probe(pixels, NAMES).argmax(1), probe(features, NAMES).argmax(1))


def test_some_of_its_classes_in_any_order(student, pixels):
    probe = with_residual(student)
    z = probe(pixels, NAMES)
    torch.testing.assert_close(probe(pixels, ["ice cream", "sushi"]), z[:, [2, 0]])


def test_other_names_are_refused_in_a_sentence(student, pixels):
    with pytest.raises(ValueError, match="no row for 'pizza': it names only the 3 classes") as refused:
        LinearProbe(student, NAMES)(pixels, ["sushi", "pizza"])
    assert "\n" not in str(refused.value)


def test_it_survives_the_disk_and_becomes_a_classifier(student, pixels, tmp_path):
    probe = with_residual(student)
    path = save_learner(probe, tmp_path / "x.safetensors")
    assert torch.equal(load_learner(path, student)(pixels, NAMES), probe(pixels, NAMES))
    torch.testing.assert_close(classifier_of(probe, NAMES)(pixels), probe(pixels, NAMES))
