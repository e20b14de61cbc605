"""Which pictures the published runs learn from."""

from __future__ import annotations

import random

import torch
from torch import LongTensor, Tensor


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
