"""train: the schedule against PyTorch's own, the loop against one written by hand."""

import doctest
import hashlib
import itertools
import math

import pytest
import torch
from torch import nn

from kdpl_utils import train
from kdpl_utils.support import resume
from kdpl_utils.train import Recipe, averaging_weights, fit, learning_rate

N, D = 23, 5


class Learner(nn.Module):
    """A learnable ``ctx`` among frozen things: a layer, a BatchNorm in eval, a buffer."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.ctx = nn.Parameter(torch.randn(D, dtype=dtype))
        self.frozen, self.norm = nn.Linear(D, 1).to(dtype), nn.BatchNorm1d(D).to(dtype)
        self.register_buffer("images", torch.randn(N, D, dtype=dtype))
        self.register_buffer("targets", self.images.sum(-1) + 0.3 * torch.randn(N, dtype=dtype))
        self.requires_grad_(False).eval()
        self.ctx.requires_grad_()

    def forward(self, batch):
        return (self.norm(self.images[batch]) * self.ctx).sum(-1)


def square(learner, batch):
    return (learner(batch) - learner.targets[batch]).square().mean()


def hashes(learner):
    return {k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in learner.state_dict().items()}


def run(global_seed=0, **recipe):
    learner = Learner()
    torch.manual_seed(global_seed)
    return learner, fit(learner, square, N, Recipe(**{"epochs": 3, "batch_size": 4} | recipe), progress=False)


@pytest.mark.parametrize("epochs, lr, last", [(50, 2e-3, 7.9e-6), (10, 2e-3, 1.91e-4), (5, 3.5e-3, 1.209e-3)])
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_schedule_equals_warm_up_around_torch_cosine(epochs, lr, last, warmup):
    """The wrapper holds a constant rate, then hands over to CosineAnnealingLR, whose first rate is its base rate."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)
    cosine, expected = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs), []
    for epoch in range(epochs):
        if epoch > warmup:
            cosine.step()
        expected.append(1e-5 if epoch < warmup else cosine.get_last_lr()[0])
        optimizer.step()
    recipe = Recipe(epochs=epochs, lr=lr, warmup_epochs=warmup)
    assert [learning_rate(recipe, e) for e in range(epochs)] == pytest.approx(expected, rel=1e-11)
    if warmup == 1:  # the published figure
        assert learning_rate(recipe, epochs - 1) == pytest.approx(last, rel=5e-3)


def test_published_defaults():
    assert Recipe() == Recipe(50, 32, 2e-3, 0.9, 5e-4, 1, 1e-5, 0)


