"""Lesson 07: the interval of a difference over paired seeds."""

from functools import partial

import torch
from scipy import stats

import kdpl_utils as kd

from .engine import Exercise


def interval(spread, quantile, before, after):
    """Return the mean of after − before, and what lies a quantile of a spread (before, after, difference) around."""
    before, after = (torch.tensor(scores, dtype=torch.float64) for scores in (before, after))
    mean = (after - before).mean().item()
    half_width = float(quantile(len(after)) * spread(before, after, after - before) / len(after) ** 0.5)
    return mean, mean - half_width, mean + half_width


def spread_of_differences(before, after, difference):
    return difference.std()


paired_interval = Exercise(
    "paired_interval",
    kd.paired_interval,
    lambda: [([61.0, 63.5, 60.2, 64.1, 62.0], [62.1, 64.0, 61.9, 64.9, 63.4])],
    {
        "unpaired": partial(
            interval,
            lambda before, after, difference: (before.var() + after.var()) ** 0.5,
            lambda n: stats.t.ppf(0.975, 2 * n - 2),
        ),
        "over runs in place of pairs": partial(
            interval, lambda before, after, difference: after.std(), lambda n: stats.t.ppf(0.975, n - 1)
        ),
        "one-sided": partial(interval, spread_of_differences, lambda n: stats.t.ppf(0.95, n - 1)),
        "normal quantile": partial(interval, spread_of_differences, lambda n: stats.norm.ppf(0.975)),
        "backwards": lambda before, after: kd.paired_interval(after, before),
    },
)
