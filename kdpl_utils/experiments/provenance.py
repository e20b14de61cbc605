"""What a row of a table rests on: its protocol, the labels it used, what was chosen on validation images."""

from __future__ import annotations

from ..choices import LEARNERS
from ..worlds.emoji import EMOJI_RECIPES, emoji_names
from .runner import Evaluation, RunConfig

LEGEND = (
    "inductive: learned from no image and no name of the test data; transductive: from unlabelled images and the names "
    "of the data set that it is tested on. labels: those learned from; drawing: labels only drew the same number of "
    "images of each class. seconds: training time. seconds an image: inference time, image tower included."
)


def provenance(config: RunConfig, evaluation: Evaluation) -> dict[str, str]:
    """The columns that tell a row from others: method, supervision and shots, then what it rests on."""
    if config.learner == "zero-shot":
        same = {"method": "zero-shot", "supervision": "", "shots": "", "protocol": "inductive"}
        return {**same, "labels": "none", "validation": "none"}
    fraction = f"{config.label_fraction:.0%}" if config.label_fraction else ""
    labels = "drawing" if config.shots else "none"
    if config.mode == "labels":
        labels = f"{config.shots} a class" if config.shots else "all"
    tuned = config.world in emoji_names() and config.learner in EMOJI_RECIPES
    return {
        "method": LEARNERS[config.learner],
        "supervision": config.mode + (f" + {fraction} labels" if fraction else ""),
        "shots": str(config.shots or "all"),
        "protocol": "transductive"
        if evaluation.table == "cross-dataset" and config.world == evaluation.world
        else "inductive",
        "labels": fraction or labels,
        "validation": "learning rate" if tuned else "none",
    }
