"""Exercises of lessons 04 and 05: a teacher's distribution as a loss, and no label beside it."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import distill
from ..distill import symmetric_kl
from .engine import Exercise, Mutant
from .helping import Stumble
from .outcomes import rebound
from .probes import draw

# --- 04: forward KL --------------------------------------------------------------------------------------------------


def _with_gradient(function: Callable, teacher_logits: Tensor, student_logits: Tensor):
    """The loss, and the gradient that it sends to the student."""
    student_logits = student_logits.requires_grad_()
    loss = function(teacher_logits, student_logits)
    if loss is None or loss is ...:
        return None
    if not getattr(loss, "requires_grad", False):  # a detached tensor, or a plain number
        return loss, None
    if not loss.isfinite().all():  # what its gradient is then, hangs on how the same mistake was written
        return loss, torch.nan
    return loss, torch.autograd.grad(loss.sum(), student_logits)[0]


def _naive(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    t, s = teacher_logits.softmax(-1), student_logits.softmax(-1)
    return (t * (t.log() - s.log())).sum(-1).mean()


def _terms(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    t, s = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
    return t.exp() * (t - s)


def _down_the_batch(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    t, s = teacher_logits.log_softmax(0), student_logits.log_softmax(0)
    return (t.exp() * (t - s)).sum(-1).mean()


def without_log(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """softmax where kl_div wants log_softmax: no KL, and often below zero."""
    return F.kl_div(student_logits.softmax(-1), teacher_logits.softmax(-1), reduction="batchmean")


forward_kl = Exercise(
    lesson="04",
    name="forward_kl",
    right=distill.forward_kl,
    probes=lambda: [
        (2 * draw(0, 4, 3), draw(1, 4, 3)),
        (draw(2, 1, 5), 3 * draw(3, 1, 5)),
        (torch.tensor([[300.0, 0.0, 1.0], [0.0, 250.0, 0.0]]), draw(4, 2, 3)),
        (draw(5, 2, 3), torch.tensor([[0.0, 200.0, 1.0], [150.0, 0.0, 2.0]])),
    ],
    observe=_with_gradient,
    observed="the loss, and the gradient that it sends to the student",
    mutants={
        "arguments swapped": Mutant(
            "this is KL(s‖t), the reverse one: the weights in front of the logarithms are the teacher's, not the "
            "student's.",
            distill.reverse_kl,
        ),
        "mean also over classes": Mutant(
            "you average over the classes, too, so the loss shrinks with their number: sum over classes, then the "
            "mean over pictures (in kl_div: reduction='batchmean').",
            lambda t, s: _terms(t, s).mean(),
        ),
        "sum over pictures": Mutant(
            "you sum over the pictures, so a larger batch takes larger steps: take their mean.",
            lambda t, s: _terms(t, s).sum(),
        ),
        "a number a picture": Mutant(
            "you return one number for each picture: a loss is their mean, .mean().",
            lambda t, s: _terms(t, s).sum(-1),
        ),
        "logarithms as weights": Mutant(
            "you weigh with the teacher's logarithms: the weights are its probabilities, log_t.exp().",
            lambda t, s: (t.log_softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1).mean(),
        ),
        "sign turned": Mutant(
            "the sign is turned, and a KL is never below 0: it is log t − log s, the teacher's logarithm first.",
            lambda t, s: -_terms(t, s).sum(-1).mean(),
        ),
        "in bits": Mutant(
            "this is the KL in bits: the exercise asks for nats, so do not divide by log 2.",
            lambda t, s: _terms(t, s).sum(-1).mean() / math.log(2),
        ),
        "softmax over the pictures": Mutant(
            "your softmax runs down the batch: each picture's probabilities sum to 1, dim=-1.",
            _down_the_batch,
        ),
        "kl_div of no probabilities": Mutant(
            "F.kl_div takes the logarithm of its second argument itself: give it softmax, or say log_target=True.",
            lambda t, s: F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="batchmean"),
        ),
        "softmax for log-softmax": Mutant(
            "F.kl_div wants the student's logarithms, student_logits.log_softmax(-1): from probabilities it makes "
            "a number that is no KL and often below zero.",
            without_log,
        ),
        "NaN from 0 · log 0": Mutant(
            "right, until a probability rounds to 0: 0 · log 0 is NaN. Take log_softmax, never softmax and then log.",
            _naive,
        ),
        "small number in the logarithm": Mutant(
            "a small number inside the logarithm keeps it finite, but far too small where the student gives a name "
            "almost nothing: log_softmax needs none.",
            lambda t, s: (t.softmax(-1) * ((t.softmax(-1) + 1e-8).log() - (s.softmax(-1) + 1e-8).log())).sum(-1).mean(),
        ),
        "cross-entropy": Mutant(
            "this is the cross-entropy −Σ t log s. Its gradient is the KL's, but it is not 0 where both agree: the "
            "teacher's own Σ t log t is missing.",
            lambda t, s: -(t.softmax(-1) * s.log_softmax(-1)).sum(-1).mean(),
        ),
        "no gradient": Mutant(
            "the number is right, but no gradient reaches the student: .detach(), .item() or no_grad cut it off.",
            lambda t, s: distill.forward_kl(t, s.detach()),
        ),
    },
    advice="log_softmax of both, nothing added; Σ over classes of t · (log t − log s); the mean over pictures.",
    hints=(
        "Write down KL(t‖s) for one picture. Which of its parts does log_softmax give you directly?",
        "log_t = teacher_logits.log_softmax(-1), the same for s; t is log_t.exp(); .sum(-1) and then .mean().",
    ),
    stumble=Stumble(
        "is not a valid value for reduction",
        "kl_div knows reduction='batchmean', in one word; 'mean' would also average over the classes.",
        lambda t, s: F.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="batch_mean"),
    ),
    minutes=10,
    importance=3,
)

# --- 04: the loss that the museum's four bugs are to become --------------------------------------------------------


def right_mended(teacher_logits: Tensor, student_logits: Tensor, batch: Tensor) -> Tensor:
    """Teacher's logits (N, C) of all pictures, the student's (B, C) of a batch of indices (B,) → KL(t‖s)."""
    return distill.forward_kl(teacher_logits[batch], student_logits)


def swapped(teacher_logits: Tensor, student_logits: Tensor, batch: Tensor) -> Tensor:
    """The roles are swapped: the teacher is trained to follow the student."""
    return distill.forward_kl(student_logits, teacher_logits[batch])


def with_itself(teacher_logits: Tensor, student_logits: Tensor, batch: Tensor) -> Tensor:
    """The teacher is compared with itself; the student does not occur."""
    return distill.forward_kl(teacher_logits[batch], teacher_logits[batch])


def other_order(teacher_logits: Tensor, student_logits: Tensor, batch: Tensor) -> Tensor:
    """The teacher's answers are of other pictures: they were stored in another order than the batch's."""
    return distill.forward_kl(teacher_logits[: len(batch)], student_logits)


def no_logarithm(teacher_logits: Tensor, student_logits: Tensor, batch: Tensor) -> Tensor:
    """kl_div gets the student's probabilities where it wants their logarithms."""
    return without_log(teacher_logits[batch].detach(), student_logits)


