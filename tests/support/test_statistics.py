"""Intervals: enumerated bootstraps, the textbook's t, and how often they cover the truth."""

import doctest
import itertools

import numpy as np
import pytest
import torch

from kdpl_utils.support import statistics
from kdpl_utils.support.statistics import paired_bootstrap, paired_interval, pareto_front


def test_bootstrap_of_a_constant_difference_has_no_width():
    a = torch.arange(10.0)
    for groups in (None, torch.arange(10) // 3, list("aabbbccddd")):
        assert paired_bootstrap(a, a + 0.25, groups=groups) == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)


def test_bootstrap_equals_all_resamples_enumerated():
    """Five groups of different sizes: all 5⁵ resamples can be listed, and each is a mean over pairs."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), [1, 2, 3, 5, 9])
    a, b = rng.normal(size=(2, 20)) + [[0.0], [0.4]]
    means = [
        np.concatenate([(b - a)[groups == g] for g in drawn]).mean() for drawn in itertools.product(range(5), repeat=5)
    ]
    mean, low, high = paired_bootstrap(torch.tensor(a), torch.tensor(b), n=100_000, groups=torch.tensor(groups))
    assert mean == pytest.approx((b - a).mean(), abs=1e-12)
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)
    assert all(type(x) is float for x in (mean, low, high))


def test_bootstrap_uses_the_pairing_and_the_seed():
    rng = np.random.default_rng(2)
    a = rng.normal(0, 10, 100)
    b = a + rng.normal(1, 0.1, 100)  # images differ far more than models do
    first = paired_bootstrap(a, b, n=1234, seed=5)
    assert first[2] - first[1] < 0.1 and first[1] < first[0] < first[2]
    assert first == paired_bootstrap(a, b, n=1234, seed=5) != paired_bootstrap(a, b, n=1234, seed=6)
    assert len(set(paired_bootstrap(a, b, n=1)[1:])) == 1  # one resample has one mean
    assert paired_bootstrap(b, a)[0] == -paired_bootstrap(a, b)[0]


def test_the_interval_over_seeds_covers_as_promised():
    """Of 5,000 tables of five seeds, Student's interval holds the truth in 95 of 100; the bootstrap's in too few."""
    rng = np.random.default_rng(0)
    easy_or_hard_seed = rng.normal(scale=5, size=(5000, 5))  # what pairing takes away
    before = 40 + easy_or_hard_seed + rng.normal(size=(5000, 5))
    after = 42 + easy_or_hard_seed + rng.normal(size=(5000, 5))
    intervals = [paired_interval(b, a) for b, a in zip(before, after)]
    covered = np.mean([low <= 2 <= high for _, low, high in intervals])
    assert 0.94 <= covered <= 0.96
    bootstraps = [paired_bootstrap(b, a, n=500) for b, a in zip(before[:500], after[:500])]
    assert np.mean([low <= 2 <= high for _, low, high in bootstraps]) < 0.9


def test_the_interval_over_seeds_is_that_of_the_textbook():
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), and t(2 degrees of freedom) = 4.3027.
    mean, low, high = paired_interval([30.0, 31.0, 32.0], torch.tensor([31.0, 33.0, 35.0]))
    assert (mean, low, high) == pytest.approx((2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-3)
    assert paired_interval([1.0, 2.0], [1.5, 2.5]) == (0.5, 0.5, 0.5)


def test_pareto_front_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        cost, gain = rng.integers(0, 5, 6).tolist(), rng.integers(0, 5, 6).tolist()
        expected = []
        for c, g in zip(cost, gain):
            beaten = [(a <= c and b >= g) and (a < c or b > g) for a, b in zip(cost, gain)]
            expected.append(not any(beaten))
        assert pareto_front(cost, gain) == expected


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="at least two seeds"):
        paired_interval([1.0], [2.0])


def test_doctests():
    assert doctest.testmod(statistics) == (0, 2)
