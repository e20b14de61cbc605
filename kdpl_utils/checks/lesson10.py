"""Lesson 10: the nearest names of a dictionary."""

from ..vlm import unit
from .engine import Exercise
from .outcomes import draw


def right_nearest(query, dictionary, k):
    return (unit(query) @ unit(dictionary).T).topk(k).indices


nearest_names = Exercise(
    "nearest_names",
    right_nearest,
    lambda: [(2 * draw(3, 4, 6), draw(4, 9, 6) * draw(5, 9, 1).exp(), 3)],
    {
        "dictionary and query swapped": lambda query, dictionary, k: right_nearest(dictionary, query, k),
        "cosine without norm": lambda query, dictionary, k: (query @ dictionary.T).topk(k).indices,
        "returns distances": lambda query, dictionary, k: (unit(query) @ unit(dictionary).T).topk(k).values,
    },
)
