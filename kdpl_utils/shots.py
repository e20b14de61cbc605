"""Which pictures are learned from: the few shots that a seed draws, ours and those of the published code."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import LongTensor, Tensor

from .support.tensors import as_labels, as_numbers
from .support.values import seed_of, whole
from .vlm import VLM, Pixels, at_least_float32


def few_shot(labels: Tensor, shots: int, seed: int) -> LongTensor:
    """Indices of ``shots`` pictures a class, class by class, without replacement; all where there are fewer.

    A pure function of its arguments.  With one seed, few shots are among the many, and a class's pictures are
    the same whether or not the classes after it are there (so base-to-novel and all-class runs share them).
    """
    shots = whole(shots, "shots", 1)
    labels = as_labels(labels)
    generator = torch.Generator().manual_seed(seed_of(seed))
    if len(labels) == 0 or labels.min() < 0:
        raise ValueError("Shots are drawn class by class, and these pictures have no labels: use random_subset.")
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
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
    rng, shots = random.Random(seed_of(seed)), whole(shots, "shots", 1)

    def sample(labels: Tensor, n: int) -> LongTensor:
        members_of_class = {}  # in the order in which labels first appear
        for i, label in enumerate(as_labels(labels, least=0).tolist()):
            members_of_class.setdefault(label, []).append(i)
        chosen = []
        for members in members_of_class.values():
            # A class that is too small draws nothing from the generator: the next class would get other pictures.
            chosen += rng.sample(members, n) if len(members) >= n else members
        return torch.tensor(chosen, dtype=torch.long)

    return sample(train_labels, shots), sample(val_labels, min(shots, 4))


def random_subset(n: int, size: int, seed: int) -> LongTensor:
    """Indices of ``size`` of n pictures, or of all where there are fewer, without a look at any label."""
    generator = torch.Generator().manual_seed(seed_of(seed))
    return torch.randperm(whole(n, "n", 0), generator=generator)[: whole(size, "size", 0)]


def pictures_of(vlm: VLM, images: object, n: int, supervision: Callable) -> Tensor | Pixels:
    """What a learner is trained on: n ``Pixels``, preprocessed pictures (n, 3, H, W), or unit features (n, D).

    Raises:
        ValueError: something else, as many as there are no labels for, or features that are not of length 1.
    """
    if isinstance(images, Pixels):
        inputs = images
    elif isinstance(images, Tensor) or hasattr(images, "__array__"):
        inputs = as_numbers(images, "images", "unit features (N, D)").to(vlm.device, at_least_float32(vlm.dtype))
    else:
        raise ValueError(f"images is a {type(images).__name__}: give kd.Pixels(vlm, pictures), or their unit features.")
    if len(inputs) != n:
        raise ValueError(f"There are {n} labels for {len(inputs)} pictures: give one for each, in the same order.")
    taught = getattr(supervision, "n_pictures", n)  # one that was made by hand does not say
    if taught != n:
        raise ValueError(f"What supervises is over {taught} pictures, and there are {n}: give the same, in one order.")
    is_features = isinstance(inputs, Tensor) and inputs.ndim == 2
    if is_features and not ((inputs.norm(dim=-1) - 1).abs() < 0.01).all():
        raise ValueError("images are features that are not of length 1: make them so, as kd.encode_images does.")
    return inputs
