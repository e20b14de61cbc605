"""One run of the paper's comparisons: trained once, scored once, found again while its files can be read."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from .. import supervision
from ..choices import WITH_DICTIONARY
from ..clip.models import shipped_models, weights_identity
from ..clip.words import TEMPLATE
from ..distill import mix_teachers
from ..evaluate import accuracy, expected_calibration_error
from ..learners import Learner, learner_class, promptkd
from ..learners.saving import load_learner, save_learner
from ..loading import load_vlm
from ..protocol import all_logits, classifier_scores, few_shot, test_sets
from ..support.disk import as_path, digest, file_lock, read_json, report_damaged, write_json
from ..train import History, Recipe, fit
from ..vlm import VLM, ImageBatches, encode_names, logits
from ..worlds.load import load_world
from ..worlds.world import Split, World
from .cache import FeatureCache
from .controls import from_pseudo_labels, from_random_names
from .shots import coop_few_shot, random_subset

CONFIDENT = 16  # pseudo-labels of each name, as UPL published
K_MAX = 1000  # names kept for a batch, as published; fewer where there are fewer classes
KEPT_BYTES = 2**28  # of preprocessed images in memory, for learners with visual prompts

Model = tuple[str, str | None]  # arguments of load_vlm
Loss = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what is learned; see ``choices`` for the names of learners and modes."""

    world: str
    learner: str  # or "zero-shot", which is not trained
    mode: str
    seed: int
    student: Model
    teachers: tuple[Model, ...]
    recipe: Recipe
    data: str = ""  # digest of the training images and names
    classes: str = "base"  # or "all"
    shots: int = 16  # images of each class; 0 takes all images, which then need no labels
    label_fraction: float = 0.0  # the share of images whose labels the mode "kdpl" learns from as well
    scale: str = "student"  # as published, or "own": whose exp(logit_scale) the teachers' logits have
    k: int = 0  # names kept for a batch without class names; 0 is the number of classes, at most 1,000
    views: int = 0  # crops of each image, drawn once; 0 takes the images as they are
    precision: str = "fp32"
    settings: dict[str, object] = field(default_factory=dict)  # of the learner

    def folder(self, out: Path) -> Path:
        """Where its files lie; weights in a file count by their content, not by their path."""
        models = [(name, weights_identity(name, file)) for name, file in (self.student, *self.teachers)]
        digits = digest(json.dumps({**asdict(self), "student": models, "teachers": ()}, sort_keys=True))[:10]
        run = f"{self.learner}-{self.mode}-{self.classes}-{self.shots}shots-seed{self.seed}-{digits}"
        return out / _file_name(self.world) / run

    @property
    def is_real_size(self) -> bool:
        """Whether it needs a model that does not come with the suite: it may take hours."""
        return any(name not in shipped_models() for name, _ in (self.student, *self.teachers))


@dataclass(frozen=True)
class Evaluation:
    """How a run is tested for a table: on both halves of the classes, the world and its shifts, or one test set."""

    table: str
    world: str
    data: str = ""  # digest of the test images and names

    def file(self, config: RunConfig, out: Path) -> Path:
        return config.folder(out) / f"{self.table}-{_file_name(self.world)}-{self.data}.json"


def _file_name(world: str) -> str:
    """The name of a world, which may be a path, as a part of a path on every system."""
    return re.sub(r"[^\w.]+", "-", world).strip("-.")[-80:] or "world"


def finished(config: RunConfig, evaluation: Evaluation, out: Path) -> dict[str, float] | None:
    """The scores of a run; None unless they and the record of its training are there and can be read."""
    return read_json(config.folder(out) / "training.json") and read_json(evaluation.file(config, out))


