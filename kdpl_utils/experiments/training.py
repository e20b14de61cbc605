"""What makes a run the same run: everything that decides what is learned, and what it is judged by."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..learners import LEARNERS
from ..loading import weights_identity
from ..support.disk import digest
from ..train import Recipe
from ..worlds.world import World

PAPER_MODES = ("labels", "kdpl", "kdpl-ca")
# Besides, what tells a teacher's soft targets from any targets: the student's own confident guesses, the teacher's
# first answer, its answers to other pictures, no answer at all, the student's own; and names that no teacher picked.
CONTROLS = ("pseudo-labels", "hard-teacher", "shuffled-teacher", "uniform-teacher", "self-teacher", "random-names")
# And the objective of PromptKD, for its own student.
MODES = (*PAPER_MODES, *CONTROLS, "promptkd")
WITH_DICTIONARY = ("kdpl-ca", "random-names")
CONFIDENT = 16  # pictures of each name that the student labels itself, as UPL published
K_MAX = 1000  # names kept for a batch, as published; fewer where there are fewer classes
K_UNKNOWN = 100  # … and where nobody knows how many there are


def unsuited(learner: str, mode: str) -> str:
    """Why a learner cannot be trained in a mode, in a sentence; empty where it can."""
    if mode in WITH_DICTIONARY and not LEARNERS[learner].open_vocabulary:
        return (
            f"The learner {learner!r} has a row for each of its classes, so it cannot learn with a dictionary's names "
            "and then name classes: give class names and the mode kdpl, or choose a prompt learner."
        )
    if mode == "promptkd" and learner != "promptkd":
        return f"The mode promptkd is the objective of the learner promptkd, not of {learner!r}: choose the mode kdpl."
    return ""


def check_chosen(mode: str, k: int, labelled: float, pictures: int, dictionary: int) -> None:
    """Refuse numbers that a training could not use, or that its table could not name, before anything runs.

    Args:
        k: names kept for a batch, 0 for the usual number; ``dictionary``: of so many.
        labelled: the share of so many ``pictures`` whose labels are learned from.

    Raises:
        ValueError: says which.
    """
    if mode in WITH_DICTIONARY and dictionary < 2:
        raise ValueError(f"The dictionary has {dictionary} name to choose from: give at least two, better thousands.")
    if mode in WITH_DICTIONARY and k == 1:
        raise ValueError("k is 1: give at least 2 names to choose among for a batch, or 0 for the usual number.")
    if labelled and not round(labelled * pictures):
        raise ValueError(
            f"The share {labelled:g} of {pictures} pictures is none of them: give a larger share of labels."
        )


def _short_digest(*values) -> str:
    """Ten digits, short enough for the name of a folder; the order of dictionaries does not count."""
    return digest(json.dumps(values, sort_keys=True))[:10]


def _file_name(world: str) -> str:
    """The name of a world, which may be a path of any system, as one part of a path on every system."""
    return re.sub(r"[^\w.]+", "-", world).strip("-.")[-80:] or "world"


@dataclass(frozen=True)
class Training:
    """Everything that decides what is learned.

    Attributes:
        world, learner, mode: names, see ``LEARNERS`` and ``MODES``; learner "zero-shot" is not trained.
        data: the digest of the world's training pictures and names (``training_digest``); it changes when they change.
        classes: ``"base"`` or ``"all"``.
        shots: training pictures drawn of each class; 0 takes all pictures, which then need no labels.
        labelled: of the pictures, 0 to 1, those whose labels are learned from too; for mode "kdpl".
        teachers: (name, pretrained) each; of several the probabilities are averaged.
        scale: ``"student"``, as published, or ``"own"``: whose exp(logit_scale) the teachers' logits have.
        k: names kept for a batch without class names; 0 stands for the number of classes, at most 1,000.
        views: crops of each picture, drawn once; 0 takes the pictures as they are.
        precision: of all frozen weights, as in ``load_vlm``.
    """

    world: str
    learner: str
    mode: str
    seed: int
    student: tuple[str, str | None]
    teachers: tuple[tuple[str, str | None], ...]
    recipe: Recipe
    data: str = ""
    classes: str = "base"
    shots: int = 16
    labelled: float = 0.0
    scale: str = "student"
    k: int = 0
    views: int = 0
    precision: str = "fp32"
    settings: dict[str, object] = field(default_factory=dict)

    def folder(self, out: Path) -> Path:
        """Where its prompts and scores lie; files of weights count by what is in them, not by where they are."""
        student, *teachers = ((name, weights_identity(name, file)) for name, file in (self.student, *self.teachers))
        run_digest = _short_digest({**asdict(self), "student": student, "teachers": teachers})
        run_name = f"{self.learner}-{self.mode}-{self.classes}-{self.shots}shots-seed{self.seed}-{run_digest}"
        return out / _file_name(self.world) / run_name


def training_digest(world: World, mode: str) -> str:
    """``Training.data``: changes when the pictures, the names or the sentences change."""
    words = world.dictionary if mode in WITH_DICTIONARY else ()
    return _short_digest(world.train.key, world.classnames, world.templates, words)


@dataclass(frozen=True)
class Evaluation:
    """What a training is judged by.

    Attributes:
        kind: ``"halves"`` (base and novel), ``"domains"`` (the world and its shifts), ``"test"`` (its test pictures),
            or ``"transfer"`` (the same of another world, with that one's classes).
        world: whose pictures.
        data: the digest of its test pictures and names (``evaluation_digest``); it changes when they change.
    """

    kind: str
    world: str
    data: str = ""

    def file(self, job: Training, out: Path) -> Path:
        return job.folder(out) / f"{self.kind}-{_file_name(self.world)}-{self.data}.json"


def evaluation_digest(world: World, kind: str) -> str:
    """``Evaluation.data``: changes when the test pictures, the names or the shifts change."""
    shifts = {} if kind in ("test", "transfer") else {name: split.key for name, split in world.shifts.items()}
    return _short_digest(world.test.key, world.classnames, shifts)
