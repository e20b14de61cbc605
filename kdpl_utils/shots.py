"""Which pictures are learned from: the few shots that a seed draws, ours and those of the published code."""

from __future__ import annotations

import random

import torch
from torch import LongTensor, Tensor


def few_shot(labels: Tensor, shots: int, seed: int) -> LongTensor:
    """Indices of ``shots`` pictures a class, class by class, without replacement; all where there are fewer.

    A pure function of its arguments. With one seed, few shots are among the many, and a class's pictures are the same
    whether or not the classes after it are there (so base-to-novel and all-class runs share them).
    """
    labels = torch.as_tensor(labels)
    if not len(labels) or labels.min() < 0:
        raise ValueError("Shots are drawn class by class, and these pictures have no labels: use random_subset.")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().cpu()
        # The whole class is shuffled and its first pictures are taken, so few shots are among the many.
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[:shots]])
    return torch.cat(chosen)


def coop_few_shot(train_labels: Tensor, val_labels: Tensor, shots: int, seed: int) -> tuple[LongTensor, LongTensor]:
    """The few shots that CoOp's and KDPL's published code draws: indices of training and of validation pictures.

    From lists in the order of ``split_zhou_*.json`` these are the very pictures of the papers (Dassl's
    ``generate_fewshot_dataset``): Python's ``random``, seeded once, samples each class in the order in which labels
    first appear, training pictures first, then min(shots, 4) for validation; smaller classes are taken whole.
    ImageNet is the exception: there the published order is that of a file system.
    """
    rng = random.Random(seed)

    def sample(labels: Tensor, n: int) -> LongTensor:
        members_of_class: dict[int, list[int]] = {}  # in the order in which labels first appear
        for i, label in enumerate(torch.as_tensor(labels).tolist()):
            members_of_class.setdefault(label, []).append(i)
        chosen = []
        for members in members_of_class.values():
            # A class that is too small draws nothing from the generator: the next class would get other pictures.
            chosen += rng.sample(members, n) if len(members) >= n else members
        return torch.tensor(chosen, dtype=torch.long)

    return sample(train_labels, shots), sample(val_labels, min(shots, 4))


def random_subset(n: int, size: int, seed: int) -> LongTensor:
    """Indices of ``size`` of n pictures, or of all where there are fewer, without a look at any label."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:size]