class Runner:
    """Trains and scores runs. Worlds and models are loaded once; features are shared with other processes."""

    def __init__(
        self, out: str | Path, root: str | Path | None = None, device: str | None = None, progress: bool = False
    ):
        self.out = as_path(out)
        self.device = device
        self.progress = progress
        self.cache = FeatureCache(self.out / "features", progress)
        self.world = functools.cache(lambda name: load_world(name, root))
        self.vlm = functools.cache(lambda model, precision: load_vlm(*model, device=device, precision=precision))

    def score(self, config: RunConfig, evaluation: Evaluation) -> dict[str, float]:
        """The scores of a run, which is trained first if it is not found."""
        with self._lock(config):
            if not finished(config, evaluation, self.out):
                scores = self._score(self._learner(config), evaluation)
                write_json(evaluation.file(config, self.out), scores)
            return finished(config, evaluation, self.out)

    def learner(self, config: RunConfig) -> Learner:
        """The learner of a run, which is trained first if it is not found."""
        with self._lock(config):
            return self._learner(config)

    def _lock(self, config: RunConfig):
        name = config.folder(self.out).name
        return file_lock(self.out / "locks" / f"{name}.lock", f"training {name}")

    def _learner(self, config: RunConfig) -> Learner:
        folder = config.folder(self.out)
        vlm = self.vlm(config.student, config.precision)
        if read_json(folder / "training.json"):
            if config.learner == "zero-shot":
                return Learner(vlm)
            try:
                return load_learner(folder / "learned.safetensors", vlm, **self._extra(config))
            except (FileNotFoundError, ValueError):
                report_damaged(folder / "learned.safetensors")
        return self._train(config, vlm, folder)

    def _extra(self, config: RunConfig) -> dict[str, VLM]:
        """What a learner needs besides the student, and its file does not hold."""
        is_promptkd = config.learner == "promptkd"
        return {"teacher": self.vlm(config.teachers[0], config.precision)} if is_promptkd else {}

    def _train(self, config: RunConfig, vlm: VLM, folder: Path) -> Learner:
        world = self.world(config.world)
        classes = world.base if config.classes == "base" else range(len(world.classnames))
        names = [world.classnames[c] for c in classes]
        learner = Learner(vlm)
        history = History()
        if config.learner != "zero-shot":
            # The linear head has a row for each class, and nothing random.
            start = {"classnames": names} if config.learner == "linear" else {"seed": config.seed}
            learner = learner_class(config.learner)(vlm, **self._extra(config), **config.settings, **start)
            drawn = draw(world, classes, config)
            loss = rotating(self._loss(config, learner, world, names, drawn), len(drawn), max(1, config.views))
            resume = folder / "resume.pt" if config.is_real_size else None
            history = fit(learner, loss, len(drawn), config.recipe, progress=self.progress, resume=resume)
            save_learner(learner, folder / "learned.safetensors", config.recipe, names)
        seen = world.test if len(world.test) else world.train
        record = {
            **asdict(config),
            "loss": history.loss[-1:],
            "parameters": learner.n_parameters(),
            "seconds": history.seconds,
            "seconds an image": inference_seconds(learner, names, seen.images),
        }
        write_json(folder / "training.json", record)
        return learner

    def _loss(self, config: RunConfig, learner: Learner, world: World, names: Sequence[str], drawn: Split) -> Loss:
        """The loss of a mode over the V views of the n ``drawn`` images; view v of image i is row v·n + i."""
        mode = config.mode
        vlm = learner.vlm
        copies = max(1, config.views)
        views = drawn.crops(config.views, config.seed)
        inputs = self.inputs(learner, views)
        labels = views.labels.to(vlm.device)
        if mode == "labels":
            return supervision.from_labels(inputs, labels, names)
        if mode in ("pseudo-labels", "self-teacher"):
            text = encode_names(vlm, names, world.templates)
            # The views of an image share its logits, so they are chosen together.
            own = logits(self.cache.features(vlm, drawn), text, vlm.scale).repeat(copies, 1)
            if mode == "self-teacher":
                return supervision.from_teacher(inputs, own, names)
            return from_pseudo_labels(inputs, own, names, CONFIDENT * copies)
        if mode in WITH_DICTIONARY:
            words = world.dictionary
            target = self.teacher_logits(config, words, (TEMPLATE,), views)  # as published
            k = min(config.k or min(len(names), K_MAX), len(words))
            if mode == "random-names":
                return from_random_names(inputs, target, words, k, config.seed)
            return supervision.from_dictionary(inputs, target, words, k)
        target = self.teacher_logits(config, names, world.templates, views)
        if mode == "promptkd":
            smaller = promptkd.SMALLER_WEIGHTS if config.classes == "base" else {}  # as published
            return promptkd.from_promptkd(inputs, target, names, smaller.get(config.world, promptkd.WEIGHT))
        if mode == "hard-teacher":
            return supervision.from_labels(inputs, target.argmax(-1), names)
        if mode == "uniform-teacher":
            target = torch.zeros_like(target)
        if mode == "shuffled-teacher":
            target = target[torch.randperm(len(target), generator=torch.Generator().manual_seed(config.seed))]
        if config.label_fraction:
            known = torch.zeros(len(drawn), dtype=torch.bool)
            known[random_subset(len(drawn), round(config.label_fraction * len(drawn)), config.seed)] = True
            return supervision.from_both(inputs, labels, known.repeat(copies).to(vlm.device), target, names)
        return supervision.from_teacher(inputs, target, names)

    def teacher_logits(self, config: RunConfig, names: Sequence[str], templates: Sequence[str], split: Split) -> Tensor:
        """(N, C) logits of the teacher; of several, the logarithm of their mean probabilities."""
        target = []
        for model in config.teachers:
            teacher = load_vlm(*model, self.device, config.precision)  # not kept: it may need most of the memory
            scaled = self.vlm(config.student, config.precision) if config.scale == "student" else teacher
            image_features = self.cache.features(teacher, split)
            target.append(logits(image_features, self.cache.names(teacher, names, templates), scaled.scale))
        return mix_teachers(target) if len(target) > 1 else target[0]

    def inputs(self, learner: Learner, split: Split) -> Tensor | ImageBatches:
        """Cached features; for a learner with visual prompts the images, kept in memory unless there are many."""
        if not learner.visual_prompts():
            return self.cache.features(learner.vlm, split)
        first = ImageBatches(learner.vlm, split.images)[:1]
        return ImageBatches(learner.vlm, split.images, keep=len(split) * first.nbytes <= KEPT_BYTES)

    def _score(self, learner: Learner, evaluation: Evaluation) -> dict[str, float]:
        world = self.world(evaluation.world)
        if evaluation.table == "base-to-novel":
            tests = test_sets(world, learner.vlm.device, lambda split: self.inputs(learner, split))
            return classifier_scores(tests, world, learner.classifier, learner.open_vocabulary)
        if evaluation.table == "cross-dataset" and not learner.open_vocabulary:
            return {world.name: float("nan")}  # another world's classes
        top1, ece = self._top1(learner, world, world.test)
        if evaluation.table == "few-shot":
            return {"top-1": top1, "ECE": ece}
        if evaluation.table == "cross-dataset":
            return {world.name: top1}
        shifts = {name: self._top1(learner, world, split)[0] for name, split in world.shifts.items()}
        return {world.name: top1, **shifts, f"average of {len(shifts)} shifts": mean(shifts.values())}

    @torch.no_grad()
    def _top1(self, learner: Learner, world: World, split: Split) -> tuple[float, float]:
        """Top-1 and ECE, per cent, among the classes that the split has images of (200 in ImageNet-A and -R)."""
        present = split.labels.unique().tolist()
        labels = split.of_classes(present).labels.to(learner.vlm.device)
        z = all_logits(learner.classifier([world.classnames[c] for c in present]), self.inputs(learner, split))
        return 100 * accuracy(z, labels), 100 * expected_calibration_error(z.softmax(-1), labels)


