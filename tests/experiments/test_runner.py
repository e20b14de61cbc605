"""A run's numbers are those of the protocol put together by hand; its files are found, or made again."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.choices import MODES
from kdpl_utils.experiments import runner as module
from kdpl_utils.experiments.controls import pseudo_labels
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.runner import RunConfig, Runner, draw, finished, rotating
from kdpl_utils.experiments.shots import coop_few_shot, random_subset
from kdpl_utils.support.shipped import data_file
from kdpl_utils.train import Recipe
from kdpl_utils.worlds.world import Split

WORLD = "emoji/activities"
SMALL = {"epochs": 2, "lr": 0.05, "shots": [2]}
SEED = 3


def small_world(name=WORLD):
    """All training images, and every tenth test image."""
    world = kd.load_world(name)
    test, *shifts = (split.subset(range(0, len(split), 10)) for split in (world.test, *world.shifts.values()))
    return replace(world, test=test, shifts=dict(zip(world.shifts, shifts)))


def small_runner(out):
    runner = Runner(out, device="cpu")
    runner.world = functools.cache(small_world)
    return runner


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return small_runner(tmp_path_factory.mktemp("runs"))


def run_of(mode, learner="coop", **options):
    return plan("base-to-novel", WORLD, [learner], [mode], [SEED], **{**SMALL, **options})[-1]


def logits_of(vlm, images, names, scale):
    return kd.logits(kd.encode_images(vlm, images), kd.encode_names(vlm, names), scale)


def test_scores_are_those_of_the_protocol(runner):
    """From the same shots and the same loss, put together by hand."""
    config, evaluation = run_of("kdpl", shots=[4])
    found = runner.score(config, evaluation)
    world = small_world()
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    base = world.train.of_classes(world.base)
    train = base.subset(kd.few_shot(base.labels, 4, SEED))
    names = [world.classnames[c] for c in world.base]
    target = logits_of(kd.load_vlm(*world.teacher, device="cpu"), train.images, names, student.scale)
    prompt = kd.PromptLearner(student)
    loss = kd.from_teacher(kd.encode_images(student, train.images), target, names)
    kd.fit(prompt, loss, len(train), Recipe(2, 32, 0.05, seed=SEED), progress=False)
    torch.testing.assert_close(runner.learner(config).prompt.ctx, prompt.ctx, atol=1e-4, rtol=1e-3)
    expected = kd.scores(kd.test_features(student, world), world, prompt, student.scale)
    assert found == pytest.approx(expected, abs=1.1)  # a borderline image may fall either way


class Fixed:
    """A learner whose logits are its inputs times a fixed matrix; it notes the names of each batch."""

    def __init__(self, vlm):
        self.vlm = vlm
        self.weights = torch.randn(128, 1000, generator=torch.Generator().manual_seed(0))
        self.names = []

    def visual_prompts(self):
        return []

    def loss(self, inputs, names, of_logits):
        self.names = list(names)
        return of_logits(inputs @ self.weights[:, : len(names)])


def setting(runner, mode, **fields):
    """A run, its world, its names, its drawn images and its student."""
    config = replace(run_of(mode, "promptkd" if mode == "promptkd" else "coop")[0], **fields)
    world = runner.world(WORLD)
    drawn = draw(world, world.base, config)
    return config, world, [world.classnames[c] for c in world.base], drawn, runner.vlm(config.student, "fp32")


@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_every_mode(mode, runner):
    config, world, names, drawn, student = setting(runner, mode)
    learner = Fixed(student)
    found = runner._loss(config, learner, world, names, drawn)(learner, torch.arange(len(drawn)))
    z = kd.encode_images(student, drawn.images) @ learner.weights[:, : len(names)]
    teacher = kd.load_vlm(*world.teacher, device="cpu")
    if mode in ("kdpl-ca", "random-names"):
        words = logits_of(teacher, drawn.images, world.dictionary, student.scale)
        chosen = [world.dictionary.index(name) for name in learner.names]
        assert (chosen == kd.select_classes(words, len(names)).tolist()) is (mode == "kdpl-ca")
        expected = kd.symmetric_kl(words[:, chosen], z)
    else:
        t = logits_of(teacher, drawn.images, names, student.scale)
        own = logits_of(student, drawn.images, names, student.scale)
        order = torch.randperm(len(t), generator=torch.Generator().manual_seed(SEED))
        by_hand = {
            "labels": lambda: F.cross_entropy(z, drawn.labels),
            "kdpl": lambda: kd.symmetric_kl(t, z),
            "hard-teacher": lambda: F.cross_entropy(z, t.argmax(-1)),
            "shuffled-teacher": lambda: kd.symmetric_kl(t[order], z),
            "uniform-teacher": lambda: kd.symmetric_kl(torch.zeros_like(t), z),
            "self-teacher": lambda: kd.symmetric_kl(own, z),
            "pseudo-labels": lambda: F.cross_entropy(z, pseudo_labels(own, 16), ignore_index=-1),
            "promptkd": lambda: 1000 / len(names) * kd.forward_kl(t, z),
        }
        expected = by_hand[mode]()
        assert learner.names == names
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_some_labels_several_teachers_and_views(runner):
    teachers = kd.load_world(WORLD).teachers[:2]
    fields = {"label_fraction": 0.25, "views": 2, "teachers": teachers, "scale": "own"}
    config, world, names, drawn, student = setting(runner, "kdpl", **fields)
    learner = Fixed(student)
    second = torch.arange(len(drawn), 2 * len(drawn))  # of two views
    found = runner._loss(config, learner, world, names, drawn)(learner, second)
    views = drawn.crops(2, SEED).subset(second)
    z = kd.encode_images(student, views.images) @ learner.weights[:, : len(names)]
    known = torch.zeros(len(drawn), dtype=torch.bool)
    known[random_subset(len(drawn), round(0.25 * len(drawn)), SEED)] = True
    vlms = [kd.load_vlm(*model, device="cpu") for model in teachers]
    target = kd.mix_teachers([logits_of(vlm, views.images, names, vlm.scale) for vlm in vlms])
    expected = kd.symmetric_kl(target, z) + F.cross_entropy(z[known], drawn.labels[known])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_views_take_turns():
    rows = []
    loss = rotating(lambda learner, batch: rows.append(batch.tolist()), 3, 2)
    for batch in ([0, 2], [0, 1], [0]):
        loss(None, torch.tensor(batch))
    assert rows == [[0, 2], [3, 1], [0]]


def test_a_finished_run_is_found_and_a_damaged_one_done_again(runner, monkeypatch, capsys):
    config, evaluation = run_of("labels")
    scores = runner.score(config, evaluation)
    folder = config.folder(runner.out)
    trained = []
    fit = module.fit
    monkeypatch.setattr(module, "fit", lambda *given, **how: trained.append(1) or fit(*given, **how))
    again = small_runner(runner.out)
    assert again.score(config, evaluation) == scores and trained == []
    evaluation.file(config, runner.out).unlink()  # the training counts, and is scored once more
    assert again.score(config, evaluation) == scores and trained == []
    for file in (folder / "learned.safetensors", folder / "training.json", evaluation.file(config, runner.out)):
        file.write_bytes(file.read_bytes()[:50])
        if file.suffix == ".safetensors":
            evaluation.file(config, runner.out).unlink()
        assert again.score(config, evaluation) == scores and f"{file} is damaged" in capsys.readouterr().err
    assert len(trained) == 1 + 1


def test_two_at_once_train_a_run_once(tmp_path, monkeypatch):
    config, evaluation = run_of("labels")
    trained = []
    fit = module.fit
    monkeypatch.setattr(module, "fit", lambda *given, **how: trained.append(1) or fit(*given, **how))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(small_runner(tmp_path).score, config, evaluation) for _ in range(2)]
        assert asked[0].result() == asked[1].result() and trained == [1]
    files = {path.name for path in config.folder(tmp_path).iterdir()}
    assert files == {"learned.safetensors", "training.json", evaluation.file(config, tmp_path).name}


def test_a_run_of_real_size_goes_on_after_a_stop(tmp_path, monkeypatch):
    config, _ = run_of("labels")
    asked = []
    monkeypatch.setattr(module, "fit", lambda *given, resume, **how: asked.append(resume) or kd.History([1.0]))
    small_runner(tmp_path).learner(config)
    monkeypatch.setattr(RunConfig, "is_real_size", True)
    small_runner(tmp_path / "large").learner(config)
    assert asked == [None, config.folder(tmp_path / "large") / "resume.pt"]


@pytest.mark.parametrize("learner, mode", [("linear", "labels"), ("promptkd", "promptkd"), ("maple", "kdpl")])
def test_learners_of_every_kind_are_trained_saved_and_scored(learner, mode, runner, monkeypatch):
    config, evaluation = run_of(mode, learner, epochs=1, shots=[1])
    scores = runner.score(config, evaluation)
    trained = runner.learner(config)
    assert 0 <= scores["base"] <= 100 and (scores["novel"] == scores["novel"]) is (learner != "linear")
    monkeypatch.setattr(module, "fit", lambda *_, **__: pytest.fail("trained again"))
    loaded = runner.learner(config)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), loaded.parameters()))
    assert finished(config, evaluation, runner.out) == pytest.approx(scores, nan_ok=True)


def test_other_tables(runner):
    """Top-1 and calibration; the shifts and their average; another world's classes, which a linear head has not."""
    scores = {}
    for table in ("few-shot", "domain", "cross-dataset"):
        for config, evaluation in plan(table, WORLD, ["linear"], ["labels"], [1], targets=["emoji/objects"], **SMALL):
            scores[table, config.learner] = runner.score(config, evaluation)
    few_shot = scores["few-shot", "zero-shot"]
    assert set(few_shot) == {"top-1", "ECE"} and 0 < few_shot["top-1"] <= 100
    domain = scores["domain", "linear"]
    shifts = [domain[name] for name in small_world().shifts]
    assert domain[f"average of {len(shifts)} shifts"] == pytest.approx(sum(shifts) / len(shifts))
    assert scores["cross-dataset", "zero-shot"]["emoji/objects"] > 0
    assert scores["cross-dataset", "linear"]["emoji/objects"] != scores["cross-dataset", "linear"]["emoji/objects"]


