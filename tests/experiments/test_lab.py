"""A run's numbers are those of the protocol put together by hand; other data or another model is another run."""

import os
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import kdpl_utils as kd
from kdpl_utils.experiments import lab as lab_module
from kdpl_utils.experiments.lab import Lab, NextView
from kdpl_utils.experiments.plan import plan
from kdpl_utils.experiments.training import Evaluation, Training, evaluation_digest, training_digest, unsuited
from kdpl_utils.learners import VPT, CoOp
from kdpl_utils.support import checkpoint as checkpoint_module
from kdpl_utils.support.shipped import data_file
from kdpl_utils.train import Recipe

WORLD = "emoji/activities"
SMALL = {"epochs": 2, "lr": 0.05}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("runs"), device="cpu")


def target_of(lab, job):
    """The names and the loss of the run's first four pictures, for a student that answers zero."""
    world = lab.world(job.world)
    train = kd.of_classes(world.train, world.base)
    supervision = lab._supervision(job, lab.student(job), world, world.base, train, train)
    names, loss = supervision(torch.arange(4))
    return names, loss(torch.zeros(4, len(names))).item()


def test_scores_are_those_of_the_protocol(lab):
    """The run's numbers, from the same shots and the same loss put together by hand."""
    ((_, _), (job, test)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [3], **SMALL)
    found = lab.score(job, test)
    world, student = kd.load_world(WORLD), kd.load_vlm("emoji-student-vit", device="cpu")
    teacher = kd.load_vlm(*world.teacher, device="cpu")
    train, names = kd.of_classes(world.train, world.base), [world.classnames[i] for i in world.base]
    features = kd.encode_images(student, train.images)
    target = kd.logits(
        kd.encode_images(teacher, train.images), kd.encode_names(teacher, names, world.templates), student.scale
    )
    prompt, _ = kd.learn(
        student,
        lambda p, b: kd.symmetric_kl(target[b], kd.logits(features[b], p(names), student.scale)),
        train.labels,
        3,
        Recipe(2, 32, 0.05),
    )
    expected = kd.scores(kd.test_features(student, world), world, prompt, student.scale)
    assert found == pytest.approx(expected, abs=0.2)  # a borderline picture may fall either way
    torch.testing.assert_close(lab.learner(job).prompt.ctx, prompt.ctx, atol=1e-4, rtol=1e-3)


