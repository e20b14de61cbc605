"""Lesson 09: a teacher made worse on purpose."""

import torch

from .. import evaluate
from .engine import Exercise
from .outcomes import ask, draw


def observe(function, logits, temperature, noise, seed):
    """Return the logits; with noise, how large it is and whether a seed repeats it: which numbers it draws is free."""
    before = logits.clone()
    result = ask(function, logits, temperature, noise, seed)
    if not noise:
        return result
    size = (result * temperature - before).std() / before.std()
    return round(size.item(), 1), float(torch.equal(result, ask(function, before, temperature, noise, seed)))


def noise_of(z, noise, seed):
    return noise * z.std() * draw(seed, *z.shape)


perturb = Exercise(
    "perturb",
    evaluate.perturb,
    lambda: [(3 * draw(0, 4, 5), 4.0, 0.0, 0), (3 * draw(1, 4, 5), 0.25, 0.0, 0), (3 * draw(2, 200, 50), 2.0, 0.5, 1)],
    {
        "multiplies by T": lambda z, temperature, noise, seed: (z + noise_of(z, noise, seed)) * temperature,
        "noise after softmax": lambda z, temperature, noise, seed: (
            (z / temperature).softmax(-1) + noise * draw(seed, *z.shape)
        ),
        "changes the ranking": lambda z, temperature, noise, seed: (
            (z + noise_of(z, noise + temperature - 1, seed)) / temperature
        ),
        "another noise each time": lambda z, temperature, noise, seed: (
            (z + noise * z.std() * torch.randn_like(z)) / temperature
        ),
    },
    observe=observe,
)