def test_weights_count_by_their_content(tmp_path):
    weights = load_file(data_file("models/emoji-student-vit.safetensors"))
    file = tmp_path / "weights.safetensors"
    save_file(weights, file)
    config = RunConfig("emoji", "coop", "labels", 1, ("emoji-student-vit", str(file)), (), Recipe())
    first = config.folder(tmp_path)
    moved = file.rename(tmp_path / "moved.safetensors")
    assert replace(config, student=("emoji-student-vit", str(moved))).folder(tmp_path) == first
    weights["logit_scale"] += 1
    save_file(weights, file)
    assert config.folder(tmp_path) != first


def test_shots_of_photographs_are_the_published_ones():
    """Drawn from all classes before some are left out, as the published code does; the emoji world draws by itself."""
    labels = torch.arange(8).repeat(5)
    parts = {"train": Split(list(range(40)), labels), "val": Split(list(range(16)), labels[:16])}
    photos = replace(
        kd.load_world(WORLD), classnames=tuple("abcdefgh"), base=range(4), shots_as_published=True, **parts
    )
    config = RunConfig(WORLD, "coop", "labels", SEED, ("emoji-student-vit", None), (), Recipe(), shots=2)
    everything, _ = coop_few_shot(labels, labels[:16], 2, SEED)
    first_half = [i for i in everything.tolist() if labels[i] < 4]
    assert list(draw(photos, range(4), config).images) == first_half
    own = draw(replace(photos, shots_as_published=False), range(4), config)
    assert list(own.images) != first_half and sorted(own.labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(draw(photos, range(4), replace(config, shots=0))) == 20