def test_class_agnostic_never_sees_the_class_names(lab, monkeypatch):
    ((_, _), (job, _)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl-ca"], [1], **SMALL)
    world, seen = lab.world(WORLD), set()
    plain = CoOp.text
    monkeypatch.setattr(CoOp, "text", lambda self, names: seen.update(names) or plain(self, names))
    lab.learner(job)
    assert seen <= set(world.dictionary) and len(seen) >= len(world.base)


def test_several_teachers_are_averaged(lab):
    teachers = (("emoji-teacher-small", None), ("emoji-teacher-large", None))
    ((_, _), (both, _)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [1], teachers=teachers, **SMALL)
    names, mixed = target_of(lab, both)
    assert names == [lab.world(WORLD).classnames[i] for i in lab.world(WORLD).base]
    alone = [target_of(lab, replace(both, teachers=(teacher,)))[1] for teacher in teachers]
    assert len({round(value, 6) for value in (mixed, *alone)}) == 3


def test_views_go_round():
    view = NextView(3, 2)
    rows = [view(torch.tensor([0, 2])).tolist(), view(torch.tensor([0, 1])).tolist(), view(torch.tensor([0])).tolist()]
    assert rows == [[0, 2], [3, 1], [0]]


def test_some_labels_are_learned_from_as_well(lab):
    """All of them add the whole cross-entropy, none adds nothing, half of them lie in between."""
    ((_, _), (job, _)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [1], **SMALL)
    (names, none), (_, half), (_, every) = (target_of(lab, replace(job, labelled=f)) for f in (0.0, 0.5, 1.0))
    assert every - none == pytest.approx(torch.tensor(len(names)).log().item(), abs=1e-5)  # of a uniform student
    seen = half - none
    assert seen == pytest.approx(0) or seen == pytest.approx(every - none, abs=1e-5)  # a mean over the known ones
    known, others = (lab_module._known(40, replace(job, labelled=0.25, seed=seed)) for seed in (1, 2))
    assert known.sum() == others.sum() == 10 and not torch.equal(known, others)


def test_controls_have_targets_of_their_own(lab, monkeypatch):
    """The teacher's first answers, and the student's own, each from the logits of the right model."""
    pairs = plan("base-to-novel", WORLD, ["coop"], ["hard-teacher", "pseudo-labels"], [1], **SMALL)
    (hard, _), (own, _) = pairs[1:]
    given = {}
    for name in ("from_hard_teacher", "from_pseudo_labels"):
        plain = getattr(kd.supervision, name)
        seen = lambda z, names, *k, name=name, plain=plain: given.update({name: (z, *k)}) or plain(z, names, *k)  # noqa: E731
        monkeypatch.setattr(kd.supervision, name, seen)
    names, _ = target_of(lab, hard)
    target_of(lab, own)
    world, student = lab.world(WORLD), lab.student(own)
    train = kd.of_classes(world.train, world.base)
    expected = kd.logits(kd.encode_images(student, train.images), kd.encode_names(student, names), student.scale)
    torch.testing.assert_close(given["from_pseudo_labels"][0], expected, atol=1e-3, rtol=1e-3)
    assert given["from_pseudo_labels"][1] == 16
    teacher = lab.teacher_logits(hard, student, hard.teachers[0], names, world.templates, train)
    assert torch.equal(given["from_hard_teacher"][0], teacher)


def test_controls_take_the_teacher_away(lab, monkeypatch):
    """Other pictures' answers, none, the student's own, and names that nobody picked: each reaches its supervision."""
    modes = ["shuffled-teacher", "uniform-teacher", "self-teacher", "random-names"]
    shuffled, uniform, own, random_names = (
        job for job, _ in plan("base-to-novel", WORLD, ["coop"], modes, [3], **SMALL)[1:]
    )
    given = {}
    for name in ("from_shuffled_teacher", "from_uniform_teacher", "from_teacher", "from_random_names"):
        monkeypatch.setattr(kd.supervision, name, lambda *what, name=name: given.update({name: what}))
    world, student = lab.world(WORLD), lab.student(own)
    train = kd.of_classes(world.train, world.base)
    for job in (shuffled, uniform, own, random_names):
        lab._supervision(job, student, world, world.base, train, train)
    names = [world.classnames[c] for c in world.base]
    teacher = lab.teacher_logits(uniform, student, uniform.teachers[0], names, world.templates, train)
    assert torch.equal(given["from_shuffled_teacher"][0], teacher) and given["from_shuffled_teacher"][2] == 3
    assert torch.equal(given["from_uniform_teacher"][0], teacher)
    expected = kd.logits(kd.encode_images(student, train.images), kd.encode_names(student, names), student.scale)
    torch.testing.assert_close(given["from_teacher"][0], expected, atol=1e-3, rtol=1e-3)
    target, words, k, seed = given["from_random_names"]
    assert target.shape == (len(train), len(words)) and words == list(world.dictionary) and (k, seed) == (len(names), 3)


def test_random_names_are_of_the_dictionary_as_the_picked_ones_are():
    """So a number of names counts, another dictionary is another run, and a linear head is refused."""
    world = kd.load_world(WORLD)
    other = replace(world, dictionary=world.dictionary[:-1])
    for mode, depends in (("kdpl-ca", True), ("random-names", True), ("shuffled-teacher", False)):
        (_, (job, _)) = plan("base-to-novel", WORLD, ["coop"], [mode], [1], k=5)
        assert job.k == (5 if depends else 0)
        assert (training_digest(world, mode) != training_digest(other, mode)) is depends
        assert bool(unsuited("linear", mode)) is depends


def test_half_precision_is_another_run_with_float32_prompts(lab):
    ((_, _), (job, evaluation)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [1], precision="bf16", **SMALL)
    full = replace(job, precision="fp32")
    assert job.folder(lab.out) != full.folder(lab.out)
    assert lab.student(job).dtype is torch.bfloat16 and lab.student(full).dtype is torch.float32
    learned = lab.learner(job)
    assert all(p.dtype is torch.float32 for p in learned.parameters() if p.requires_grad)
    assert lab.score(job, evaluation)["base"] == pytest.approx(lab.score(full, evaluation)["base"], abs=6)
    kept = {load_file(path)["features"].dtype for path in (lab.out / "features").glob("*.safetensors")}
    assert kept == {torch.float32}


def test_the_teachers_text_tower_is_dropped(lab, monkeypatch):
    dropped = []
    drop = lambda vlm: dropped.append(vlm.name) or kd.vlm.drop_text_tower(vlm)  # noqa: E731
    monkeypatch.setattr(lab_module, "drop_text_tower", drop)
    teachers = (("emoji-teacher-medium", None),)
    ((_, _), (job, _)) = plan("base-to-novel", WORLD, ["coop"], ["kdpl"], [5], teachers=teachers, **SMALL)
    before = target_of(lab, job)
    assert dropped == ["emoji-teacher-medium"]
    assert target_of(lab, job) == before and len(dropped) == 1  # from the disk, without the teacher


def test_other_weights_in_the_same_file_are_another_run(tmp_path):
    weights, file = load_file(data_file("models/emoji-student-vit.safetensors")), tmp_path / "weights.safetensors"
    save_file(weights, file)
    student = ("emoji-student-vit", str(file))
    job = Training("emoji", "coop", "labels", 1, student, (), Recipe())
    first, features = job.folder(tmp_path), Lab(tmp_path).student(job).identity
    moved = file.rename(tmp_path / "moved.safetensors")
    assert replace(job, student=("emoji-student-vit", str(moved))).folder(tmp_path) == first
    weights["logit_scale"] += 1
    save_file(weights, file)
    assert job.folder(tmp_path) != first and Lab(tmp_path).student(job).identity != features


@pytest.mark.filterwarnings("ignore:.*no subfolders train and test")
def test_other_pictures_or_names_are_another_run(tmp_path):
    for name in ("oak", "ash"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / name / f"{i}.png")

    def world(names=None):
        return kd.folder_world(tmp_path, names, dictionary=["tree", "leaf"])

    plain = world()
    assert (
        training_digest(plain, "kdpl")
        == training_digest(world(), "kdpl")
        == training_digest(world(["ash", "oak"]), "kdpl")
    )
    assert training_digest(plain, "kdpl") != training_digest(world(["an ash", "an oak"]), "kdpl")
    other = replace(plain, dictionary=("bark",))
    assert training_digest(other, "kdpl") == training_digest(plain, "kdpl")
    assert training_digest(other, "kdpl-ca") != training_digest(plain, "kdpl-ca")
    shifted = replace(plain, shifts={"winter": plain.test})
    assert evaluation_digest(shifted, "domains") != evaluation_digest(plain, "domains")  # a data set that came later
    assert evaluation_digest(shifted, "test") == evaluation_digest(plain, "test")
    assert training_digest(shifted, "kdpl") == training_digest(plain, "kdpl")
    for picture in (tmp_path / "oak").iterdir():
        Image.new("RGB", (8, 8), "white").save(picture)
        os.utime(picture, (0, 0))  # however soon after
    assert training_digest(world(), "kdpl") != training_digest(plain, "kdpl")


def test_an_evaluation_has_a_file_of_its_own(tmp_path):
    job = Training("emoji", "coop", "labels", 1, ("emoji-student-vit", None), (), Recipe())
    files = {Evaluation(kind, world, data).file(job, tmp_path)
             for kind in ("halves", "test") for world in ("emoji", "emoji/objects") for data in ("a", "b")}  # fmt: skip
    assert len(files) == 8 and {file.parent for file in files} == {job.folder(tmp_path)}


def test_kept_pictures_are_bounded_together(lab, monkeypatch):
    """Two lists that fit one by one but not together: the second is not kept."""
    learner = VPT(lab.student(plan("base-to-novel", WORLD, ["vpt"], ["labels"], [1])[1][0]))
    parts = [lab.world(WORLD).train.subset(range(start, start + 4)) for start in (0, 4)]
    one = lab.inputs(learner, replace(parts[0], key=""))[:].nbytes
    monkeypatch.setattr(lab_module, "KEPT_BYTES", lab.kept_bytes + 1.5 * one)
    first, second = (lab.inputs(learner, part) for part in parts)
    assert first.kept is not None and second.kept is None
    assert lab.inputs(learner, parts[0]) is first


def test_a_killed_run_ends_with_the_same_bits_and_leaves_no_state(tmp_path, monkeypatch):
    """Interrupted in the middle of an epoch; which view of a picture comes next is counted over all of them."""
    options = {"epochs": 3, "views": 2, "batch_size": 4, "shots": [1]}
    ((_, _), (job, _)) = plan("base-to-novel", WORLD, ["coop"], ["labels"], [1], **options)
    calm = Lab(tmp_path / "calm", device="cpu").learner(job)
    monkeypatch.setattr(checkpoint_module, "KEEP_SECONDS", 0.0)
    steps, plain = [], CoOp.loss

    def stop_once(self, *arguments):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    monkeypatch.setattr(CoOp, "loss", stop_once)
    with pytest.raises(KeyboardInterrupt):
        Lab(tmp_path / "killed", device="cpu").learner(job)
    resumed = Lab(tmp_path / "killed", device="cpu").learner(job)
    assert all(torch.equal(a, b) for a, b in zip(calm.parameters(), resumed.parameters()))
    n_drawn = len(kd.of_classes(kd.load_world(WORLD).train, kd.load_world(WORLD).base).labels.unique())
    assert len(steps) == 1 + 3 * (n_drawn // 4)  # the step it was stopped in, and each step once
    names = [path.name for path in job.folder(tmp_path / "killed").iterdir()]
    assert sorted(names) == ["learned.safetensors", "training.json"]


def test_shots_of_photographs_are_the_published_ones():
    """Drawn from all classes before some are left out, as the published code does; the emoji world draws by itself."""
    labels = torch.arange(8).repeat(5)
    emoji = kd.load_world(WORLD)
    train = kd.Split(list(range(40)), labels)
    photos = replace(
        emoji, train=train, val=kd.Split(list(range(16)), labels[:16]), classnames=tuple("abcdefgh"), base=range(4)
    )
    job = Training(WORLD, "coop", "labels", 3, ("emoji-student-vit", None), (), Recipe(), shots=2)
    published = replace(photos, shots_as_published=True)
    everything, _ = kd.coop_few_shot(labels, labels[:16], 2, 3)
    first_half = [i for i in everything if labels[i] < 4]
    drawn = lab_module._drawn(published, range(4), job)
    assert list(drawn.images) == first_half and drawn.labels.tolist() == [int(labels[i]) for i in first_half]
    own = lab_module._drawn(replace(photos, shots_as_published=False), range(4), job)
    assert list(own.images) != first_half and sorted(own.labels.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(lab_module._drawn(published, range(4), replace(job, shots=0)).labels) == 20