def _with_both_gradients(function: Callable, teacher_logits: Tensor, student_logits: Tensor, batch: Tensor):
    """The loss, and the gradients that it sends to the student and to the teacher."""
    leaves = [student_logits.requires_grad_(), teacher_logits.requires_grad_()]
    loss = function(teacher_logits, student_logits, batch)
    if loss is None or loss is ...:
        return None
    if not getattr(loss, "requires_grad", False):  # a detached tensor, or a plain number
        return loss, None, None
    return loss, *torch.autograd.grad(loss.sum(), leaves, allow_unused=True)


mended = Exercise(
    lesson="04",
    name="mended",
    right=right_mended,
    probes=lambda: [
        (2 * draw(0, 6, 3), draw(1, 2, 3), torch.tensor([4, 1])),
        (2 * draw(2, 5, 4), draw(3, 3, 4), torch.tensor([3, 0, 4])),
    ],
    observe=_with_both_gradients,
    observed="the loss, and the gradients that it sends to the student and to the teacher (None: nothing teaches it)",
    mutants={
        "swapped": Mutant("the roles are still swapped: the gradient goes to the teacher.", swapped),
        "with itself": Mutant("the teacher is still compared with itself: the student does not occur.", with_itself),
        "other order": Mutant(
            "the teacher's rows are still of other pictures than the batch: take teacher_logits[batch].", other_order
        ),
        "gradient into the teacher": Mutant(
            "right for the student, but the loss moves the teacher, too: detach its rows, as kd.forward_kl does.",
            lambda t, s, batch: _terms(t[batch], s).sum(-1).mean(),
        ),
        "symmetric": Mutant(
            "this is the symmetric KL, KDPL's loss: the rooms are about the forward one alone.",
            lambda t, s, batch: symmetric_kl(t[batch], s),
        ),
        "no logarithm": Mutant("kl_div still gets the student's probabilities, not their logarithms.", no_logarithm),
    },
    advice="forward_kl(teacher's rows of this batch, student_logits): the teacher first, and nothing teaches it.",
    hints=(
        "Which rows of teacher_logits belong to the pictures of this batch?",
        "kd.forward_kl(teacher_logits[batch], student_logits)",
    ),
    stumble=Stumble(
        "Teacher and student logits must be (B, C)",
        "the teacher's rows are those of all pictures: take those of this batch, teacher_logits[batch].",
        lambda t, s, batch: distill.forward_kl(t, s),
    ),
)

# --- 05: KDPL as a closure -------------------------------------------------------------------------------------------

# Names that the notebook has. The check binds them to data of its own, and the library's version to the notebook's.
teacher_logits = student_logits = base_names = labels = scale = teacher_scale = None


