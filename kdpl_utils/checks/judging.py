"""Exercises of lessons 07, 09 and 10: differences over seeds, teachers made worse on purpose, names in a dictionary."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import evaluate
from ..vlm import unit
from .engine import Exercise, Mutant
from .helping import Stumble
from .probes import draw

# --- 07: an interval over paired seeds -------------------------------------------------------------------------------

# Student's t for five pairs (4 degrees of freedom), or 5 by mistake, and for two groups of five (8).
T_TWO_SIDED = {4: 2.776445, 5: 2.570582, 8: 2.306004}
T_ONE_SIDED = {4: 2.131847}
NORMAL_TWO_SIDED = 1.959964


def _doubles(*values: Sequence[float]) -> list[Tensor]:
    return [torch.as_tensor(x, dtype=torch.float64) for x in values]


def _around(mean: Tensor, half_width: Tensor) -> tuple[float, float, float]:
    return mean.item(), (mean - half_width).item(), (mean + half_width).item()


def _of_differences(quantile: float, by_root: bool = True) -> Callable:
    """The interval of b − a with some quantile, and the root of n forgotten or not."""

    def interval(a, b):
        a, b = _doubles(a, b)
        spread = (b - a).std() / (len(a) ** 0.5 if by_root else 1)
        return _around((b - a).mean(), quantile * spread)

    return interval


def _unpaired(a, b):
    a, b = _doubles(a, b)
    spread = ((a.var() + b.var()) / len(a)) ** 0.5
    return _around(b.mean() - a.mean(), T_TWO_SIDED[8] * spread)


def _over_runs(a, b):
    a, b = _doubles(a, b)
    return _around(b.mean() - a.mean(), T_TWO_SIDED[4] * b.std() / len(b) ** 0.5)


def _mean_in_the_middle(a, b):
    mean, low, high = evaluate.paired_interval(a, b)
    return low, mean, high


def _percentiles(a, b):
    a, b = _doubles(a, b)
    ends = (b - a).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return (b - a).mean().item(), *ends.tolist()


def _backwards(a, b):
    return _of_differences(T_TWO_SIDED[4])(b, a)


paired_interval = Exercise(
    lesson="07",
    name="paired_interval",
    right=evaluate.paired_interval,
    probes=lambda: [
        ([61.0, 63.5, 60.2, 64.1, 62.0], [62.1, 64.0, 61.9, 64.9, 63.4]),
        ([50.0, 58.0, 54.0, 47.0, 52.0], [51.0, 57.5, 55.5, 48.2, 51.4]),
    ],
    mutants={
        "unpaired": Mutant(
            "you compare two groups. Both methods ran on the same seeds: take the difference of each pair first.",
            _unpaired,
        ),
        "one-sided": Mutant(
            "this cuts 5 % off each end: a two-sided 95 % interval takes the quantile 0.975.",
            _of_differences(T_ONE_SIDED[4]),
        ),
        "over runs in place of pairs": Mutant(
            "the spread is that of one method's runs, not that of the differences within pairs.",
            _over_runs,
        ),
        "normal quantile": Mutant(
            "1.96 is for many runs; with n pairs it is Student's t with n − 1 degrees of freedom, here 2.78.",
            _of_differences(NORMAL_TWO_SIDED),
        ),
        "spread of runs, not of the mean": Mutant(
            "this is how far single differences lie apart; the mean of n of them is known better, by √n.",
            _of_differences(T_TWO_SIDED[4], by_root=False),
        ),
        "n degrees of freedom": Mutant(
            "Student's t has n − 1 degrees of freedom, one less than there are pairs.",
            _of_differences(T_TWO_SIDED[5]),
        ),
        "no root": Mutant(
            "you divide by n where its root belongs: s / √n, n ** 0.5.",
            _of_differences(T_TWO_SIDED[4] / 5**0.5),
        ),
        "ends exchanged": Mutant(
            "low lies above high: the quantile 0.025 is below 0. Take that of 0.975.",
            _of_differences(-T_TWO_SIDED[4]),
        ),
        "mean in the middle": Mutant(
            "the order is (mean, low, high), the mean first.",
            _mean_in_the_middle,
        ),
        "percentiles of the differences": Mutant(
            "percentiles say where single differences lie, and five are too few for it: mean ± t · s / √n.",
            _percentiles,
        ),
        "divided by n": Mutant(
            "your standard deviation divides by n, and n − 1 belongs there: np.std(d, ddof=1), or a tensor's d.std().",
            lambda a, b: _of_differences(T_TWO_SIDED[4] * ((len(a) - 1) / len(a)) ** 0.5)(a, b),
        ),
        "backwards": Mutant("the sign is turned: the difference is after − before.", _backwards),
    },
    advice="d = after − before; mean(d) ± t(0.975, n − 1) · sd(d) / √n; return (mean, low, high).",
    hints=(
        "Make one list of differences. Everything else is about this list.",
        "With from scipy import stats, stats.ttest_rel(after, before).confidence_interval() gives low and high.",
    ),
    stumble=Stumble(
        "unsupported operand type(s) for -",
        "lists cannot be subtracted: make both tensors first, torch.tensor(after, dtype=torch.float64).",
        lambda before, after: after - before,
    ),
    minutes=10,
    importance=3,
)

# --- 09: a teacher made worse ----------------------------------------------------------------------------------------


def _perturbed(function: Callable, logits: Tensor, temperature: float, noise: float, seed: int):
    """The result; with noise, how large it is in standard deviations, and whether it is as it should be.

    Asked is whether a seed repeats it, every number has its own, and a row with small logits has as much of it as one
    with large ones.  Which numbers a seed draws is left open.
    """
    result = function(logits.clone(), temperature, noise, seed)
    if result is None or result is ...:
        return None
    if not noise:
        return result
    again = function(logits.clone(), temperature, noise, seed)
    drawn = result * temperature - logits
    size = (drawn.std() / logits.std()).item()
    pictures_differ = not drawn.mean(0).std() > 0.5 * drawn.std()
    names_differ = not drawn.mean(1).std() > 0.5 * drawn.std()
    half = len(drawn) // 2
    is_even = not drawn[:half].std() < 0.5 * drawn[half:].std()
    return round(size, 1), *map(float, (torch.equal(result, again), pictures_differ, names_differ, is_even))


def _rows_of_two_sizes() -> Tensor:
    """(200, 50) logits, small ones in the first half of the rows."""
    logits = 3 * draw(2, 200, 50)
    logits[:100] /= 10
    return logits


def _epsilon(logits: Tensor, seed: int) -> Tensor:
    return draw(seed, *logits.shape) * logits.std()


perturb = Exercise(
    lesson="09",
    name="perturb",
    right=evaluate.perturb,
    probes=lambda: [
        (3 * draw(0, 4, 5), 4.0, 0.0, 0),
        (3 * draw(1, 4, 5), 0.25, 0.0, 0),
        (_rows_of_two_sizes(), 2.0, 0.5, 1),
    ],
    observe=_perturbed,
    observed="the logits; of noise its size, if a seed repeats it, if pictures and names differ, if rows have as much",
    mutants={
        "multiplies by T": Mutant(
            "you multiply by the temperature: above 1 it must make the teacher less certain, so divide.",
            lambda z, temperature=1.0, noise=0.0, seed=0: (z + noise * _epsilon(z, seed)) * temperature,
        ),
        "noise after softmax": Mutant(
            "you return probabilities with noise on them: some below 0, and rows that do not sum to 1. Perturb logits.",
            lambda z, temperature=1.0, noise=0.0, seed=0: (z / temperature).softmax(-1) + noise * draw(seed, *z.shape),
        ),
        "changes the ranking": Mutant(
            "without noise the top answers change: a temperature moves certainty alone, and needs no random numbers.",
            lambda z, temperature=1.0, noise=0.0, seed=0: (
                (z + (noise + temperature - 1) * _epsilon(z, seed)) / temperature
            ),
        ),
        "noise without its scale": Mutant(
            "the noise has standard deviation noise, whatever the logits' own is: multiply with logits.std().",
            lambda z, temperature=1.0, noise=0.0, seed=0: (z + noise * draw(seed, *z.shape)) / temperature,
        ),
        "no noise": Mutant(
            "no noise is added: noise · logits.std() · ε, before the division.",
            lambda z, temperature=1.0, noise=0.0, seed=0: z / temperature,
        ),
        "uniform noise": Mutant(
            "torch.rand draws between 0 and 1: noise that goes both ways is torch.randn.",
            lambda z, temperature=1.0, noise=0.0, seed=0: (
                (z + noise * z.std() * torch.rand(z.shape, generator=torch.Generator().manual_seed(seed))) / temperature
            ),
        ),
        "one noise for all pictures": Mutant(
            "every picture gets the same noise: draw a number for each logit, torch.randn(logits.shape, …).",
            lambda z, temperature=1.0, noise=0.0, seed=0: (z + noise * draw(seed, z.shape[1]) * z.std()) / temperature,
        ),
        "one noise for all names": Mutant(
            "all names of a picture move together, which changes no probability: draw torch.randn(logits.shape, …).",
            lambda z, temperature=1.0, noise=0.0, seed=0: (z + noise * draw(seed, len(z), 1) * z.std()) / temperature,
        ),
        "each row its own scale": Mutant(
            "each picture's noise follows its own logits: it is the standard deviation of all, logits.std().",
            lambda z, temperature=1.0, noise=0.0, seed=0: (
                (z + noise * draw(seed, *z.shape) * z.std(-1, keepdim=True)) / temperature
            ),
        ),
        "noise after the division": Mutant(
            "you add the noise after the division, so that a temperature above 1 makes it weigh more: noise first.",
            lambda z, temperature=1.0, noise=0.0, seed=0: z / temperature + noise * _epsilon(z, seed),
        ),
        "another noise each time": Mutant(
            "the seed is not used: two runs of one seed must see the same teacher.",
            lambda z, temperature=1.0, noise=0.0, seed=0: (z + noise * z.std() * torch.randn_like(z)) / temperature,
        ),
    },
    advice="(logits + noise · logits.std() · ε) / temperature, ε from torch.Generator().manual_seed(seed).",
    hints=(
        "Two changes of the logits: one divides, one adds. Neither comes after a softmax.",
        "epsilon = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed))",
    ),
    stumble=Stumble(
        "randn() received an invalid combination",
        "a seed becomes a generator first: generator=torch.Generator().manual_seed(seed).",
        lambda z, temperature=1.0, noise=0.0, seed=0: z + noise * torch.randn(z.shape, generator=seed),
    ),
)

# --- 10: the nearest names of a dictionary ---------------------------------------------------------------------------


def right_nearest(query: Tensor, dictionary: Tensor, k: int) -> Tensor:
    """(C, k) places in the dictionary (M, D) of the largest cosines to each query (C, D), the largest first."""
    return (unit(query) @ unit(dictionary).T).topk(k).indices


nearest_names = Exercise(
    lesson="10",
    name="nearest_names",
    right=right_nearest,
    probes=lambda: [
        (draw(0, 3, 5), draw(1, 8, 5) * draw(2, 8, 1).exp(), 2),
        (2 * draw(3, 4, 6), draw(4, 9, 6) * draw(5, 9, 1).exp(), 3),
    ],
    mutants={
        "dictionary and query swapped": Mutant(
            "you look for the nearest class of each dictionary entry: one row for each query, please.",
            lambda query, dictionary, k: (unit(dictionary) @ unit(query).T).topk(k).indices,
        ),
        "cosine without norm": Mutant(
            "long dictionary vectors win every time: a cosine needs vectors of length 1.",
            lambda query, dictionary, k: (query @ dictionary.T).topk(k).indices,
        ),
        "returns distances": Mutant(
            "you return how near they are, not which they are: take .indices.",
            lambda query, dictionary, k: (unit(query) @ unit(dictionary).T).topk(k).values,
        ),
        "values and indices": Mutant(
            "topk gives two things, values and indices: take .indices.",
            lambda query, dictionary, k: (unit(query) @ unit(dictionary).T).topk(k),
        ),
        "batch axis normalised": Mutant(
            "you normalise down the list, so that each vector changes its neighbours. Normalise each row: dim=-1.",
            lambda query, dictionary, k: (unit(query) @ (dictionary / dictionary.norm(dim=0)).T).topk(k).indices,
        ),
        "the farthest": Mutant(
            "these are the farthest: a large cosine is near.",
            lambda query, dictionary, k: (unit(query) @ unit(dictionary).T).topk(k, largest=False).indices,
        ),
        "distance of raw vectors": Mutant(
            "you measure distances between vectors of any length: make them unit, or compare cosines.",
            lambda query, dictionary, k: torch.cdist(query, dictionary).topk(k, largest=False).indices,
        ),
    },
    advice="cosines (Q, V) of unit vectors, then topk(k).indices of each row.",
    hints=(
        "One row of cosines for each query. Which end of the row is near?",
        "similarity = F.normalize(query, dim=-1) @ F.normalize(dictionary, dim=-1).T; similarity.topk(k).indices",
    ),
    stumble=Stumble(
        "mat1 and mat2 shapes cannot be multiplied",
        "queries and names both lie in rows: (Q, D) times (V, D) needs the second one transposed, .T.",
        lambda query, dictionary, k: (unit(query) @ unit(dictionary)).topk(k).indices,
    ),
    importance=1,
)
