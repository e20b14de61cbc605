"""train: the schedule against PyTorch's own, the loop against one written by hand."""

import doctest
import errno
import hashlib
import itertools
import math
import random

import pytest
import torch
from torch import nn

from kdpl_utils import train
from kdpl_utils.support import checkpoint as checkpoint_module
from kdpl_utils.support import disk
from kdpl_utils.support.checkpoint import Checkpoint
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


def square(learner):
    return lambda batch: (learner(batch) - learner.targets[batch]).square().mean()


def absolute(learner):
    return lambda batch: (learner(batch) - learner.targets[batch]).abs().mean()


def hashes(learner):
    return {k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in learner.state_dict().items()}


def run(make=square, global_seed=0, **recipe):
    learner = Learner()
    torch.manual_seed(global_seed)
    return learner, fit(learner, make(learner), N, Recipe(**{"epochs": 3, "batch_size": 4} | recipe), progress=False)


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
    history = fit(learner, lambda batch: (seen.append(batch), square(learner)(batch))[1], N, recipe, progress=False)

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

    def loss(batch):
        assert batch.dtype == torch.int64
        seen.append(batch.tolist())
        return square(learner)(batch)

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
    on_epoch = lambda epoch: (ends.append(learner.ctx.detach().clone()), {"epoch": epoch})[1]  # noqa: E731
    return ends, fit(learner, square(learner), N, recipe, on_epoch, progress=False)


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


def test_averages_what_is_learned_and_nothing_else():
    before = hashes(Learner())
    learner, _ = run(lr=0.05, average=(2, 1))
    assert {k for k, v in hashes(learner).items() if v != before[k]} == {"ctx"}
    single = Learner(torch.float32)
    ends, _ = snapshots(single, average=(3, 2))
    assert single.ctx.dtype == torch.float32 and single.ctx.is_leaf and single.ctx.requires_grad
    weights = averaging_weights(Recipe(epochs=6, average=(3, 2)))
    mean = sum(w * end.double() for w, end in zip(weights, ends))
    assert (single.ctx - mean).abs().max() < 1e-6


def test_one_epoch_is_its_own_average():
    averaged, _ = run(epochs=1, average=(15, 1))
    assert torch.equal(averaged.ctx, run(epochs=1)[0].ctx)


@pytest.mark.parametrize("make", [square, absolute])
def test_two_losses_one_loop_and_only_ctx_changes(make):
    before = hashes(Learner())
    learner, history = run(make, lr=0.05, epochs=20)
    assert {k for k, v in hashes(learner).items() if v != before[k]} == {"ctx"}
    assert sum(history.loss[-5:]) < sum(history.loss[:5])
    assert not learner.training and not learner.norm.training
    assert all(p.grad is None for p in learner.parameters())


def test_history_metrics_and_progress(capsys):
    learner, seen = Learner(), []

    def on_epoch(epoch):
        seen.append((epoch, torch.is_grad_enabled()))
        return {"accuracy": torch.tensor(epoch / 2)}

    history = fit(learner, square(learner), N, Recipe(epochs=3, batch_size=4), on_epoch)
    assert seen == [(0, False), (1, False), (2, False)] and history.metrics == {"accuracy": [0.0, 0.5, 1.0]}
    assert len(history.loss) == len(history.lr) == 15 and 0 < history.seconds < 60
    captured = capsys.readouterr()
    assert "15/15" in captured.err and "loss=" in captured.err and not captured.out
    fit(learner, square(learner), N, Recipe(epochs=1), progress=False)
    assert not any(capsys.readouterr())


