"""PromptKD's objective: its scale, its step, its weights; and where its trainings learn from."""

from dataclasses import replace

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.experiments import lab
from kdpl_utils.experiments import plan as plans
from kdpl_utils.experiments.plan import plan
from kdpl_utils.learners.promptkd import SMALLER_WEIGHTS, WEIGHT, PromptKD, from_promptkd
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
    names, loss = from_promptkd(teacher_logits, NAMES, weight)(ROWS)
    assert names == NAMES
    torch.testing.assert_close(loss(z), published(teacher_logits[ROWS], z, weight))
    found, expected = (torch.autograd.grad(f, z)[0] for f in (loss(z), published(teacher_logits[ROWS], z, weight)))
    torch.testing.assert_close(found, expected)
    by_mean = (teacher_logits[ROWS].softmax(-1) - z.softmax(-1)).detach() / -4  # of a mean over the pictures
    torch.testing.assert_close(found, weight / 5 * by_mean)


def test_the_scale_of_a_step(student, pixels):
    """The first update is the learning rate times the published gradient: 200 times that of a mean, for five names."""
    teacher = 3 * torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    learner = PromptKD(student, student)
    start = {name: p.detach().clone() for name, p in learner.named_parameters()}
    grads = torch.autograd.grad(published(teacher, learner(pixels, NAMES)), list(learner.parameters()))
    supervise = from_promptkd(teacher, NAMES)
    recipe = Recipe(epochs=1, batch_size=3, lr=1e-6, weight_decay=0.0, warmup_epochs=0)
    fit(learner, lambda rows: learner.loss(pixels[rows], *supervise(rows)), 3, recipe, progress=False)
    moved = [p.detach() - start[name] for name, p in learner.named_parameters()]
    size = torch.cat([m.flatten() for m in moved]).norm() / torch.cat([g.flatten() for g in grads]).norm()
    assert size.item() == pytest.approx(1e-6, rel=0.02)


def test_published_weights():
    assert WEIGHT == 1000 and SMALLER_WEIGHTS == {"fgvc_aircraft": 200, "flowers102": 200, "dtd": 200}
    (_, (half, _)) = plan("base-to-novel", "emoji", ["promptkd"], ["promptkd"], [1])
    assert lab._promptkd_weight(half) == 1000 and lab._promptkd_weight(replace(half, world="dtd")) == 200
    assert lab._promptkd_weight(replace(half, world="dtd", classes="all")) == 1000


def test_its_mode_is_its_own():
    with pytest.raises(ValueError, match="the objective of the learner promptkd, not of 'coop'"):
        plan("few-shot", "emoji", ["coop"], ["promptkd"], [1])


def test_it_learns_from_the_target_in_a_cross_dataset_table_as_published(monkeypatch):
    loaded = {name: kd.load_world(name) for name in ("emoji/activities", "emoji/objects", "emoji/food-drink")}
    monkeypatch.setattr(plans, "load_world", lambda name, root: loaded[name])
    targets = ["emoji/objects", "emoji/food-drink"]
    pairs = plan("cross-dataset", "emoji/activities", ["promptkd"], ["promptkd", "kdpl"], [1], targets=targets)[2:]
    assert [(job.mode, job.world, job.shots, test.world) for job, test in pairs] == [
        ("promptkd", "emoji/objects", 0, "emoji/objects"), ("promptkd", "emoji/food-drink", 0, "emoji/food-drink"),
        ("kdpl", "emoji/activities", 16, "emoji/objects"), ("kdpl", "emoji/activities", 16, "emoji/food-drink"),
    ]  # fmt: skip


def test_a_run_and_its_file(tmp_path):
    """Trained, saved, loaded with its teacher again, scored, timed; one teacher only."""
    runs = lab.Lab(tmp_path, device="cpu")
    world = kd.load_world("emoji/activities")
    few = {part: getattr(world, part).subset(range(0, len(getattr(world, part)), 40)) for part in ("train", "test")}
    runs.worlds["emoji/activities"] = replace(world, shifts={}, **few)
    options = {"epochs": 1, "shots": [1]}
    ((_, _), (job, test)) = plan("base-to-novel", "emoji/activities", ["promptkd"], ["promptkd"], [1], **options)
    scores = runs.score(job, test)
    assert 0 <= scores["base"] <= 100 and 0 <= scores["novel"] <= 100
    assert (job.folder(tmp_path) / "use.json").is_file()
    assert isinstance(runs.learner(job), PromptKD)
    with pytest.raises(ValueError, match="one teacher"):
        runs.learner(replace(job, teachers=job.teachers * 2))