class LabelsWereRead(Exception):
    """KDPL needs no labels, so those of the check cannot be read."""


class Forbidden:
    def _read(self, *_):
        raise LabelsWereRead("labels were read")

    __getitem__ = __len__ = __iter__ = __getattr__ = _read


def _closure_world() -> dict:
    """What a closure of lesson 05 finds under its global names."""
    names = ["pear", "apple", "fig", "date"]
    logits = draw(0, 8, 4).requires_grad_()
    return {
        "teacher_logits": (2 * draw(1, 8, 4)).requires_grad_(),
        "student_logits": lambda batch, asked: logits[batch][:, [names.index(name) for name in asked]],
        "base_names": names,
        "labels": Forbidden(),
        "scale": 10.0,
        "teacher_scale": 25.0,
        "the student's logits": logits,
    }


def _in_closure_world(function: Callable, batch: Tensor):
    """The loss, and its gradients to the student and to the teacher."""
    world = _closure_world()
    loss = rebound(function, world)(batch)
    if loss is None or loss is ...:
        return None
    if not getattr(loss, "requires_grad", False):  # a detached tensor, or a plain number
        return loss, None, None
    leaves = [world["the student's logits"], world["teacher_logits"]]
    return loss, *torch.autograd.grad(loss, leaves, allow_unused=True)


def _names_of(answer: object) -> dict:
    """The notebook's names, which a function finds; what is none, such as its result, was made in the notebook, too."""
    return getattr(answer, "__globals__", vars(sys.modules["__main__"]))


def right_kdpl(batch: Tensor, loss: Callable = symmetric_kl) -> Tensor:
    return loss(teacher_logits[batch], student_logits(batch, base_names))


def _into_the_teacher(batch: Tensor) -> Tensor:
    t = teacher_logits[batch].log_softmax(-1)
    s = student_logits(batch, base_names).log_softmax(-1)
    return ((t.exp() - s.exp()) * (t - s)).sum(-1).mean() / 2


kdpl = Exercise(
    lesson="05",
    name="kdpl",
    right=right_kdpl,
    probes=lambda: [(torch.tensor([5, 2, 7]),), (torch.tensor([1]),)],
    observe=_in_closure_world,
    observed="the loss, and the gradients that it sends to the student and to the teacher (None: nothing teaches it)",
    substitute=lambda answer: types.FunctionType(
        right_kdpl.__code__, _names_of(answer), "kdpl", right_kdpl.__defaults__
    ),
    mutants={
        "gradient into the teacher": Mutant(
            "the loss also moves the teacher, which then comes down to meet the student: detach the teacher's logits.",
            _into_the_teacher,
        ),
        "labels touched": Mutant(
            "the loss reads labels, and KDPL has none: the teacher's logits take their place.",
            lambda batch: F.cross_entropy(student_logits(batch, base_names), labels[batch]),
        ),
        "class order": Mutant(
            "teacher and student answer for the names in different orders: column 3 must be one name for both.",
            lambda batch: symmetric_kl(teacher_logits[batch], student_logits(batch, sorted(base_names))),
        ),
        "teacher's scale": Mutant(
            "you rescale the teacher to its own scale; as published, both distributions use the student's.",
            lambda batch: symmetric_kl(
                teacher_logits[batch] * (teacher_scale / scale), student_logits(batch, base_names)
            ),
        ),
        "other pictures": Mutant(
            "the teacher's rows are of other pictures: take teacher_logits[batch].",
            lambda batch: symmetric_kl(teacher_logits[: len(batch)], student_logits(batch, base_names)),
        ),
        "one direction": Mutant(
            "this is the forward KL alone; KDPL's loss is the mean of both directions, symmetric_kl.",
            lambda batch: distill.forward_kl(teacher_logits[batch], student_logits(batch, base_names)),
        ),
        "no gradient": Mutant(
            "the number is right, but no gradient reaches the student: .detach(), .item() or no_grad cut it off.",
            lambda batch: symmetric_kl(teacher_logits[batch], student_logits(batch, base_names).detach()),
        ),
        "hard labels": Mutant(
            "you keep the teacher's top answer alone and throw its distribution away.",
            lambda batch: F.cross_entropy(student_logits(batch, base_names), teacher_logits[batch].argmax(-1)),
        ),
    },
    advice="one line: a loss of teacher_logits[batch] and student_logits(batch, base_names), the teacher first.",
    hints=(
        "CoOp is F.cross_entropy(student_logits(batch, base_names), labels[batch]). What stands in for the labels?",
        "return kd.symmetric_kl(teacher_logits[batch], student_logits(batch, base_names))",
    ),
    stumble=Stumble(
        "'function' object is not subscriptable",
        "student_logits is a function, teacher_logits a tensor: student_logits(batch, base_names).",
        lambda batch: symmetric_kl(teacher_logits[batch], student_logits[batch]),
    ),
    importance=3,
)