def draw(world: World, classes: range, config: RunConfig) -> Split:
    """The training images of a run: ``shots`` of each class, drawn by the seed; or all."""
    if config.shots and world.shots_as_published:  # from all classes, before some are left out
        chosen, _ = coop_few_shot(world.train.labels, world.val.labels, config.shots, config.seed)
        return world.train.subset(chosen).of_classes(classes)
    if config.shots:
        train = world.train.of_classes(classes)
        return train.subset(few_shot(train.labels, config.shots, config.seed))
    return world.train if len(classes) == len(world.classnames) else world.train.of_classes(classes)


def rotating(loss: Loss, n: int, views: int) -> Loss:
    """A loss over views·n rows as one over n images: the k-th visit of image i takes row (k mod views)·n + i."""
    visits = torch.zeros(n, dtype=torch.long)

    def of_images(learner: nn.Module, batch: Tensor) -> Tensor:
        rows = (visits[batch] % views) * n + batch
        visits[batch] += 1
        return loss(learner, rows)

    return of_images


@torch.no_grad()
def inference_seconds(learner: Learner, classnames: Sequence[str], images: Sequence) -> float:
    """Seconds an image, from preprocessed images to logits; the names are encoded before, as in use."""
    batch = ImageBatches(learner.vlm, images)[:16]
    classify = learner.classifier(classnames)
    seconds = []
    for _ in range(3):  # the first one warms up
        start = time.perf_counter()
        classify(batch).cpu()  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return min(seconds) / len(batch)
