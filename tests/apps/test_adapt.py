"""From a folder to prompts, a classifier and a card that says what was measured, through the command itself."""

import json
import re
import shutil
import tarfile
from dataclasses import replace

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.apps import adapt as adapt_module
from kdpl_utils.apps.adapt import adapt_folder
from kdpl_utils.apps.card import model_card
from kdpl_utils.apps.cli import main
from kdpl_utils.experiments import lab
from kdpl_utils.experiments.training import Training, unsuited
from kdpl_utils.learners.classifier import load_classifier, model_of
from kdpl_utils.learners.saving import load_learner
from kdpl_utils.vlm import Pixels

MODELS = {"student": ("emoji-student-vit", None), "teacher": ("emoji-teacher-large", None)}
OPTIONS = ["--student", "emoji-student-vit", "--teacher", "emoji-teacher-large", "--epochs", "3"]


@pytest.fixture(scope="module")
def world():
    return kd.load_world("emoji/activities")


@pytest.fixture(scope="module")
def labelled(world, tmp_path_factory):
    """Ten pictures of each of four classes, in subfolders."""
    folder = tmp_path_factory.mktemp("labelled")
    for i in range(4):
        (folder / world.classnames[i]).mkdir()
        for n, row in enumerate((world.test.labels == i).nonzero().flatten()[:10].tolist()):
            world.test.images[row].save(folder / world.classnames[i] / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(labelled, tmp_path_factory):
    """The same pictures in one heap."""
    folder = tmp_path_factory.mktemp("heap")
    for i, path in enumerate(sorted(labelled.rglob("*.png"))):
        (folder / f"{i}.png").write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("balloon\nChristmas tree\nsoccer ball\ntrophy\npaint\n")
    return path


@pytest.mark.filterwarnings("ignore:.*no subfolders train and test")
def test_a_labelled_folder_is_scored(labelled, words, world, tmp_path, monkeypatch):
    given = {}  # pictures of a class are drawn together, which few pictures do not show in the interval
    plain = adapt_module.paired_bootstrap
    monkeypatch.setattr(adapt_module, "paired_bootstrap", lambda *hits, **how: given.update(how) or plain(*hits, **how))
    made = adapt_folder(labelled, tmp_path, epochs=3, dictionary=words, onnx=True, **MODELS)
    assert set(made.files) == {"learned", "classifier", "onnx", "card"}
    student = kd.load_vlm(*model_of(made.files["classifier"]), device="cpu")
    classifier = load_classifier(made.files["classifier"], student)
    own = kd.folder_world(labelled, dictionary=words)
    right = classifier(Pixels(student, own.test.images)[:]).argmax(1) == own.test.labels
    assert made.measured["test accuracy, learned"] == pytest.approx(100 * right.double().mean().item())
    card = made.files["card"].read_text()
    assert f"test accuracy, learned: {made.measured['test accuracy, learned']:.1f} %" in card
    assert "no label was used" in card and "20 training and 12 labelled test pictures" in card
    assert "12 test pictures are few" in card
    before = kd.Learner(student)(Pixels(student, own.test.images)[:], own.classnames).argmax(1) == own.test.labels
    _, low, high = kd.paired_bootstrap(100.0 * before, 100.0 * right, groups=own.test.labels)
    assert f"interval over classes {low:+.1f} to {high:+.1f}" in card, "the same as in lesson 11"
    assert torch.equal(given["groups"], own.test.labels)


def test_onnx_gives_the_same_logits(labelled, words, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from kdpl_utils.learners import CoOp, MaPLe
    from kdpl_utils.learners.classifier import classifier_of, export_onnx

    world = kd.load_world("emoji/activities")
    for name, kind in (("emoji-student-rn", CoOp), ("emoji-student-vit", MaPLe)):
        vlm = kd.load_vlm(name, device="cpu")
        classifier = classifier_of(kind(vlm), ["balloon", "trophy"])
        path, pixels = export_onnx(classifier, tmp_path / f"{name}.onnx"), Pixels(vlm, world.test.images)[:5]
        (found,) = runtime.InferenceSession(str(path)).run(None, {"images": pixels.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), classifier(pixels), atol=1e-4, rtol=1e-4)
        told = {p.key: p.value for p in onnx.load(path).metadata_props}
        assert json.loads(told["classnames"]) == ["balloon", "trophy"] and "Normalize" in told["preprocess"]
    half = classifier_of(MaPLe(kd.load_vlm("emoji-student-vit", device="cpu", precision="bf16")), ["balloon", "trophy"])
    path = export_onnx(half, tmp_path / "half.onnx")
    (found,) = runtime.InferenceSession(str(path)).run(None, {"images": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), half(pixels.bfloat16()), atol=0.5, rtol=0)


def test_names_alone_are_enough(pictures, words, tmp_path, capsys):
    names = ["Christmas tree", "balloon", "trophy"]
    command = ["adapt", str(pictures), "--out", str(tmp_path), "--dictionary", str(words), *OPTIONS]
    assert main([*command, "--names", *names]) == 0
    printed = capsys.readouterr().out
    assert "agreement with the teacher, after" in printed and "test accuracy" not in printed
    some = sorted(pictures.glob("*.png"))[:2]
    assert main(["predict", str(tmp_path / "classifier.safetensors"), *map(str, some), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(sum(n in line for n in names) == 2 and "%" in line for line in lines)


def test_neither_names_nor_labels(pictures, words, tmp_path):
    made = adapt_folder(pictures, tmp_path, epochs=2, dictionary=words, k=3, **MODELS)
    assert set(made.files) == {"learned", "card"} and made.measured == {}
    assert "none; the teacher picked from a dictionary" in made.files["card"].read_text()
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    learned = load_learner(made.files["learned"], student)
    assert not torch.equal(learned.prompt.ctx, kd.PromptLearner(student).ctx)


@pytest.fixture
def trained(monkeypatch):
    """A line for each training that was really done."""
    lines, plain = [], lab.train_learner

    def train_learner(*arguments):
        lines.append(1)
        return plain(*arguments)

    monkeypatch.setattr(lab, "train_learner", train_learner)
    return lines


def test_asked_again_only_what_changed_is_done_again(pictures, words, tmp_path, trained):
    folder, names = tmp_path / "mine", ["Christmas tree", "balloon", "trophy"]
    shutil.copytree(pictures, folder)

    def adapt(classnames):
        return adapt_folder(folder, tmp_path / "o", classnames, epochs=2, dictionary=words, **MODELS).learner

    first, again = adapt(names), adapt(names)
    assert torch.equal(first.prompt.ctx, again.prompt.ctx) and len(trained) == 1
    assert not torch.equal(adapt(["Christmas tree", "paint"]).prompt.ctx, first.prompt.ctx) and len(trained) == 2
    for i, path in enumerate(sorted(folder.glob("*.png"))):
        shutil.copy(path, folder / f"more{i}.png")
    assert not torch.equal(adapt(names).prompt.ctx, first.prompt.ctx) and len(trained) == 3


@pytest.mark.filterwarnings("ignore:.*no subfolders train and test")
def test_some_of_the_labels_help(labelled, words, tmp_path, trained):
    kept = [adapt_folder(labelled, tmp_path, labels=share, epochs=2, dictionary=words, **MODELS) for share in (0, 0.5)]
    assert len(trained) == 2 and not torch.equal(*(made.learner.prompt.ctx for made in kept))
    assert "50% of the labels were used" in kept[1].files["card"].read_text()


def test_half_precision(pictures, words, tmp_path):
    options = {"epochs": 1, "dictionary": words, **MODELS}
    kept = [
        adapt_folder(pictures, tmp_path / p, ["balloon", "trophy"], precision=p, **options) for p in ("fp32", "bf16")
    ]
    assert [made.learner.vlm.dtype for made in kept] == [torch.float32, torch.bfloat16]
    assert kept[1].learner.prompt.ctx.dtype is torch.float32 and set(kept[1].files) == set(kept[0].files)


def test_shards_need_no_unpacking(pictures, words, tmp_path, capsys):
    with tarfile.open(tmp_path / "train-000.tar", "w") as shard:
        for path in sorted(pictures.glob("*.png")):
            shard.add(path, path.name)
    command = [
        "adapt",
        str(tmp_path / "train-{000..000}.tar"),
        "--out",
        str(tmp_path / "o"),
        "--dictionary",
        str(words),
    ]
    assert main([*command, *OPTIONS, "--names", "balloon", "trophy", "--learner", "vpt"]) == 0
    assert capsys.readouterr().out.startswith("40 pictures, 2 class names, kdpl with vpt.")


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--mode", "kdpl"], "KDPL needs class names"),
        (["--mode", "labels", "--names", "a", "b"], "have no labels"),
        (["--dictionary", "nowhere.txt"], "nowhere.txt"),
        (["--labels", "0.5", "--names", "a", "b"], "have no labels"),
        (
            ["--labels", "1.5", "--names", "a", "b"],
            "the share of labels is 1.5: give a number",
        ),
    ],
)
def test_wrong_wishes_are_one_sentence(pictures, words, tmp_path, capsys, more, sentence):
    command = ["adapt", str(pictures), "--out", str(tmp_path / "o"), "--dictionary", str(words), *OPTIONS]
    assert main([*command, *more]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "o").exists()


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["adapt", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_predict_wants_a_classifier(pictures, tmp_path, capsys):
    assert main(["predict", str(tmp_path / "x.safetensors"), str(next(pictures.iterdir()))]) == 2
    assert "There is no file" in capsys.readouterr().err


def test_worlds_are_listed(capsys):
    assert main(["worlds"]) == 0
    assert set(capsys.readouterr().out.split()) == set(kd.world_names())


@pytest.mark.parametrize("wrong", [{"mode": "kdlp"}, {"learner": "coup"}])
def test_an_unknown_mode_or_learner_is_refused(wrong, pictures, words, tmp_path):
    (name,) = wrong.values()
    with pytest.raises(ValueError, match=f"There is no (mode|learner) '{name}'"):
        adapt_folder(pictures, tmp_path, ["balloon", "trophy"], dictionary=words, **wrong, **MODELS)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [((3.0, 1.0, 5.0), "better than"), ((-3.0, -5.0, -1.0), "worse than"), ((3.0, -1.0, 7.0), "not shown to differ")],
)
def test_the_card_claims_no_more_than_the_interval(gain, verdict, world):
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    job = Training("emoji", "coop", "kdpl", 1, *MODELS.values(), kd.Recipe())
    job = replace(job, teachers=(MODELS["teacher"],))
    card = model_card("folder", world, job, kd.CoOp(student), {"test accuracy, learned": 50.0}, gain, 1.0)
    assert f"are {verdict}" in card and f"{gain[1]:+.1f} to {gain[2]:+.1f}" in card


def test_the_teacher_is_loaded_once_for_pictures_without_labels(pictures, words, tmp_path, monkeypatch):
    """What it said of the training pictures is on the disk when the card is written."""
    loaded, plain = [], lab.load_vlm
    monkeypatch.setattr(lab, "load_vlm", lambda *which: loaded.append(which[0]) or plain(*which))
    adapt_folder(pictures, tmp_path, ["balloon", "trophy"], epochs=1, dictionary=words, **MODELS)
    assert loaded.count("emoji-teacher-large") == 1


def test_what_is_no_fixed_classifier_is_kept_as_it_is(world, tmp_path):
    """CoCoOp's classes depend on the picture: its prompts are written, and nothing fails after the training."""
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    job = Training("emoji", "cocoop", "kdpl", 1, *MODELS.values(), kd.Recipe())
    files = adapt_module._write_files(kd.CoCoOp(student), world, job, tmp_path, onnx=True)
    assert set(files) == {"learned"} and (tmp_path / ".gitignore").read_text() == "cache/\n"
    assert set(adapt_module._write_files(kd.CoOp(student), world, job, tmp_path, onnx=False)) == {
        "learned",
        "classifier",
    }


def test_shipped_students_have_recipes_of_their_own():
    """What is asked for goes before both."""
    clip, shipped = ("ViT-B-32-quickgelu", "openai"), ("emoji-student-vit", None)
    assert adapt_module._recipe("coop", "kdpl", clip, None, None, 3) == replace(kd.CoOp.recipe, seed=3)
    own = adapt_module._recipe("coop", "kdpl", shipped, None, None, 3)
    assert own == replace(kd.CoOp.recipe, seed=3, **adapt_module.EMOJI_RECIPES["coop"]) != kd.CoOp.recipe
    asked = adapt_module._recipe("coop", "kdpl", shipped, 7, 0.25, 3)
    assert asked == replace(own, epochs=7, lr=0.25)
    with pytest.raises(ValueError, match="There is no learner 'cop': choose one of .*coop"):
        adapt_module._recipe("cop", "kdpl", clip, None, None, 3)
    with pytest.raises(ValueError, match=re.escape(unsuited("coop", "promptkd"))):
        adapt_module._recipe("coop", "promptkd", clip, None, None, 3)


def test_tests_of_one_class_have_accuracies_and_no_interval(world, tmp_path):
    """Pictures of one class may all be of one thing: nothing says how far another one would lie."""
    first = world.test.labels == world.test.labels[0]
    one = replace(world, test=world.test.subset(first.nonzero().flatten()[:6].tolist()))
    student = kd.load_vlm("emoji-student-vit", device="cpu")
    job = Training("x", "coop", "kdpl", 1, MODELS["student"], (MODELS["teacher"],), kd.Recipe())
    measured, gain = adapt_module._measure(kd.CoOp(student), lab.Lab(tmp_path, device="cpu"), one, job)
    assert gain is None and {"test accuracy, learned", "test accuracy, teacher"} <= set(measured)


def test_names_by_subfolder_are_names_too():
    """Subfolders are renamed by a mapping, whose names have to be some before a picture is looked at."""
    renamed = {"n01": "red panda", "n02": "ox"}
    assert adapt_module._check_given(renamed, (), "coop", onnx=False) == renamed
    with pytest.raises(ValueError, match="'ox' occurs twice"):
        adapt_module._check_given({"n01": "ox", "n02": "ox"}, (), "coop", onnx=False)


def test_a_world_of_one_class_is_refused_before_anything_is_learned(world):
    only = replace(world, classnames=("oak",))
    with pytest.raises(ValueError, match="'oak' is the only class name, .*: give two or more."):
        adapt_module._chosen_mode(only, "folder", None, 0.0, 32)