@pytest.mark.parametrize(
    "spoil",
    [lambda x: x * float("nan"), lambda x: x + float("inf"), lambda x: (x * 0).sqrt()],
    ids=["nan", "inf", "grad"],
)
def test_not_finite_stops_before_the_update(spoil):
    learner, steps = Learner(), []

    def loss(batch):
        steps.append(learner.ctx.detach().clone())
        value = square(learner)(batch)
        return spoil(value) if len(steps) == 8 else value

    with pytest.raises(FloatingPointError, match="not finite at step 7.*lower the learning rate"):
        fit(learner, loss, N, Recipe(epochs=9, batch_size=4), progress=False)
    assert len(steps) == 8 and torch.equal(learner.ctx, steps[-1]) and not torch.equal(learner.ctx, steps[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: fit(m.frozen, square(m), N), "Nothing to learn: no parameter"),
        (lambda m: fit(m, square(m), 0), "n_images is 0: give a whole number of at least 1"),
        (lambda m: fit(m, lambda b: m(b), N), "one number"),
        (lambda m: fit(m, lambda b: m(b).mean().detach(), N), "depends on nothing learnable"),
        (lambda m: fit(m, lambda b: torch.ones((), requires_grad=True) * 2, N), "depends on nothing learnable"),
        (lambda m: Recipe(epochs=0), "at least 1"),
        (lambda m: Recipe(batch_size=0), "at least 1"),
        (lambda m: Recipe(average=(15, 0)), "standard deviation.*above 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(Learner())
    assert "\n" not in str(error.value)


def test_doctests():
    assert doctest.testmod(train) == (0, 2)


def test_what_a_batch_needs_is_fetched_ahead_and_changes_nothing():
    """The same batches in the same order, so the same numbers, and the loss gets what was fetched."""
    (_, expected), learner = run(), Learner()
    fetched = []

    def fetch(batch):
        fetched.append(batch)
        return {"rows": batch}

    inner = square(learner)
    history = fit(learner, lambda b: inner(b["rows"]), N, Recipe(epochs=3, batch_size=4), progress=False, fetch=fetch)
    assert history == expected and len(fetched) == len(history.loss)


# --- a training that goes on ---------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


class Stateful(Learner):
    """With dropout, a BatchNorm in training mode and an average: everything that a state can hold."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(D).double().train().requires_grad_(False)
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch):
        return (self.dropout(self.norm(self.images[batch])) * self.ctx).sum(-1)


class CountedRows:
    """Which visit of a picture it is moves what is learned, as the views of a picture do."""

    def __init__(self):
        self.visits = torch.zeros(N, dtype=torch.long)

    def __call__(self, batch):
        self.visits[batch] += 1
        return (batch + self.visits[batch]) % N


RESUMED = Recipe(epochs=6, batch_size=4, lr=0.05, average=(4, 1), seed=3)
STEPS = 6 * (N // 4)


def train_until(stop, path, measured=None, recipe=RESUMED, key=""):
    """A process of its own, as far as that matters: a fresh learner that is interrupted before step ``stop``."""
    torch.manual_seed(11)  # the numbers of dropout
    random.seed(11)
    learner, done = Stateful(), []

    def loss(rows):
        if len(done) == stop:
            raise Interrupted
        done.append(1)
        return square(learner)(rows) + random.random() * learner.ctx.sum()

    def on_epoch(epoch):
        if measured is not None:
            measured.append(epoch)
        return {"sum": learner.ctx.sum()}

    checkpoint = path and Checkpoint(path, key)
    history = fit(learner, loss, N, recipe, on_epoch, False, rows_of=CountedRows(), checkpoint=checkpoint)
    return learner, history, len(done)


@pytest.fixture
def kept_always(monkeypatch):
    monkeypatch.setattr(checkpoint_module, "KEEP_SECONDS", 0.0)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("stops", [(0,), (1,), (4,), (5,), (6,), (7, 1, 9), (STEPS - 1,), (3,) * 9])
def test_a_killed_training_ends_with_the_same_bits(stops, kept_always, tmp_path):
    calm, history, _ = train_until(None, None)
    for stop in stops:
        with pytest.raises(Interrupted):
            train_until(stop, tmp_path / "state")
    learner, resumed, steps = train_until(None, tmp_path / "state")
    assert resumed == history and same(learner, calm) and resumed.seconds > 0
    assert steps == STEPS - sum(stops)  # nothing is done twice
    assert not list(tmp_path.iterdir())  # removed at the end


def test_each_epoch_is_measured_once(kept_always, tmp_path):
    measured = []
    with pytest.raises(Interrupted):
        train_until(12, tmp_path / "state", measured)
    train_until(None, tmp_path / "state", measured)
    assert measured == list(range(6))


def test_at_most_so_many_seconds_are_repeated(tmp_path, monkeypatch):
    """Steps of 9 seconds each, so kept after every third: 20 seconds are then over."""
    clock = itertools.count(0, 9)
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: next(clock))
    with pytest.raises(Interrupted):
        train_until(20, tmp_path / "state")
    _, _, steps = train_until(None, tmp_path / "state")
    assert STEPS - 20 <= steps <= STEPS - 20 + 4


def test_a_checkpoint_changes_no_number(kept_always, tmp_path):
    (one, history, _), (other, same_history, _) = train_until(None, None), train_until(None, tmp_path / "state")
    assert same(one, other) and history == same_history


@pytest.mark.parametrize("other", [{"recipe": Recipe(epochs=7, batch_size=4, average=(4, 1), seed=3)}, {"key": "b"}])
def test_the_state_of_another_training_is_refused_and_kept(other, kept_always, tmp_path):
    with pytest.raises(Interrupted):
        train_until(4, tmp_path / "state", key="a")
    content = (tmp_path / "state").read_bytes()
    with pytest.raises(ValueError, match="state holds the state of another training.*remove it"):
        train_until(None, tmp_path / "state", **{"key": "a", **other})
    assert (tmp_path / "state").read_bytes() == content


def test_another_start_is_another_training(kept_always, tmp_path):
    with pytest.raises(Interrupted):
        train_until(4, tmp_path / "state")
    learner = Stateful()
    with torch.no_grad():
        learner.ctx[0] += 1e-7  # as the words of another model are
    with pytest.raises(ValueError, match="another training"):
        fit(learner, square(learner), N, RESUMED, progress=False, checkpoint=tmp_path / "state")


def test_a_damaged_state_is_named_and_the_training_starts_again(kept_always, tmp_path):
    calm, history, _ = train_until(None, None)
    with pytest.raises(Interrupted):
        train_until(9, tmp_path / "state")
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:200])
    with pytest.warns(UserWarning, match="state is damaged"):
        learner, again, steps = train_until(None, tmp_path / "state")
    assert steps == STEPS and again == history and same(learner, calm)


def test_a_finished_state_may_stay_until_its_result_is_kept(tmp_path):
    """Killed between the last step and the file of the result, nothing is trained again."""
    torch.manual_seed(11)
    results = []
    for _ in range(2):
        learner = Stateful()
        checkpoint = Checkpoint(tmp_path / "state", stays=True)
        history = fit(learner, square(learner), N, RESUMED, progress=False, checkpoint=checkpoint)
        results.append((learner, history))
    assert results[0][1] == results[1][1] and same(results[0][0], results[1][0])
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_last_state(kept_always, tmp_path, monkeypatch):
    calm, history, _ = train_until(None, None)
    with pytest.raises(Interrupted):
        train_until(9, tmp_path / "state")

    def no_room(opened):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(disk.os, "fsync", no_room)
        with pytest.raises(OSError, match="There is no room left on the disk of .* to write state"):
            train_until(None, tmp_path / "state")
    learner, resumed, steps = train_until(None, tmp_path / "state")
    assert steps == STEPS - 9 and resumed == history and same(learner, calm)
