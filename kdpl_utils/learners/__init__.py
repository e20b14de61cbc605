"""Prompt learners under one protocol, one file each: ``learner(images, classnames)`` → logits.

Another one is one more file with a subclass of ``Learner``.
"""

from ..choices import LEARNERS
from .base import Learner
from .cocoop import CoCoOp
from .coop import CoOp
from .linear import LinearProbe
from .maple import MaPLe
from .promptkd import PromptKD
from .promptsrc import PromptSRC
from .vpt import VPT

__all__ = ["VPT", "CoCoOp", "CoOp", "Learner", "LinearProbe", "MaPLe", "PromptKD", "PromptSRC", "learner_class"]


def learner_class(name: str) -> type[Learner]:
    """The class of a learner by its name on the command line, a key of ``choices.LEARNERS``."""
    return globals()[LEARNERS[name]]
