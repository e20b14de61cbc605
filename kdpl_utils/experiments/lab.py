"""One run of the comparison, which can be killed: trained once, scored once, and found again.

A *training* is everything that decides what is learned; its folder below ``out`` is named after that. It holds the
learned prompts, and a file for each evaluation. What is complete is never done again, and nothing counts as complete
that is not whole, so whoever asks again goes on where it was stopped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from .. import supervision
from ..distill import mix_teachers
from ..evaluate import accuracy, expected_calibration_error
from ..learners import LEARNERS, Learner, LinearProbe, PromptKD, promptkd
from ..learners.saving import load_learner, save_learner
from ..loading import load_vlm, weights_identity
from ..protocol import all_logits, classifier_scores, evaluation_inputs, train_learner
from ..shots import coop_few_shot, few_shot, random_subset
from ..support.checkpoint import Checkpoint
from ..support.disk import as_path, checksum, digest, read_json, remove_abandoned, say_damaged, write_json
from ..support.locks import alone, say
from ..vlm import TEMPLATE, VLM, Pixels, Templates, drop_text_tower, encode_images, encode_names, logits
from ..worlds.load import load_world
from ..worlds.world import Split, World
from .cache import STEP, FeatureCache, lazy_rows
from .plan import is_complete
from .terms import seconds_in_use
from .training import CONFIDENT, K_MAX, K_UNKNOWN, WITH_DICTIONARY, Evaluation, Training

KEPT_BYTES = 2**28  # of all preprocessed pictures kept in memory, for learners that look at them again and again


class Lab:
    """Models, worlds and features, each made once: in memory here, features also on disk for the next process."""

    def __init__(
        self,
        out: str | Path,
        root: str | Path | None = None,
        device: str | None = None,
        progress: bool = False,
        report: Callable[[str], None] = say,
    ):
        self.out, self.root, self.device, self.progress, self.report = as_path(out), root, device, progress, report
        remove_abandoned(self.out)
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
        return self._vlm(job.student, job.precision)

    def _vlm(self, model: tuple[str, str | None], precision: str) -> VLM:
        key = (*model, precision)
        if key not in self.vlms:
            self.vlms[key] = load_vlm(*model, self.device, precision)
        return self.vlms[key]

    def learner(self, job: Training) -> Learner:
        """The learned prompts of a training; trained now if they are not there."""
        if job.learner == "zero-shot" or _is_learned(job.folder(self.out)):
            return self._learner(job)
        with self._alone(job):
            return self._learner(job)

    def _learner(self, job: Training) -> Learner:
        """The same where this process alone is at the training: somebody may have been at it until now."""
        vlm, folder = self.student(job), job.folder(self.out)
        if job.learner == "zero-shot":
            return Learner(vlm)
        checkpoint = Checkpoint(folder / "checkpoint.safetensors", key=folder.name, stays=True)
        if not _is_learned(folder):
            self._train(job, vlm, folder, checkpoint)
        checkpoint.remove()  # also one that was left by a process that was killed here
        return load_learner(folder / "learned.safetensors", vlm, **self._besides(job))

    def _besides(self, job: Training) -> dict[str, VLM]:
        """What a learner needs besides the student, and no file of it holds."""
        if LEARNERS[job.learner] is not PromptKD:
            return {}
        if len(job.teachers) > 1:
            raise ValueError("The classes of PromptKD are the text features of one teacher: give it one --teacher.")
        return {"teacher": self._vlm(job.teachers[0], job.precision)}

    def _alone(self, job: Training, wait: bool = True) -> AbstractContextManager[None]:
        name = job.folder(self.out).name
        return alone(self.out / "locks" / f"{name}.lock", f"at {name}", wait, self.report)

    def _train(self, job: Training, vlm: VLM, folder: Path, checkpoint: Checkpoint) -> None:
        world = self.world(job.world)
        classes = world.base if job.classes == "base" else range(len(world.classnames))
        drawn = _drawn(world, classes, job)
        views = drawn.crops(job.views, job.seed)
        learner = self._new_learner(job, vlm, [world.classnames[c] for c in classes])
        supervise = self._supervision(job, vlm, world, classes, views, drawn)
        next_view = NextView(len(drawn), max(1, job.views))
        images = self.inputs(learner, views)
        history = train_learner(
            learner, images, supervise, len(drawn), job.recipe, next_view, self.progress, checkpoint
        )
        learned = save_learner(learner, folder / "learned.safetensors", job.recipe)
        record = {
            **asdict(job),
            "seconds": history.seconds,
            "loss": history.loss[-1],
            "learned": learner.n_learned(),
            "checksum": checksum(learned),
        }
        write_json(folder / "training.json", record)

    def _new_learner(self, job: Training, vlm: VLM, names: Sequence[str]) -> Learner:
        """One that has learned nothing yet; ``names`` are the classes of the training."""
        kind = LEARNERS[job.learner]
        if kind is LinearProbe:  # it has a row for each class, and nothing random
            return kind(vlm, names, **job.settings)
        return kind(vlm, **self._besides(job), **job.settings, seed=job.seed)

    def _supervision(
        self, job: Training, vlm: VLM, world: World, classes: range, views: Split, drawn: Split
    ) -> supervision.Supervision:
        """What supervises; ``views`` are V·n pictures, all first views of the n ``drawn`` before all second ones."""
        names = [world.classnames[c] for c in classes]
        view_labels = views.labels.to(vlm.device)
        if job.mode == "labels":
            return supervision.from_labels(view_labels, names)
        if job.mode in ("pseudo-labels", "self-teacher"):
            text, n_views = encode_names(vlm, names, world.templates), max(1, job.views)
            own = logits(self.cache.features(vlm, drawn), text, vlm.scale)
            # The views of a picture have its logits, so they are chosen together.
            own = own.repeat(n_views, 1)
            if job.mode == "self-teacher":
                return supervision.from_teacher(own, names)
            return supervision.from_pseudo_labels(own, names, CONFIDENT * n_views)
        if job.mode in WITH_DICTIONARY:
            words = list(world.dictionary)
            target = self._target(job, vlm, words, (TEMPLATE,), views)  # as published
            k = min(job.k or min(len(names) or K_UNKNOWN, K_MAX), len(words))
            if job.mode == "random-names":
                return supervision.from_random_names(target, words, k, job.seed)
            return supervision.from_dictionary(target, words, k)
        target = self._target(job, vlm, names, world.templates, views)
        if job.labelled:
            known = _known(len(drawn), job).repeat(max(1, job.views))
            return supervision.from_both(view_labels, known, target, names)
        if job.mode == "hard-teacher":
            return supervision.from_hard_teacher(target, names)
        if job.mode == "shuffled-teacher":
            return supervision.from_shuffled_teacher(target, names, job.seed)
        if job.mode == "uniform-teacher":
            return supervision.from_uniform_teacher(target, names)
        if job.mode == "promptkd":
            return promptkd.from_promptkd(target, names, _promptkd_weight(job))
        return supervision.from_teacher(target, names)

    def _target(self, job: Training, vlm: VLM, names: Sequence[str], templates: Templates, pictures: Split) -> Tensor:
        """(pictures, names) logits of the teacher, or the logarithm of several teachers' mean probabilities."""
        logits_per_teacher = [
            self.teacher_logits(job, vlm, teacher, names, templates, pictures) for teacher in job.teachers
        ]
        return mix_teachers(logits_per_teacher) if len(logits_per_teacher) > 1 else logits_per_teacher[0]

    def teacher_logits(
        self,
        job: Training,
        vlm: VLM,
        teacher: tuple[str, str | None],
        names: Sequence[str],
        templates: Templates,
        pictures: Split,
    ) -> Tensor:
        """(pictures, names) logits; the teacher is in memory only while it encodes what is not on disk yet."""
        identity = (teacher[0], weights_identity(*teacher), job.precision)

        @functools.cache
        def load_teacher() -> VLM:
            return load_vlm(*teacher, self.device, job.precision)

        def cached(key: str, n: int, make: Callable[[Sequence[int]], Tensor], *how: object) -> Tensor:
            return self.cache.tensor((*identity, key) if key else None, n, make, *how).to(vlm.device)

        def encode_rows_of_names(rows: Sequence[int]) -> Tensor:
            return encode_names(load_teacher(), [names[i] for i in rows], templates)

        def encode_rows_of_pictures(rows: Sequence[int]) -> Tensor:
            return encode_images(load_teacher(), lazy_rows(pictures.images, rows))

        sentences = dict(templates) if isinstance(templates, Mapping) else list(templates)
        names_digest = digest(list(names), sentences)
        text_features = cached(f"names {names_digest}", len(names), encode_rows_of_names)
        if load_teacher.cache_info().currsize:  # it had to be loaded; a gigabyte of it has done its work
            drop_text_tower(load_teacher())
        image_features = cached(pictures.key, len(pictures), encode_rows_of_pictures, STEP, pictures.contents)
        own_scale = cached("scale", 1, lambda _: load_teacher().scale[None])[0]
        return logits(image_features, text_features, vlm.scale if job.scale == "student" else own_scale)

    def score(self, job: Training, evaluation: Evaluation, wait: bool = True) -> dict[str, float]:
        """The scores of a training by one evaluation; from its file where they are there.

        Args:
            wait: for another process that is at this training; else ``Busy`` is raised.
        """
        path = evaluation.file(job, self.out)
        if not is_complete(job, evaluation, self.out):
            with self._alone(job, wait):
                if not is_complete(job, evaluation, self.out):  # not done while this process waited
                    learner = self._learner(job)
                    self._note_use(job, learner)
                    write_json(path, self._score(learner, evaluation))
        return read_json(path)

    def _note_use(self, job: Training, learner: Learner) -> None:
        """How long a picture takes in use, measured once for each training."""
        path, world = job.folder(self.out) / "use.json", self.world(job.world)
        if read_json(path) is None and len(world.test):
            classes = world.base if job.classes == "base" else range(len(world.classnames))
            names = [world.classnames[c] for c in classes]
            write_json(path, {"seconds a picture": seconds_in_use(learner, names, world.test.images)})

    def _score(self, learner: Learner, evaluation: Evaluation) -> dict[str, float]:
        world = self.world(evaluation.world)
        if evaluation.kind == "halves":
            tests = evaluation_inputs(world, learner.vlm.device, lambda split: self.inputs(learner, split))
            return classifier_scores(tests, world, learner.classifier, learner.open_vocabulary)
        if evaluation.kind == "transfer" and not learner.open_vocabulary:
            return {world.name: float("nan")}  # another world's classes
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
        z = all_logits(classify, self.inputs(learner, split))
        return 100 * accuracy(z, labels), 100 * expected_calibration_error(z.softmax(-1), labels)

    def inputs(self, learner: Learner, pictures: Split) -> Tensor | Pixels:
        """Features that are cached, or for a learner that changes the image tower the pictures themselves."""
        vlm = learner.vlm
        if not learner.tokens():
            return self.cache.features(vlm, pictures)
        place = (*vlm.identity, pictures.key)
        if place in self.pixels:
            return self.pixels[place]
        passing = Pixels(vlm, pictures.images)
        size = len(pictures) * passing[:1].nbytes
        if not pictures.key or self.kept_bytes + size > KEPT_BYTES:
            return passing
        self.kept_bytes += size
        self.pixels[place] = Pixels(vlm, pictures.images, keep=True)
        return self.pixels[place]


