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
    row = {"method": "zero-shot", "supervision": "", "shots": ""}
    rests_on = {"protocol": "inductive", "labels": "none", "validation": "none"}
    if config.learner == "zero-shot":
        return row | rests_on
    row = {"method": LEARNERS[config.learner], "supervision": config.mode, "shots": str(config.shots or "all")}
    if config.label_fraction:
        rests_on["labels"] = f"{config.label_fraction:.0%}"
        row["supervision"] += f" + {config.label_fraction:.0%} labels"
    elif config.shots or config.mode == "labels":
        rests_on["labels"] = f"{config.shots} a class" if config.mode == "labels" else "drawing"
    if config.mode == "promptkd" and evaluation.table == "cross-dataset" and config.world == evaluation.world:
        rests_on["protocol"] = "transductive"
    has_val = config.world in emoji_names() and config.world.partition("/")[0] == "emoji"
    if has_val and config.learner in EMOJI_RECIPES:
        rests_on["validation"] = "learning rate"
    return row | rests_on
