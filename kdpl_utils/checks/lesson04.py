"""Lesson 04: the KL as a loss, and a loss without the museum's four bugs."""

import torch
from torch.nn import functional as F

from ..distill import forward_kl as right_kl
from ..distill import reverse_kl
from .engine import Exercise
from .outcomes import draw


def terms(teacher_logits, student_logits):
    """(B, C): t (log t − log s), without detaching anything."""
    t, s = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
    return t.exp() * (t - s)


def without_log(teacher_logits, student_logits):
    """kl_div gets the student's probabilities where it wants their logarithms."""
    return F.kl_div(student_logits.softmax(-1), teacher_logits.softmax(-1), reduction="batchmean")


def naive(teacher_logits, student_logits):
    t, s = teacher_logits.softmax(-1), student_logits.softmax(-1)
    return (t * (t.log() - s.log())).sum(-1).mean()


forward_kl = Exercise(
    "forward_kl",
    right_kl,
    lambda: [
        (2 * draw(0, 4, 3), draw(1, 4, 3).requires_grad_()),
        (torch.tensor([[300.0, 0.0, 1.0], [0.0, 250.0, 0.0]]), (150 * draw(4, 2, 3)).requires_grad_()),
    ],
    {
        "arguments swapped": reverse_kl,
        "mean also over classes": lambda t, s: terms(t, s).mean(),
        "softmax for log-softmax": without_log,
        "NaN from 0 · log 0": naive,
        "cross-entropy": lambda t, s: F.cross_entropy(s, t.softmax(-1)),
    },
)

# Published bugs of the museum: teacher's logits (N, C) of all pictures, student's of a batch (B, C), batch (B,) → loss.
BUGS = {
    "batches in another order": lambda teacher, student, batch: right_kl(teacher[: len(batch)], student),
    "roles swapped": lambda teacher, student, batch: right_kl(student, teacher[batch]),
    "softmax for log-softmax": lambda teacher, student, batch: without_log(teacher[batch].detach(), student),
    "teacher compared with itself": lambda teacher, student, batch: right_kl(teacher[batch], teacher[batch]),
}

mended = Exercise(
    "mended",
    lambda teacher, student, batch: right_kl(teacher[batch], student),
    lambda: [((2 * draw(0, 6, 3)).requires_grad_(), draw(1, 2, 3).requires_grad_(), torch.tensor([4, 1]))],
    {
        **BUGS,
        "gradient into the teacher": lambda teacher, student, batch: terms(teacher[batch], student).sum(-1).mean(),
    },
)