def _is_learned(folder: Path) -> bool:
    """Whether a training is complete; one whose files are damaged or missing is not."""
    record, learned = read_json(folder / "training.json"), folder / "learned.safetensors"
    if record is None or not learned.is_file():
        return False
    if record.get("checksum") in (None, checksum(learned)):  # earlier versions noted none
        return True
    say_damaged(learned)
    return False


def _drawn(world: World, classes: range, job: Training) -> Split:
    """The pictures of a training: so many of each class, drawn by the seed; or all.

    Of photographs the very ones that the published code draws from the same lists, before classes are left out.
    """
    if job.shots and world.shots_as_published:
        chosen, _ = coop_few_shot(world.train.labels, world.val.labels, job.shots, job.seed)
        return world.train.subset(chosen).of_classes(classes)
    if job.shots:
        train = world.train.of_classes(classes)
        return train.subset(few_shot(train.labels, job.shots, job.seed))
    everything = (world.train.labels < 0).any() or len(classes) == len(world.classnames)
    return world.train if everything else world.train.of_classes(classes)


def _promptkd_weight(job: Training) -> float:
    """As published: smaller for three data sets, where the classes are halved."""
    return promptkd.SMALLER_WEIGHTS.get(job.world, promptkd.WEIGHT) if job.classes == "base" else promptkd.WEIGHT


def _known(n: int, job: Training) -> Tensor:
    """(n,) of booleans: whose labels a training with ``labelled`` may see, drawn by its seed from all of them."""
    known = torch.zeros(n, dtype=torch.bool)
    known[random_subset(n, round(job.labelled * n), job.seed)] = True
    return known


class NextView:
    """Which of a picture's V pre-drawn views comes next: picture n's k-th visit takes view k mod V, row v·N + n."""

    def __init__(self, n: int, views: int):
        self.n, self.views, self.visits = n, views, torch.zeros(n, dtype=torch.long)

    def __call__(self, batch: Tensor) -> Tensor:
        rows = (self.visits[batch] % self.views) * self.n + batch
        self.visits[batch] += 1
        return rows
