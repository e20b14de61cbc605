import random
from collections import defaultdict

import pytest
import torch

from kdpl_utils.experiments.shots import coop_few_shot, random_subset
from kdpl_utils.protocol import few_shot


@pytest.mark.parametrize("shots", [1, 2, 4, 16])
def test_few_shot_takes_as_many_as_there_are(shots):
    sizes = {0: 20, 1: 3, 2: 16, 5: 7}  # uneven, and one label is left out
    labels = torch.tensor([y for y, n in sizes.items() for _ in range(n)])[torch.randperm(46)]
    chosen = few_shot(labels, shots, seed=3)
    assert chosen.dtype == torch.long and len(chosen.unique()) == len(chosen)
    assert {y: (labels[chosen] == y).sum().item() for y in sizes} == {y: min(n, shots) for y, n in sizes.items()}
    more = few_shot(labels, shots + 1, seed=3)
    assert set(chosen.tolist()) <= set(more.tolist())


def test_few_shot_depends_on_its_arguments_alone():
    labels = torch.arange(10).repeat(30)
    torch.manual_seed(0)
    first, state = few_shot(labels, 4, seed=1), torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(first, few_shot(labels.tolist(), 4, seed=1))
    assert not torch.equal(first, few_shot(labels, 4, seed=2))
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    early = (labels < 5).nonzero().flatten()  # base classes get the same pictures when novel ones are not there
    assert torch.equal(early[few_shot(labels[early], 4, seed=1)], first[:20])
    drawn = torch.cat([few_shot(labels, 4, seed) for seed in range(200)]).bincount(minlength=300)
    assert drawn.min() > 0  # no picture is out of reach
    for without in (torch.empty(0), torch.full((3,), -1)):
        with pytest.raises(ValueError, match="have no labels: use random_subset"):
            few_shot(without, 1, seed=1)


def test_coop_few_shot_draws_as_the_published_code_does():
    """Written out here as Dassl runs it: the global generator, seeded once, class by class, training first."""
    train, val = [2, 0, 2, 1, 0, 2, 0, 2, 1, 0, 0], [1, 1, 0, 2, 0, 0, 0, 0, 0, 2]
    for seed, shots in ((1, 2), (2, 4), (3, 16)):
        random.seed(seed)
        expected = []
        for labels, n in ((train, shots), (val, min(shots, 4))):
            tracker = defaultdict(list)
            for i, label in enumerate(labels):
                tracker[label].append(i)
            expected.append([i for m in tracker.values() for i in (random.sample(m, n) if len(m) >= n else m)])
        state = random.getstate()
        drawn = coop_few_shot(torch.tensor(train), torch.tensor(val), shots, seed)
        assert [d.tolist() for d in drawn] == expected and random.getstate() == state


def test_a_random_subset_sees_no_label():
    drawn = random_subset(50, 10, seed=1)
    assert len(set(drawn.tolist())) == 10 and drawn.max() < 50
    assert torch.equal(drawn, random_subset(50, 10, seed=1)) and not torch.equal(drawn, random_subset(50, 10, 2))
    assert sorted(random_subset(5, 10, seed=1).tolist()) == [0, 1, 2, 3, 4]
    assert len({int(random_subset(50, 1, seed)) for seed in range(500)}) == 50
