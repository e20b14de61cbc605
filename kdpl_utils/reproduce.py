"""The paper's comparisons as runs that can be killed: each is trained once, scored once, and found again.

A *training* is everything that decides what is learned; its folder below ``out`` is named after that. It holds the
learned prompts, and a file of scores for each test. What is complete is never done again, and nothing counts as
complete that is not whole, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from .cache import FeatureCache
from .checkpoints import load_learner, save_learner
from .data import Split, World, coop_few_shot, few_shot, load_world, of_classes, random_crops, random_subset
from .distill import mix_teachers
from .evaluate import accuracy, expected_calibration_error
from .files import write_whole
from .learners import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptSRC, promptsrc
from .protocol import (
    Task,
    Tests,
    classifier_scores,
    from_dictionary,
    from_labels,
    from_teacher,
    paper_tables,
    summarise,
)
from .train import Recipe, fit
from .vlm import VLM, Pixels, encode_names, load_vlm, logits, preprocess

LEARNERS = {"coop": CoOp, "cocoop": CoCoOp, "vpt": VPT, "maple": MaPLe, "promptsrc": PromptSRC}
MODES = ("labels", "kdpl", "kdpl-ca")
TABLES = ("base-to-novel", "domain", "cross-dataset", "few-shot")
K_MAX = 1000  # names kept for a batch, as published; fewer where there are fewer classes
K_UNKNOWN = 100  # … and where nobody knows how many there are
KEPT_BYTES = 2**28  # of preprocessed pictures kept in memory, for the learners that look at them again and again
VIEWS = 8  # crops of each photograph, drawn once so that every model sees them once

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


@dataclass(frozen=True)
class Training:
    """Everything that decides what is learned.

    Attributes:
        world, learner, mode: names, see ``LEARNERS`` and ``MODES``; learner "zero-shot" is not trained.
        classes: ``"base"`` or ``"all"``.
        shots: training pictures drawn of each class; 0 takes all pictures, which then need no labels.
        teachers: (name, pretrained) each; of several the probabilities are averaged.
        scale: ``"student"``, as published, or ``"own"``: whose exp(logit_scale) the teachers' logits have.
        k: names kept for a batch without class names; 0 stands for the number of classes, at most 1,000.
        views: crops of each picture, drawn once; 0 takes the pictures as they are.
    """

    world: str
    learner: str
    mode: str
    seed: int
    student: tuple[str, str | None]
    teachers: tuple[tuple[str, str | None], ...]
    recipe: Recipe
    classes: str = "base"
    shots: int = 16
    scale: str = "student"
    k: int = 0
    views: int = 0
    settings: dict[str, object] = field(default_factory=dict)

    def folder(self, out: Path) -> Path:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]
        name = f"{self.learner}-{self.mode}-{self.classes}-{self.shots}shots-seed{self.seed}-{digest}"
        return out / self.world.replace("/", "-") / name


# --- what a command asks for ---------------------------------------------------------------------------------------


def plan(
    table: str,
    world: str,
    learners: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int] = (16,),
    targets: Sequence[str] = (),
    root: str | Path | None = None,
    **options,
) -> list[tuple[Training, str]]:
    """The (training, test) pairs of a table, the zero-shot student first.

    Args:
        table: one of ``TABLES``. ``base-to-novel`` trains on half of the classes; ``domain`` and ``cross-dataset``
            on all, and test on the world's shifts, or on the test pictures of ``targets``; ``few-shot`` on its own.
        options: fields of ``Training``, or of its recipe, that differ from the published ones.
    """
    for what, given, known in (("table", [table], TABLES), ("learner", learners, LEARNERS), ("mode", modes, MODES)):
        if wrong := [g for g in given if g not in known]:
            raise ValueError(f"There is no {what} {wrong[0]!r}: choose from {', '.join(known)}.")
    if table == "cross-dataset" and not targets:
        raise ValueError("A cross-dataset table needs targets: the names of the worlds to test on.")
    tests = {"base-to-novel": ("halves",), "domain": ("domains",), "few-shot": ("test",)}.get(
        table, tuple(f"test of {target}" for target in targets)
    )
    classes = "base" if table == "base-to-novel" else "all"
    home = load_world(world, root)
    chosen = [("zero-shot", "labels", 0, 16)]
    sizes = shots if table == "few-shot" else shots[:1]
    chosen += [(learner, mode, seed, n) for learner in learners for mode in modes for n in sizes for seed in seeds]
    return [
        (_training(home, world, classes, *one, transfers=classes == "all", **options), test)
        for one in chosen
        for test in tests
    ]


def _training(
    home: World, world: str, classes: str, learner: str, mode: str, seed: int, shots: int, transfers: bool, **options
) -> Training:
    emoji = _is_emoji(home)
    recipe = Recipe() if learner == "zero-shot" else LEARNERS[learner].recipe
    settings = {}
    if learner == "promptsrc" and transfers and not emoji:
        recipe, settings = promptsrc.CROSS_DATASET["recipe"], promptsrc.CROSS_DATASET["settings"]
    if learner != "zero-shot" and emoji:
        recipe = emoji_recipe(learner, recipe)
    of_recipe = {key: options.pop(key) for key in ("epochs", "batch_size", "lr") if options.get(key) is not None}
    options = {key: value for key, value in options.items() if value is not None}
    if learner != "zero-shot":
        recipe = replace(recipe, **of_recipe, seed=seed)
    made = {
        "student": tuple(home.student if not emoji else home.students[-1]),  # a ViT: all five learners need one
        "teachers": (tuple(home.teacher),),
        "views": 0 if emoji else VIEWS,
        "settings": settings,
        **options,
    }
    if learner == "zero-shot":  # depends on nothing that is learned
        made.update(teachers=(), views=0, settings={}, k=0)
    return Training(world, learner, mode, seed, recipe=recipe, classes=classes, shots=shots, **made)


# --- doing it --------------------------------------------------------------------------------------------------------


class Lab:
    """Models, worlds and features, each made once: in memory here, features also on disk for the next process."""

    def __init__(
        self, out: str | Path, root: str | Path | None = None, device: str | None = None, progress: bool = False
    ):
        self.out, self.root, self.device, self.progress = Path(out), root, device, progress
        self.cache = FeatureCache(self.out / "features")
        self.vlms: dict[tuple, VLM] = {}
        self.worlds: dict[str, World] = {}
        self.pixels: dict[tuple[str, str], Pixels] = {}

    def world(self, name: str) -> World:
        if name not in self.worlds:
            self.worlds[name] = load_world(name, self.root)
        return self.worlds[name]

    def student(self, name: str, pretrained: str | None) -> VLM:
        if (name, pretrained) not in self.vlms:
            self.vlms[name, pretrained] = load_vlm(name, pretrained, self.device)
        return self.vlms[name, pretrained]

    def learner(self, job: Training) -> Learner:
        """The learned prompts of a training; trained now if they are not there."""
        vlm, folder = self.student(*job.student), job.folder(self.out)
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
        key = shots.key and f"{shots.key}/{job.views} views/seed {job.seed}"
        labels = shots.labels.to(vlm.device).repeat(views)
        learner = LEARNERS[job.learner](vlm, **job.settings, seed=job.seed)
        inputs = self.inputs(learner, images, key)
        task = self._task(job, vlm, world, classes, images, key, labels)
        view = ViewOf(n, views)

        def loss(batch: Tensor) -> Tensor:
            rows = view(batch)
            return learner.loss(inputs[rows], *task(rows))

        history = fit(learner, loss, n, job.recipe, progress=self.progress)
        save_learner(learner, folder / "learned.safetensors", job.recipe)
        told = {**asdict(job), "seconds": history.seconds, "loss": history.loss[-1], "learned": learner.n_learned()}
        _write_json(folder / "training.json", told)

    def _task(
        self, job: Training, vlm: VLM, world: World, classes: range, images: Sequence, key: str, labels: Tensor
    ) -> Task:
        names = [world.classnames[c] for c in classes]
        if job.mode == "labels":
            return from_labels(labels, names)
        agnostic = job.mode == "kdpl-ca"
        words = list(world.dictionary) if agnostic else names
        templates = ("a photo of a {}.",) if agnostic else world.templates  # as published
        seen = [self._teacher_logits(job, vlm, pair, words, templates, images, key) for pair in job.teachers]
        target = seen[0] if len(seen) == 1 else mix_teachers(seen)
        k = min(job.k or min(len(names) or K_UNKNOWN, K_MAX), len(words))
        return from_dictionary(target, words, k) if agnostic else from_teacher(target, names)

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
            found[:] = found or [load_vlm(*pair, self.device)]
            return found[0]

        def of_model(what: str, rows: int, make: Callable[[], Tensor]) -> Tensor:
            return self.cache.tensor((pair[0], pair[1] or "", what) if what else None, rows, make)

        spelt = hashlib.sha256(repr((list(words), list(templates))).encode()).hexdigest()
        text = of_model(f"names {spelt}", len(words), lambda: encode_names(teacher(), words, templates))
        seen = of_model(key, len(images), lambda: self.cache.features(teacher(), images, ""))
        own = of_model("scale", 1, lambda: teacher().scale[None])
        scale = vlm.scale if job.scale == "student" else own[0].to(vlm.device)
        return logits(seen.to(vlm.device), text.to(vlm.device), scale)

    def score(self, job: Training, test: str) -> dict[str, float]:
        """The scores of a training on one test; from its file where they are there."""
        path = job.folder(self.out) / f"{test.replace('/', '-').replace(' ', '-')}.json"
        if not path.is_file():
            _write_json(path, self._score(self.learner(job), test, self.world(job.world)))
        return json.loads(path.read_text(encoding="utf-8"))

    def _score(self, learner: Learner, test: str, world: World) -> dict[str, float]:
        if test == "halves":
            return classifier_scores(self._halves(learner, world), world, learner.classifier)
        if test.startswith("test of "):
            target = self.world(test.removeprefix("test of "))
            return {target.name: self._top1(learner, target.classnames, target.test)[0]}
        top1, ece = self._top1(learner, world.classnames, world.test)
        if test == "test":
            return {"top-1": top1, "ECE": ece}
        shifts = {name: self._top1(learner, world.classnames, split)[0] for name, split in world.shifts.items()}
        return {world.name: top1, **shifts, "average of shifts": mean(shifts.values()) if shifts else float("nan")}

    @torch.no_grad()
    def _top1(self, learner: Learner, classnames: Sequence[str], split) -> tuple[float, float]:
        """Top-1 and ECE, per cent, among the classes that the split has pictures of (200 in ImageNet-A and -R)."""
        present = split.labels.unique().tolist()
        labels = torch.tensor([present.index(y) for y in split.labels.tolist()], device=learner.vlm.device)
        classify = learner.classifier([classnames[c] for c in present])
        inputs = self.inputs(learner, split.images, split.key)
        z = self.all_logits(classify, inputs, len(labels))
        return 100 * accuracy(z, labels), 100 * expected_calibration_error(z.softmax(-1), labels)

    @staticmethod
    @torch.no_grad()
    def all_logits(classify: Callable[[Tensor], Tensor], inputs: Tensor | Pixels, n: int) -> Tensor:
        """(n, C), a batch at a time."""
        return torch.cat([classify(inputs[i : i + 256]) for i in range(0, n, 256)])

    def _halves(self, learner: Learner, world: World) -> Tests:
        def halves(split):
            parts = [of_classes(split, half) for half in (world.base, world.novel)]
            return tuple(
                (self.inputs(learner, part.images, part.key), part.labels.to(learner.vlm.device)) for part in parts
            )

        base, novel = halves(world.test)
        return Tests(base, novel, {name: halves(split) for name, split in world.shifts.items()})

    def inputs(self, learner: Learner, images: Sequence, key: str) -> Tensor | Pixels:
        """Features that are cached, or for a learner that changes the image tower the pictures themselves."""
        vlm = learner.vlm
        if not learner.tokens():
            return self.cache.features(vlm, images, key)
        size = len(images) * preprocess(vlm, [images[0]])[0].nbytes
        if not key or size > KEPT_BYTES:
            return Pixels(vlm, images)
        return self.pixels.setdefault((vlm.name, key), Pixels(vlm, images, keep=True))


def _drawn(world: World, classes: range, job: Training) -> Split:
    """The pictures of a training: so many of each class; or all, in an order drawn by the seed.

    Of photographs the very ones that the published code draws from the same lists, before classes are left out.
    """
    if job.shots and not _is_emoji(world):
        chosen, _ = coop_few_shot(world.train.labels, world.val.labels, job.shots, job.seed)
        return of_classes(world.train.subset(chosen), classes)
    if job.shots:
        train = of_classes(world.train, classes)
        return train.subset(few_shot(train.labels, job.shots, job.seed))
    train = world.train if (world.train.labels < 0).any() else of_classes(world.train, classes)
    return train.subset(random_subset(len(train), len(train), job.seed))


def _is_emoji(world: World) -> bool:
    return world.name.startswith("emoji")


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


def is_complete(job: Training, test: str, out: Path) -> bool:
    return (job.folder(out) / f"{test.replace('/', '-').replace(' ', '-')}.json").is_file()


# --- many of them, side by side -------------------------------------------------------------------------------------


def run(
    pairs: Sequence[tuple[Training, str]],
    out: str | Path,
    root: str | Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Do what is not complete yet, each training with all its tests in one process.

    Args:
        workers: processes side by side; by default one for each GPU, or else for each two cores up to four.
        cluster: ``"slurm"`` sends each training to a Slurm cluster through submitit (``"local"``: to this machine),
            where ``workers`` is the most that run at once; ``out`` must lie on a disk that all of them see.
        report: gets a line for each training that is complete.
    """
    out, units = Path(out), {}
    for job, test in pairs:
        if not is_complete(job, test, out):
            units.setdefault(json.dumps(asdict(job), sort_keys=True), (job, []))[1].append(test)
    todo = list(units.values())
    report(f"{len(todo)} of {len({json.dumps(asdict(j), sort_keys=True) for j, _ in pairs})} runs are to be done.")
    if not todo:
        return
    start = time.perf_counter()
    for done, name in enumerate(_results(todo, out, root, workers, cluster), start=1):
        left = (time.perf_counter() - start) / done * (len(todo) - done)
        report(f"{done} of {len(todo)}: {name}; about {left / 60:.0f} min left")


