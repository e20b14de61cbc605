"""Intervals for differences, and which of several choices no other one beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], n: int = 10_000, seed: int = 0, groups: Sequence | None = None
) -> tuple[float, float, float]:
    """Mean of b − a and its 95 % percentile interval; (N,), (N,) scores of the same images → (mean, low, high).

    Pairs are drawn with replacement (Efron & Tibshirani 1993, chapter 13); with ``groups`` (N,), whole groups are:
    the views of one drawing, say, are not independent.
    """
    difference = np.asarray(b, dtype=float) - np.asarray(a, dtype=float)
    groups = np.arange(len(difference)) if groups is None else np.asarray(groups)
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    if not np.isfinite(difference).all() or len(set(group)) < 2:
        raise ValueError("A paired bootstrap needs finite scores of at least two independent images (or groups).")
    units = np.stack([np.bincount(group, difference), np.bincount(group)], 1)  # sum and size of each group
    # Equal units need not be told apart: how often each kind is drawn is multinomial. Scores of 0 and 1 have three
    # kinds, so that 10,000 resamples of 10,000 images take a moment.
    kinds, copies = np.unique(units, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    draws = [rng.multinomial(len(units), copies / len(units), min(500, n - i)) @ kinds for i in range(0, n, 500)]
    sums, sizes = np.concatenate(draws).T
    low, high = np.quantile(sums / sizes, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def paired_interval(before: Sequence[float] | float, after: Sequence[float]) -> tuple[float, float, float]:
    """Mean of after − before and its 95 % interval by Student's t; (n,), (n,) scores of the same n seeds.

    ``before`` is one number where it depends on no seed. The interval is about other seeds, not other pictures or
    classes. A percentile bootstrap of five seeds would cover the truth in only five of six cases.

    >>> [round(x, 3) for x in paired_interval([30.0, 31.0, 32.0], [31.0, 33.0, 35.0])]
    [2.0, -0.484, 4.484]
    """
    from scipy import stats  # takes a second to import, and only tables need it

    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    if len(difference) < 2 or not np.isfinite(difference).all():
        raise ValueError("An interval over seeds needs finite scores of at least two seeds.")
    mean = float(difference.mean())
    if np.ptp(difference) == 0:
        return mean, mean, mean  # without spread the t statistic is undefined, and the interval a point
    low, high = stats.ttest_rel(after, before).confidence_interval(0.95)
    return mean, float(low), float(high)


def claim(what: str, before: Sequence[float] | float, after: Sequence[float]) -> str:
    """The sentence that these runs support: the difference of ``paired_interval``, or that none was seen."""
    difference, low, high = paired_interval(before, after)
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return f"{what}: {difference:+.1f} [{low:+.1f}, {high:+.1f}] over {len(after)} seeds: {verdict}."


def pareto_front(cost: Sequence[float], gain: Sequence[float]) -> list[bool]:
    """Which entries no other one beats: none costs at most as much and gains at least as much, with one better.

    >>> pareto_front([1, 2, 3], [5, 4, 6])
    [True, False, True]
    """
    pairs = list(zip(cost, gain))
    return [not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs) for cost, gain in pairs]
