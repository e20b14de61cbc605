"""On what terms a row of a table was earned: what its method was shown, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from ..learners import Learner
from ..vlm import Pixels
from ..worlds.emoji import EMOJI_RECIPES, emoji_names
from .training import Evaluation, Training

LEGEND = (
    "inductive: learned from no picture and no name that it is tested on; transductive: from unlabelled pictures and "
    "the names of the data set that it is tested on. labels, drawing: they drew as many pictures of each class, and "
    "taught nothing. seconds: of training. seconds a picture: in use, with the image tower."
)
TIMED = 16  # pictures


def is_transductive(job: Training, evaluation: Evaluation) -> bool:
    """Whether it learned, without labels, from the data set that a transfer is tested on."""
    return evaluation.kind == "transfer" and job.learner != "zero-shot" and job.world == evaluation.world


def labels_used(job: Training) -> str:
    """Which labels taught or drew the pictures of a training."""
    if job.learner == "zero-shot":
        return "none"
    if job.mode == "labels":
        return f"{job.shots} a class" if job.shots else "all"
    if job.labelled:
        return f"{job.labelled:.0%}"
    return "drawing" if job.shots else "none"


def validation_used(job: Training) -> str:
    """What was chosen on pictures left out: the emoji world's learning rates, and nothing of the published recipes."""
    of_emoji = job.world in emoji_names() and job.world.partition("/")[0] == "emoji"  # no folder that is called so
    return "learning rate" if of_emoji and job.learner in EMOJI_RECIPES else "none"


@torch.no_grad()
def seconds_in_use(learner: Learner, classnames: Sequence[str], images: Sequence) -> float:
    """Seconds a picture, from preprocessed pixels to logits; the names are encoded before, as in use."""
    pixels = Pixels(learner.vlm, images)[: min(TIMED, len(images))]
    classify, seconds = learner.classifier(classnames), []
    for _ in range(3):  # the first one warms up
        start = time.perf_counter()
        classify(pixels).cpu()  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return min(seconds) / len(pixels)
