"""Lesson 05: KDPL's loss, which reads the notebook's variables."""

import torch
from torch import nn
from torch.nn import functional as F

import kdpl_utils as kd

from .engine import Exercise
from .outcomes import draw

# The notebook's variables. The check binds them to data of its own, and the library's version to the notebook's.
teacher_logits = features = base_names = labels = scale = teacher_scale = None
NAMES = ["pear", "apple", "fig", "date"]


class Unreadable:
    """Labels that raise when they are read: KDPL needs none."""

    def __getitem__(self, batch):
        raise LookupError("labels were read")


def variables():
    names = {"teacher_logits": (2 * draw(1, 8, 4)).requires_grad_(), "features": kd.vlm.unit(draw(2, 8, 6))}
    return {**names, "base_names": NAMES, "labels": Unreadable(), "scale": 10.0, "teacher_scale": 25.0}


class Prompt(nn.Embedding):
    """A prompt that is a table, with a row to be learned for each name."""

    def forward(self, names):
        return self.weight[[NAMES.index(name) for name in names]]


def right_kdpl(prompt, batch):
    return kd.symmetric_kl(teacher_logits[batch], kd.logits(features[batch], prompt(base_names), scale))


def into_the_teacher(prompt, batch):
    t = teacher_logits[batch].log_softmax(-1)
    s = kd.logits(features[batch], prompt(base_names), scale).log_softmax(-1)
    return ((t.exp() - s.exp()) * (t - s)).sum(-1).mean() / 2


kdpl = Exercise(
    "kdpl",
    right_kdpl,
    lambda: [(Prompt.from_pretrained(draw(0, 4, 6), freeze=False), torch.tensor([5, 2, 7]))],
    {
        "gradient into the teacher": into_the_teacher,
        "labels touched": lambda prompt, batch: F.cross_entropy(
            kd.logits(features[batch], prompt(base_names), scale), labels[batch]
        ),
        "class order": lambda prompt, batch: kd.symmetric_kl(
            teacher_logits[batch], kd.logits(features[batch], prompt(sorted(base_names)), scale)
        ),
        "teacher's scale": lambda prompt, batch: kd.symmetric_kl(
            teacher_logits[batch] * (teacher_scale / scale), kd.logits(features[batch], prompt(base_names), scale)
        ),
    },
    variables=variables,
)
