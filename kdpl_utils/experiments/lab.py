"""One run of the comparison, which can be killed: trained once, scored once, and found again.

A *training* is everything that decides what is learned; its folder below ``out`` is named after that. It holds the
learned prompts, and a file for each evaluation. What is complete is never done again, and nothing counts as complete
that is not whole, so whoever asks again goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from ..distill import mix_teachers
from ..evaluate import accuracy, expected_calibration_error
from ..learners import LEARNERS, Learner
from ..learners.saving import load_learner, save_learner
from ..loading import load_vlm, weights_identity
from ..protocol import all_logits, classifier_scores, tests_of
from ..shots import coop_few_shot, few_shot, random_subset
from ..supervision import Task, from_both, from_dictionary, from_labels, from_teacher
from ..support.disk import write_whole
from ..train import Recipe, fit
from ..vlm import TEMPLATE, VLM, Pixels, drop_text_tower, encode_images, encode_names, logits
from ..worlds.load import load_world
from ..worlds.world import Split, World, of_classes, random_crops
from .cache import FeatureCache, some
from .training import K_MAX, K_UNKNOWN, Evaluation, Training

KEPT_BYTES = 2**28  # of all preprocessed pictures kept in memory, for learners that look at them again and again

# Where the emoji world departs from the published recipes: fewer and larger steps for two CPU cores, and the learning
# rate that was best for labels on base pictures left out of the shots (benchmarks/learners.py --choose prints them).
EMOJI_RECIPES = {
    "coop": {"epochs": 10, "lr": 0.05},
    "cocoop": {"epochs": 8, "batch_size": 8, "lr": 0.2},
    "vpt": {"epochs": 5, "batch_size": 8, "lr": 0.0125},
    "maple": {"epochs": 5, "batch_size": 8, "lr": 0.05},
    "promptsrc": {"epochs": 20, "batch_size": 16, "lr": 0.003},
}


def emoji_recipe(learner: str, published: Recipe) -> Recipe:
    """The recipe for the models that come with the suite."""
    return replace(published, **EMOJI_RECIPES[learner])


def is_emoji(world: World) -> bool:
    return world.name.startswith("emoji")


class Lab:
    """Models, worlds and features, each made once: in memory here, features also on disk for the next process."""

    def __init__(
        self, out: str | Path, root: str | Path | None = None, device: str | None = None, progress: bool = False
    ):
        self.out, self.root, self.device, self.progress = Path(out), root, device, progress
        self.cache = FeatureCache(self.out / "features")
        self.vlms: dict[tuple, VLM] = {}
        self.worlds: dict[str, World] = {}
        self.pixels: dict[tuple, Pixels] = {}
        self.kept_bytes = 0  # what all of ``pixels`` may come to hold

    def world(self, name: str) -> World:
        if name not in self.worlds:
            self.worlds[name] = load_world(name, self.root)
        return self.worlds[name]

    def student(self, job: Training) -> VLM:
        key = (*job.student, job.precision)
        if key not in self.vlms:
            self.vlms[key] = load_vlm(*job.student, self.device, job.precision)
        return self.vlms[key]

    def learner(self, job: Training) -> Learner:
        """The learned prompts of a training; trained now if they are not there."""
        vlm, folder = self.student(job), job.folder(self.out)
        if job.learner == "zero-shot":
            return Learner(vlm)
        if not (folder / "training.json").is_file():
            self._train(job, vlm, folder)
        return load_learner(folder / "learned.safetensors", vlm)

    def _train(self, job: Training, vlm: VLM, folder: Path) -> None:
        world = self.world(job.world)
        classes = world.base if job.classes == "base" else range(len(world.classnames))
        shots = _drawn(world, classes, job)
        views, n = max(1, job.views), len(shots)
        images = random_crops(shots.images, views, job.seed) if job.views else shots.images
        key = f"{shots.key}/{views} views/seed {job.seed}" if shots.key and job.views else shots.key
        learner = LEARNERS[job.learner](vlm, **job.settings, seed=job.seed)
        inputs = self.inputs(learner, images, key)
        task = self._task(job, vlm, world, classes, images, key, shots.labels)
        view = ViewOf(n, views)

        def fetch(batch: Tensor) -> tuple[Tensor, Tensor]:
            rows = view(batch)
            return rows, inputs[rows]

        def loss(fetched: tuple[Tensor, Tensor]) -> Tensor:
            rows, pictures = fetched
            return learner.loss(pictures, *task(rows))

        history = fit(learner, loss, n, job.recipe, progress=self.progress, fetch=fetch)
        save_learner(learner, folder / "learned.safetensors", job.recipe)
        told = {**asdict(job), "seconds": history.seconds, "loss": history.loss[-1], "learned": learner.n_learned()}
        _write_json(folder / "training.json", told)

    def _task(
        self, job: Training, vlm: VLM, world: World, classes: range, images: Sequence, key: str, labels: Tensor
    ) -> Task:
        """What supervises; ``labels`` (n,) of the pictures, of which ``images`` (V·n) are views, one after another."""
        names = [world.classnames[c] for c in classes]
        every = labels.repeat(max(1, job.views)).to(vlm.device)
        if job.mode == "labels":
            return from_labels(every, names)
        agnostic = job.mode == "kdpl-ca"
        words = list(world.dictionary) if agnostic else names
        templates = (TEMPLATE,) if agnostic else world.templates  # as published
        seen = [self._teacher_logits(job, vlm, pair, words, templates, images, key) for pair in job.teachers]
        target = seen[0] if len(seen) == 1 else mix_teachers(seen)
        if agnostic:
            k = min(job.k or min(len(names) or K_UNKNOWN, K_MAX), len(words))
            return from_dictionary(target, words, k)
        if job.labelled:
            return from_both(every, _known(labels, job).repeat(max(1, job.views)), target, names)
        return from_teacher(target, names)

    def _teacher_logits(
        self,
        job: Training,
        vlm: VLM,
        pair: tuple[str, str | None],
        words: Sequence[str],
        templates: Sequence[str],
        images: Sequence,
        key: str,
    ) -> Tensor:
        """(V·n, words) logits; the teacher is in memory only while it encodes what is not on disk yet."""
        found: list[VLM] = []

        def teacher() -> VLM:
            found[:] = found or [load_vlm(*pair, self.device, job.precision)]
            return found[0]

        def kept(what: str, n: int, make: Callable[[range], Tensor]) -> Tensor:
            identity = (pair[0], weights_identity(*pair), job.precision)
            return self.cache.tensor((*identity, what) if what else None, n, make).to(vlm.device)

        def text_features(rows: range) -> Tensor:
            return encode_names(teacher(), [words[i] for i in rows], templates)

        spelt = hashlib.sha256(repr((list(words), list(templates))).encode()).hexdigest()
        text = kept(f"names {spelt}", len(words), text_features)
        for loaded in found:
            drop_text_tower(loaded)
        seen = kept(key, len(images), lambda rows: encode_images(teacher(), some(images, rows)))
        own = kept("scale", 1, lambda _: teacher().scale[None])
        return logits(seen, text, vlm.scale if job.scale == "student" else own[0])

    def score(self, job: Training, evaluation: Evaluation) -> dict[str, float]:
        """The scores of a training by one evaluation; from its file where they are there."""
        path = evaluation.file(job, self.out)
        if not path.is_file():
            _write_json(path, self._score(self.learner(job), evaluation))
        return json.loads(path.read_text(encoding="utf-8"))

    def _score(self, learner: Learner, evaluation: Evaluation) -> dict[str, float]:
        world = self.world(evaluation.world)
        if evaluation.kind == "halves":
            tests = tests_of(world, learner.vlm.device, lambda split: self.inputs(learner, split.images, split.key))
            return classifier_scores(tests, world, learner.classifier)
        top1, ece = self._top1(learner, world.classnames, world.test)
        if evaluation.kind == "test":
            return {"top-1": top1, "ECE": ece}
        if evaluation.kind == "transfer":
            return {world.name: top1}
        shifts = {name: self._top1(learner, world.classnames, split)[0] for name, split in world.shifts.items()}
        return {world.name: top1, **shifts, "average of shifts": mean(shifts.values()) if shifts else float("nan")}

    @torch.no_grad()
    def _top1(self, learner: Learner, classnames: Sequence[str], split) -> tuple[float, float]:
        """Top-1 and ECE, per cent, among the classes that the split has pictures of (200 in ImageNet-A and -R)."""
        present = split.labels.unique().tolist()
        labels = torch.tensor([present.index(y) for y in split.labels.tolist()], device=learner.vlm.device)
        classify = learner.classifier([classnames[c] for c in present])
        z = all_logits(classify, self.inputs(learner, split.images, split.key))
        return 100 * accuracy(z, labels), 100 * expected_calibration_error(z.softmax(-1), labels)

    def inputs(self, learner: Learner, images: Sequence, key: str) -> Tensor | Pixels:
        """Features that are cached, or for a learner that changes the image tower the pictures themselves."""
        vlm = learner.vlm
        if not learner.tokens():
            return self.cache.features(vlm, images, key)
        if not key:
            return Pixels(vlm, images)
        place = (*vlm.identity, key)
        if place not in self.pixels:
            size = len(images) * Pixels(vlm, images)[:1].nbytes
            if self.kept_bytes + size > KEPT_BYTES:
                return Pixels(vlm, images)
            self.kept_bytes += size
            self.pixels[place] = Pixels(vlm, images, keep=True)
        return self.pixels[place]


def _drawn(world: World, classes: range, job: Training) -> Split:
    """The pictures of a training: so many of each class, drawn by the seed; or all.

    Of photographs the very ones that the published code draws from the same lists, before classes are left out.
    """
    if job.shots and not is_emoji(world):
        chosen, _ = coop_few_shot(world.train.labels, world.val.labels, job.shots, job.seed)
        return of_classes(world.train.subset(chosen), classes)
    if job.shots:
        train = of_classes(world.train, classes)
        return train.subset(few_shot(train.labels, job.shots, job.seed))
    everything = (world.train.labels < 0).any() or len(classes) == len(world.classnames)
    return world.train if everything else of_classes(world.train, classes)


def _known(labels: Tensor, job: Training) -> Tensor:
    """(n,) of booleans: whose labels a training with ``labelled`` may see, drawn by its seed from all of them."""
    known = torch.zeros(len(labels), dtype=torch.bool)
    known[random_subset(len(labels), round(job.labelled * len(labels)), job.seed)] = True
    return known


class ViewOf:
    """Which of a picture's V pre-drawn views comes next: picture n's k-th visit takes view k mod V, row v·N + n."""

    def __init__(self, n: int, views: int):
        self.n, self.views, self.visits = n, views, torch.zeros(n, dtype=torch.long)

    def __call__(self, batch: Tensor) -> Tensor:
        rows = (self.visits[batch] % self.views) * self.n + batch
        self.visits[batch] += 1
        return rows


def _write_json(path: Path, value: dict) -> None:
    write_whole(path, lambda part: part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))