def _results(todo: list, out: Path, root, workers: int | None, cluster: str | None) -> Iterator[str]:
    """The names of runs as they become complete."""
    gpus = torch.cuda.device_count()
    workers = min(len(todo), workers or gpus or min(4, max(1, (os.cpu_count() or 1) // 2)))
    if cluster is not None:
        yield from _on_cluster(todo, out, root, workers, cluster)
    elif workers == 1:
        lab = Lab(out, root)
        for job, tests in todo:
            yield _unit(job, tests, lab)
    else:
        context = multiprocessing.get_context("spawn")
        places = context.Queue()
        for i in range(workers):
            places.put((f"cuda:{i % gpus}" if gpus else None, max(1, (os.cpu_count() or 1) // workers)))
        with ProcessPoolExecutor(workers, context, _take_place, (places, out, root)) as pool:
            for future in as_completed([pool.submit(_here, job, tests) for job, tests in todo]):
                yield future.result()


def _unit(job: Training, tests: Sequence[str], lab: Lab) -> str:
    for test in tests:
        lab.score(job, test)
    return job.folder(lab.out).name


_lab: Lab | None = None  # of a worker process: its models and worlds serve all its runs


def _take_place(places, out: Path, root) -> None:
    global _lab
    device, threads = places.get()
    torch.set_num_threads(threads)  # more threads than cores make all of them slower
    _lab = Lab(out, root, device)


def _here(job: Training, tests: Sequence[str]) -> str:
    return _unit(job, tests, _lab)


def _on_cluster(todo: list, out: Path, root, workers: int, cluster: str) -> Iterator[str]:
    import submitit

    executor = submitit.AutoExecutor(folder=out / "cluster", cluster=cluster)
    executor.update_parameters(timeout_min=24 * 60, cpus_per_task=4)
    if cluster == "slurm":
        executor.update_parameters(slurm_array_parallelism=workers, gpus_per_node=int(torch.cuda.is_available()))
    jobs = [executor.submit(_elsewhere, job, tests, out, root) for job, tests in todo]
    for job in submitit.helpers.as_completed(jobs, poll_frequency=2):
        yield job.result()


def _elsewhere(job: Training, tests: Sequence[str], out: Path, root) -> str:
    return _unit(job, tests, Lab(out, root))


# --- the table -----------------------------------------------------------------------------------------------------


def table_rows(pairs: Sequence[tuple[Training, str]], out: str | Path) -> list[dict[str, str]]:
    """One row for each method, mode and number of shots: mean ± sd over the seeds that are complete, and how many."""
    out, groups = Path(out), {}
    for job, test in pairs:
        name = "zero-shot" if job.learner == "zero-shot" else LEARNERS[job.learner].__name__
        key = (name, "" if job.learner == "zero-shot" else job.mode, job.shots)
        if is_complete(job, test, out):
            lab = Lab(out)
            groups.setdefault(key, {}).setdefault(job.seed, {}).update(lab.score(job, test))
            trained = job.folder(out) / "training.json"
            seconds = json.loads(trained.read_text())["seconds"] if trained.is_file() else 0.0
            groups[key][job.seed]["seconds"] = seconds
    tests = len({test for _, test in pairs})
    rows = []
    for (name, mode, shots), seeds in groups.items():
        whole = [row for row in seeds.values() if len(row) == max(map(len, seeds.values()))]
        if tests > 1:  # cross-dataset: one column a target, then their average
            whole = [{**row, "average": mean(v for c, v in row.items() if c != "seconds")} for row in whole]
        numbers = summarise([{c: row[c] for c in (*(c for c in row if c != "seconds"), "seconds")} for row in whole])
        rows.append({"method": name, "supervision": mode, "shots": str(shots), "seeds": str(len(whole)), **numbers})
    return rows


def paper_rows(table: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The published tables of that kind, for real CLIP: (title, rows) each; none of the few-shot kind was found."""
    paper = paper_tables()
    if table == "domain":
        kind = paper["domain_generalization"]
        titles = {f"16-shot ImageNet, {model}": rows for model, rows in kind.items() if model != "columns"}
    elif table == "cross-dataset":
        kind = paper["cross_dataset_RN50_CoOp"]
        titles = {"16-shot ImageNet to ten data sets, RN50, CoOp": {k: v for k, v in kind.items() if k != "note"}}
        titles = {t: {k: v for k, v in rows.items() if k != "columns"} for t, rows in titles.items()}
    elif table == "base-to-novel":
        kind = paper["unseen_class_average"]
        titles = {"novel classes, average of the data sets": {k: v for k, v in kind.items() if k != "columns"}}
    else:
        return []
    return [
        (title, [{"method": m, **{c: f"{v:.2f}" for c, v in zip(kind["columns"], row)}} for m, row in rows.items()])
        for title, rows in titles.items()
    ]
