"""Prompt learners under one protocol, one file each: ``learner(images, classnames)`` → logits.

Another one is one more file with a subclass of ``Learner``.
"""

from .base import Learner
from .cocoop import CoCoOp
from .coop import CoOp
from .linear import LinearProbe
from .maple import MaPLe
from .promptkd import PromptKD
from .promptsrc import PromptSRC
from .vpt import VPT

__all__ = ["VPT", "CoCoOp", "CoOp", "Learner", "LinearProbe", "MaPLe", "PromptKD", "PromptSRC"]

# The paper's five, and what a sceptic holds beside them.
PROMPT_LEARNERS = {"coop": CoOp, "cocoop": CoCoOp, "vpt": VPT, "maple": MaPLe, "promptsrc": PromptSRC}
LEARNERS = {**PROMPT_LEARNERS, "linear": LinearProbe, "promptkd": PromptKD}
