"""Muon, the optimiser that pretrains the emoji models: momentum whose every step is made (almost) orthogonal.

A gradient's large singular directions drown its small ones.  Muon replaces the momentum ``U S V^T`` of a weight matrix
by ``U V^T``, so that all directions move alike (K. Jordan et al., 2024).  ``torch.optim.Muon`` does that for matrices;
this class also takes convolutions, as matrices of shape (output channels, all the rest).
"""

from __future__ import annotations

import torch
from torch import Tensor

# The quintic polynomial whose repeated use drives every singular value near one.
LINEAR, CUBIC, QUINTIC = 3.4445, -4.7750, 2.0315


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """``U V^T`` of a matrix ``U S V^T``, approximately: singular values end between about 0.7 and 1.2."""
    x = matrix / matrix.norm().clamp(min=1e-7)  # the iteration needs singular values of at most 1
    is_tall = x.shape[0] > x.shape[1]
    if is_tall:  # the smaller Gram matrix is the cheaper one
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = LINEAR * x + (CUBIC * gram + QUINTIC * gram @ gram) @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for parameters of two or more dimensions.

    Args:
        params: weights of linear layers (out, in) and convolutions (out, in, height, width).
        lr: length of a step, before the factor sqrt(max(1, rows / columns)) that tall matrices get.
        momentum: how much of the running average of gradients stays at each step.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            if any(p.ndim < 2 for p in group["params"]):
                raise ValueError("Muon takes matrices and convolutions: give vectors to AdamW.")

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            momentum, lr = group["momentum"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["average"] = torch.zeros_like(p)
                state["average"].lerp_(p.grad, 1 - momentum)
                ahead = p.grad.lerp(state["average"], momentum)  # Nesterov: one step further along the average
                matrix = ahead.flatten(1)
                rows, columns = matrix.shape
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(orthogonalise(matrix).view_as(p), alpha=-lr * max(1.0, rows / columns) ** 0.5)