def test_equals_a_loop_written_by_hand():
    recipe = Recipe(epochs=6, batch_size=4, lr=0.01, weight_decay=0.1, seed=3)
    learner, seen = Learner(), []
    history = fit(
        learner, lambda learner, batch: (seen.append(batch), square(learner, batch))[1], N, recipe, progress=False
    )

    reference, losses, rates = Learner(), [], []
    w, images, velocity = reference.ctx.detach(), reference.norm(reference.images), torch.zeros(D, dtype=torch.float64)
    for step, batch in enumerate(seen):
        error = images[batch] @ w - reference.targets[batch]
        losses.append(error.square().mean().item())
        rates.append(learning_rate(recipe, step // (N // 4)))
        velocity = 0.9 * velocity + 2 * images[batch].T @ error / len(batch) + 0.1 * w
        w = w - rates[-1] * velocity
    assert torch.allclose(learner.ctx.detach(), w, rtol=0, atol=1e-12)
    assert history.loss == pytest.approx(losses, rel=1e-12) and history.lr == pytest.approx(rates, rel=1e-12)
    assert (w - Learner().ctx.detach()).abs().max() > 0.1  # it did learn


@pytest.mark.parametrize(
    "n, batch_size, sizes", [(23, 4, [4] * 5), (8, 4, [4, 4]), (3, 4, [3]), (4, 4, [4]), (1, 32, [1])]
)
def test_batches(n, batch_size, sizes):
    """An incomplete batch is dropped unless it is the only one; each epoch is shuffled anew, without repetition."""
    learner, seen = Learner(), []

    def loss(learner, batch):
        seen.append(batch.tolist())
        return square(learner, batch)

    fit(learner, loss, n, Recipe(epochs=4, batch_size=batch_size), progress=False)
    assert [len(b) for b in seen] == sizes * 4
    epochs = [torch.tensor(seen[i : i + len(sizes)]).flatten().tolist() for i in range(0, len(seen), len(sizes))]
    assert all(len(set(e)) == len(e) and set(e) <= set(range(n)) for e in epochs)
    if n > 4:
        assert all(a != b for a, b in itertools.combinations(epochs, 2))
        assert set().union(*epochs) == set(range(n)) and sorted(epochs[0]) != epochs[0]


def test_seed_decides_everything():
    a, first = run()
    b, again = run(global_seed=99)
    assert torch.equal(torch.get_rng_state(), torch.manual_seed(99).get_state())  # nobody else's numbers are used up
    assert first == again and torch.equal(a.ctx, b.ctx)  # bit for bit
    assert run(seed=1)[1].loss != first.loss


@pytest.mark.parametrize(
    "mean, sd, epochs, published",
    [
        (15, 1, 20, {12: 0.004, 13: 0.054, 14: 0.242, 15: 0.399, 16: 0.242, 17: 0.054, 18: 0.004}),
        (6, 10, 20, {1: 0.055, 6: 0.063, 20: 0.024}),
        (30, 5, 3, {}),  # a mean beyond the end, where every weight underflows in float32
        (2.5, 0.1, 2, {}),
    ],
)
def test_averaging_weights(mean, sd, epochs, published):
    """The normal density at each epoch's number, counted from 1, scaled to sum 1."""
    weights = averaging_weights(Recipe(epochs=epochs, average=(mean, sd)))
    logs = [-0.5 * ((k - mean) / sd) ** 2 for k in range(1, epochs + 1)]
    density = [math.exp(x - max(logs)) for x in logs]
    assert weights.tolist() == pytest.approx([w / sum(density) for w in density], rel=1e-12)
    assert weights.dtype == torch.float64 and weights.sum().item() == pytest.approx(1, abs=1e-12)
    assert all(weights[k - 1].item() == pytest.approx(w, abs=6e-4) for k, w in published.items())


def snapshots(learner, **recipe):
    """The context at the end of each epoch of a run, and its history."""
    ends = []
    recipe = Recipe(**{"epochs": 6, "batch_size": 4, "lr": 0.05} | recipe)
    on_epoch = lambda learner: (ends.append(learner.ctx.detach().clone()), {"ends": len(ends)})[1]  # noqa: E731
    return ends, fit(learner, square, N, recipe, on_epoch, progress=False)


@pytest.mark.parametrize("average", [(4, 1), (2, 10), (6, 0.01)])
def test_ends_at_the_average_of_the_epochs(average):
    """The weighted mean of the epochs' ends; on the way there nothing is different."""
    plain, averaged = Learner(), Learner()
    ends, history = snapshots(plain)
    seen, same = snapshots(averaged, average=average)
    assert history == same and all(torch.equal(a, b) for a, b in zip(ends, seen))
    density = [math.exp(-0.5 * ((k - average[0]) / average[1]) ** 2) for k in range(1, 7)]
    mean = sum(w * end for w, end in zip(density, ends)) / sum(density)
    assert torch.allclose(averaged.ctx, mean, rtol=0, atol=1e-13)
    if average[1] > 0.1:
        assert (mean - plain.ctx).abs().max() > 1e-3  # not the last epoch


def test_only_ctx_changes():
    before = hashes(Learner())
    learner, history = run(lr=0.05, epochs=20, average=(19, 1))
    assert {k for k, v in hashes(learner).items() if v != before[k]} == {"ctx"}
    assert sum(history.loss[-5:]) < sum(history.loss[:5])
    assert not learner.training and not learner.norm.training
    assert all(p.grad is None for p in learner.parameters())


def test_history_and_metrics(capsys):
    learner, seen = Learner(), []

    def on_epoch(given):
        seen.append((given is learner, torch.is_grad_enabled()))
        return {"accuracy": torch.tensor(len(seen) / 2)}

    history = fit(learner, square, N, Recipe(epochs=3, batch_size=4), on_epoch, progress=False)
    assert seen == [(True, False)] * 3 and history.metrics == {"accuracy": [0.5, 1.0, 1.5]}
    assert len(history.loss) == len(history.lr) == 15 and 0 < history.seconds < 60
    assert not any(capsys.readouterr())


def test_doctests():
    assert doctest.testmod(train) == (0, 1)


@pytest.mark.parametrize("spoil", [lambda x: x * float("nan"), lambda x: x + float("inf")], ids=["nan", "inf"])
def test_not_finite_stops_before_the_update(spoil):
    starts = []

    def loss(learner, batch):
        starts.append(learner.ctx.detach().clone())
        value = square(learner, batch)
        return spoil(value) if len(starts) == 8 else value

    learner = Learner()
    with pytest.raises(FloatingPointError, match="in step 7: lower lr"):
        fit(learner, loss, N, Recipe(epochs=9, batch_size=4), progress=False)
    assert torch.equal(learner.ctx, starts[-1]) and not torch.equal(learner.ctx, starts[0])


def test_a_last_step_that_overshoots_is_said():
    learner = Learner(torch.float32)
    with pytest.raises(FloatingPointError, match="Parameters are not finite"):
        fit(
            learner, lambda m, b: 1e30 * square(m, b), N, Recipe(epochs=1, batch_size=N, warmup_lr=1e30), progress=False
        )


@pytest.mark.parametrize("stop", [7, 12])
def test_a_long_run_goes_on_at_the_end_of_an_epoch(stop, tmp_path, monkeypatch):
    """Stopped within its second or third epoch of five steps, and begun again by a new process."""
    monkeypatch.setattr(resume, "SECONDS", 0)
    recipe = Recipe(epochs=4, batch_size=4, lr=0.05, average=(3, 1))
    calm = Learner()
    history = fit(calm, square, N, recipe, progress=False)
    steps = []

    def loss(learner, batch):
        steps.append(1)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return square(learner, batch)

    with pytest.raises(KeyboardInterrupt):
        fit(Learner(), loss, N, recipe, progress=False, resume=tmp_path / "state")
    again = Learner()
    resumed = fit(again, loss, N, recipe, progress=False, resume=tmp_path / "state")
    assert torch.allclose(again.ctx, calm.ctx) and resumed.loss == pytest.approx(history.loss)
    assert len(steps) == 20 + stop - (stop - 1) // 5 * 5  # whole epochs are not repeated
    assert not list(tmp_path.iterdir())
