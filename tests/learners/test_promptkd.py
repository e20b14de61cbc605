"""PromptKD's objective: its scale and its step."""

import pytest
import torch

from kdpl_utils.learners.promptkd import PromptKD, from_promptkd
from kdpl_utils.train import Recipe, fit

NAMES = [f"name {i}" for i in range(5)]
ROWS = torch.tensor([3, 0, 1, 5])


@pytest.fixture(scope="module")
def teacher_logits():
    return 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


def published(teacher_logits, z, weight=1000.0):
    """As the paper's code does it: a sum over pictures and classes, by how many logits there are, times the weight."""
    t, s = teacher_logits.softmax(-1), z.softmax(-1)
    return weight * (t * (t.log() - s.log())).sum() / z.numel()


@pytest.mark.parametrize("weight", [1000.0, 200.0])
def test_the_scale_of_the_loss_and_of_its_gradient(teacher_logits, weight):
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)

    class Given:
        def loss(self, images, names, of_logits):
            assert names == NAMES
            return of_logits(z)

    value = from_promptkd(torch.zeros(6, 2), teacher_logits, NAMES, weight)(Given(), ROWS)
    torch.testing.assert_close(value, published(teacher_logits[ROWS], z, weight))
    found, expected = (torch.autograd.grad(f, z)[0] for f in (value, published(teacher_logits[ROWS], z, weight)))
    torch.testing.assert_close(found, expected)
    by_mean = (teacher_logits[ROWS].softmax(-1) - z.softmax(-1)).detach() / -4  # of a mean over the pictures
    torch.testing.assert_close(found, weight / 5 * by_mean)


def test_the_scale_of_a_step(student, pixels):
    """The first update is the learning rate times the published gradient: 200 times that of a mean, for five names."""
    teacher = 3 * torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    learner = PromptKD(student, student)
    start = {name: p.detach().clone() for name, p in learner.named_parameters()}
    grads = torch.autograd.grad(published(teacher, learner(pixels, NAMES)), list(learner.parameters()))
    recipe = Recipe(epochs=1, batch_size=3, lr=1e-6, weight_decay=0.0, warmup_epochs=0)
    fit(learner, from_promptkd(pixels, teacher, NAMES), 3, recipe, progress=False)
    moved = [p.detach() - start[name] for name, p in learner.named_parameters()]
    size = torch.cat([m.flatten() for m in moved]).norm() / torch.cat([g.flatten() for g in grads]).norm()
    assert size.item() == pytest.approx(1e-6, rel=0.02)
