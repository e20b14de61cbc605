"""A training step that stops at numbers that are not finite, keeps the last good ones, and says what it looks like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from .values import shown


def guarded_step(optimizer: torch.optim.Optimizer, params: list[Tensor], value: Tensor, step: int, seen) -> float:
    """One update by the gradient of a loss, or an error and the parameters as they were.

    Args:
        value: the loss.
        seen: what the loss was computed from; only looked at when something is wrong.

    Raises:
        ValueError: the loss is no tensor of one number, or depends on no parameter.
        FloatingPointError: the loss, its gradient, or the parameters behind the update are not finite; says which of
            the known causes it looks like.
    """
    if not isinstance(value, Tensor):
        why = "does the function end without return?" if value is None else ".item() or float() cut it off the learner."
        raise ValueError(f"The loss is {shown(value)}, and not a tensor of one number: {why}")
    if value.numel() != 1:
        raise ValueError(f"The loss must be one number (a mean over the batch), not of shape {tuple(value.shape)}.")
    rate = optimizer.param_groups[0]["lr"]
    what = f"The loss ({value.item():g}) or its gradient is"
    if value.isfinite():
        optimizer.zero_grad()
        if value.requires_grad:
            value.backward()
        grads = [p.grad for p in params if p.grad is not None]
        if not grads:
            raise ValueError(
                "The loss depends on nothing learnable: compute it from the learner's output in each step."
            )
        if _all_finite(grads):
            before = [p.detach().clone() for p in params]
            optimizer.step()
            if _all_finite(params):
                return value.item()
            with torch.no_grad():
                for p, good in zip(params, before):
                    p.copy_(good)
            what = f"The parameters behind the update (the loss is {value.item():g}) are"
    raise FloatingPointError(
        f"{what} not finite at step {step}; the parameters are as before it: this looks like "
        f"{_cause(params, value, step, rate, seen)}."
    )


def _all_finite(tensors: list[Tensor]) -> bool:
    return all(tensor.isfinite().all() for tensor in tensors)


def _cause(params: list[Tensor], value: Tensor, step: int, rate: float, seen: object) -> str:
    """The likeliest of the known causes, and what to do."""
    inputs = [tensor for tensor in _tensors(seen) if tensor.is_floating_point()]
    if not _all_finite(params):
        return "a prompt that was not finite before training: start from another one"
    if not _all_finite(inputs):
        return "pictures or features of this batch that are not finite: look at the data and at the cached features"
    if any(tensor.dtype == torch.float16 for tensor in [*params, *inputs]):
        return "half precision, whose numbers end at 65,504: load the models with precision 'fp32' or 'bf16'"
    if step == 0 and not value.isfinite():
        return (
            "a target or a model that is not finite, as nothing was learned yet: look at the teacher's logits (one "
            "that is masked with -inf for the teacher has to be so for the student) and at the weights"
        )
    return f"too long a step: lower the learning rate (it is {rate:g}), or train in float32"


def _tensors(seen: object) -> Iterator[Tensor]:
    if isinstance(seen, Tensor):
        yield seen
    elif isinstance(seen, Mapping):
        for value in seen.values():
            yield from _tensors(value)
    elif isinstance(seen, list | tuple):
        for value in seen:
            yield from _tensors(value)
