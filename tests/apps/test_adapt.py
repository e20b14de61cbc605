"""From a folder to prompts, a classifier and a card, through the commands themselves."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps import adapt as module
from kdpl_utils.apps.adapt import adapt_folder
from kdpl_utils.apps.cli import main
from kdpl_utils.learners.classifier import load_classifier, model_of
from kdpl_utils.support import pictures as opener
from kdpl_utils.support.disk import read_tensors

PACKAGE = Path(kd.__file__).parent
NAMES = ["Christmas tree", "balloon", "trophy"]
MODELS = {"student": ("emoji-student-rn", None), "teacher": ("emoji-teacher-small", None)}
TYPED = ["--student", "emoji-student-rn", "--teacher", "emoji-teacher-small", "--epochs", "1"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Six pictures of each of four classes, in subfolders."""
    folder = tmp_path_factory.mktemp("labelled")
    world = kd.load_world("emoji/activities")
    for i in range(4):
        (folder / world.classnames[i]).mkdir()
        for n, row in enumerate((world.test.labels == i).nonzero().flatten()[:6].tolist()):
            world.test.images[row].save(folder / world.classnames[i] / f"{n}.png")
    return folder


@pytest.fixture
def heap(labelled, tmp_path):
    """The same pictures in one heap, and a list of words beside it."""
    (tmp_path / "heap").mkdir()
    for i, path in enumerate(sorted(labelled.rglob("*.png"))):
        shutil.copy(path, tmp_path / "heap" / f"{i}.png")
    (tmp_path / "words.txt").write_text("balloon\nChristmas tree\nsoccer ball\ntrophy\npaint\n")
    return tmp_path / "heap"


@pytest.fixture
def opened(monkeypatch):
    """Record each picture that is opened."""
    seen = []
    plain = opener.open_picture
    monkeypatch.setattr(opener, "open_picture", lambda path, *more: seen.append(path) or plain(path, *more))
    return seen


@pytest.fixture
def trained(monkeypatch):
    """A line for each training."""
    lines = []
    plain = module.fit
    monkeypatch.setattr(module, "fit", lambda *arguments: lines.append(1) or plain(*arguments))
    return lines


def test_a_labelled_folder_is_scored(labelled, tmp_path):
    with pytest.warns(UserWarning, match="no subfolders train and test"):
        made = adapt_folder(labelled, tmp_path, epochs=2, **MODELS)
    assert set(made.files) == {"learned", "classifier", "card"}
    student = kd.load_vlm(*model_of(made.files["classifier"]), device="cpu")
    classifier = load_classifier(made.files["classifier"], student)
    with pytest.warns(UserWarning):
        own = kd.folder_world(labelled, dictionary=["a"])
    right = classifier(kd.ImageBatches(student, own.test.images)[:]).argmax(1) == own.test.labels
    assert made.measured["test accuracy, learned"] == pytest.approx(100 * right.double().mean().item())
    card = made.files["card"].read_text()
    assert f"test accuracy, learned: {made.measured['test accuracy, learned']:.1f} %" in card
    assert "share of the labels used: 0%" in card and "12 training and 8 labelled test pictures" in card
    assert "Measured on the labelled test pictures" in card and "8 test pictures are few" in card
    before = kd.Learner(student)(kd.ImageBatches(student, own.test.images)[:], own.classnames).argmax(1)
    hits = [100.0 * (before == own.test.labels), 100.0 * right]
    _, low, high = kd.paired_bootstrap(*hits, groups=own.test.labels)
    assert f"95 % interval {low:+.1f} to {high:+.1f}" in card, "the same as in lesson 11"


def test_names_alone_are_enough(heap, tmp_path, opened, capsys):
    """Each picture is opened once for both models; what is asked for lies beside one cache file and one lock."""
    out = tmp_path / "out"
    assert main(["adapt", str(heap), "--out", str(out), *TYPED, "--names", *NAMES]) == 0
    printed = capsys.readouterr().out
    assert "agreement with the teacher, after" in printed and "test accuracy" not in printed
    assert sorted(opened) == sorted(map(str, heap.iterdir()))
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    asked_for = {"learned.safetensors", "classifier.safetensors", "README.md"}
    assert written == asked_for | {"cache/features.safetensors", "cache/lock"}
    assert "Measured on the pictures it was learned from" in (out / "README.md").read_text()
    some = [*sorted(heap.glob("*.png"))[:2], heap / "nowhere.png"]
    assert main(["predict", str(out / "classifier.safetensors"), *map(str, some), "--top", "2"]) == 2
    printed, error = capsys.readouterr()
    assert "nowhere.png" in error and len(printed.splitlines()) == 2
    assert all(sum(name in line for name in NAMES) == 2 and "%" in line for line in printed.splitlines())


def test_neither_names_nor_labels(heap, tmp_path):
    made = adapt_folder(heap, tmp_path / "out", epochs=2, dictionary=tmp_path / "words.txt", k=3, **MODELS)
    card = made.files["card"].read_text()
    assert set(made.files) == {"learned", "card"} and made.measured == {} and "agreement" not in card
    picked = card.split("picked most from")[1].splitlines()[0]
    assert "words.txt" in picked and picked.count("`") == 8
    assert not torch.equal(made.learner.prompt.ctx, kd.PromptLearner(made.learner.vlm).ctx)


def test_asked_again_nothing_is_repeated(heap, tmp_path, opened, trained):
    def adapt(names=NAMES, **more):
        settings = {"epochs": 2, **more}
        return adapt_folder(heap, tmp_path / "out", names, **settings, **MODELS)

    first = adapt()
    pictures = len(opened)
    again = adapt()
    assert torch.equal(first.learner.prompt.ctx, again.learner.prompt.ctx) and first.measured == again.measured
    assert again.files == first.files and len(trained) == 1 and len(opened) == pictures
    adapt(epochs=1)
    adapt(names=NAMES[:2])
    assert len(trained) == 3 and len(opened) == pictures, "features are found in the cache"
    Image.new("RGB", (32, 32), "red").save(heap / "0.png")
    adapt(names=NAMES[:2])
    assert len(trained) == 4 and len(opened) == 2 * pictures


@pytest.mark.parametrize("damaged", ["learned.safetensors", "classifier.safetensors", "cache/features.safetensors"])
def test_a_damaged_file_is_made_again(heap, tmp_path, trained, damaged):
    first = adapt_folder(heap, tmp_path / "out", NAMES, epochs=1, **MODELS)
    file = tmp_path / "out" / damaged
    tensors = read_tensors(file)[1]
    file.write_bytes(file.read_bytes()[:-50])
    again = adapt_folder(heap, tmp_path / "out", NAMES, epochs=1 + damaged.startswith("cache"), **MODELS)
    assert len(trained) == 2 and all(torch.equal(tensors[name], t) for name, t in read_tensors(file)[1].items())
    assert damaged.startswith("cache") or first.measured == again.measured


def test_a_users_page_is_not_overwritten(heap, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("# Mine")
    with pytest.raises(ValueError, match="README.md was not written by this command"):
        adapt_folder(heap, out, NAMES, epochs=1, **MODELS)
    assert (out / "README.md").read_text() == "# Mine" and len(list(out.iterdir())) == 1
    (out / "README.md").unlink()
    made = adapt_folder(heap, out, NAMES, epochs=1, **MODELS)
    made.files["card"].write_text("Some words. " + made.files["card"].read_text())
    with pytest.raises(ValueError, match="or was changed since"):
        adapt_folder(heap, out, NAMES, epochs=2, **MODELS)


def test_unreadable_pictures_are_left_out_by_name(heap, tmp_path):
    (heap / "00broken.png").write_bytes(b"no picture")
    lines = []
    made = adapt_folder(heap, tmp_path / "out", NAMES, epochs=1, report=lines.append, **MODELS)
    assert any(line.startswith("Left out: ") and "00broken.png" in line for line in lines)
    assert "24 training and 0 labelled test pictures; 1 could not be read" in made.files["card"].read_text()
    for path in heap.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="None of the 25 pictures can be read"):
        adapt_folder(heap, tmp_path / "out", NAMES, **MODELS)


@pytest.mark.parametrize("learner, mode", [("vpt", "kdpl"), ("promptkd", "promptkd"), ("cocoop", "kdpl")])
def test_other_learners(heap, tmp_path, opened, capsys, learner, mode):
    """One with visual prompts keeps its images preprocessed; one without a classifier is used by its own file."""
    for path in sorted(heap.iterdir())[8:]:
        path.unlink()
    typed = ["--student", "emoji-student-vit", "--teacher", "emoji-teacher-small", "--epochs", "1"]
    command = ["adapt", str(heap), "--out", str(tmp_path / "out"), *typed, "--names", *NAMES, "--mode", mode]
    assert main([*command, "--learner", learner]) == 0 and len(opened) == 8
    file = "classifier" if learner == "vpt" else "learned"
    assert (tmp_path / "out" / "classifier.safetensors").exists() == (learner == "vpt")
    teacher = ["--teacher", "emoji-teacher-small"] if learner == "promptkd" else []
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "out" / f"{file}.safetensors"), str(heap), *teacher]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert main([*command, "--learner", learner]) == 0 and "nothing is repeated" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*no subfolders train and test")
def test_labels_may_help(labelled, heap, tmp_path):
    def ctx(**settings):
        return adapt_folder(labelled, tmp_path / "out", epochs=1, **settings, **MODELS).learner.prompt.ctx

    without = ctx()
    some = ctx(label_fraction=0.5)
    assert "share of the labels used: 50%" in (tmp_path / "out" / "README.md").read_text()
    everything = ctx(mode="labels")
    assert len({tuple(one.flatten().tolist()) for one in (without, some, everything)}) == 3
    adapt_folder(heap, tmp_path / "out", dictionary=["oak", "ox", "owl"], k=2, epochs=1, **MODELS)
    assert not (tmp_path / "out" / "classifier.safetensors").exists(), "it belongs to earlier prompts"


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--mode", "kdpl"], "needs at least two class names"),
        (["--mode", "labels", "--names", "a", "b"], "have no labels"),
        (["--names", "oak"], "at least two class names, and there are 1"),
        (["--dictionary", "nowhere.txt"], "nowhere.txt"),
        (["--label-fraction", "0.5", "--names", "a", "b"], "have no labels"),
        (["--label-fraction", "1.5", "--names", "a", "b"], "label fraction is 1.5"),
        (["--mode", "promptkd", "--names", "a", "b"], "learner promptkd"),
        (["--student", "ViT-B-32/openai"], "ViT-B-32-quickgelu/openai"),
        (["--epochs", "0", "--names", "a", "b"], "epochs"),
    ],
)
def test_wrong_wishes_are_one_sentence(heap, tmp_path, capsys, more, sentence):
    usual = {"--dictionary": str(tmp_path / "words.txt"), **dict(zip(TYPED[::2], TYPED[1::2]))}
    typed = [word for pair in usual.items() if pair[0] not in more for word in pair]
    assert main(["adapt", str(heap), "--out", str(tmp_path / "out"), *typed, *more]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_few_files_of_the_package_take_part(heap, tmp_path):
    """A reader who follows the command opens these: counted in the second of two runs, when imports are warm."""
    seen = set()

    def note(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents:
            seen.add(path.relative_to(PACKAGE).as_posix())

    for out in ("first", "second"):
        seen.clear()
        sys.setprofile(note)
        try:
            status = main(["adapt", str(heap), "--out", str(tmp_path / out), *TYPED, "--names", *NAMES])
        finally:
            sys.setprofile(None)
        assert status == 0
    assert len(seen) <= 27, sorted(seen)


def test_another_model_of_the_same_tag_is_another_run(heap, tmp_path, trained, monkeypatch):
    """Published tags such as "openai" belong to many models."""
    monkeypatch.setattr(module, "weights_identity", lambda name, pretrained: "openai")
    for teacher in ("emoji-teacher-small", "emoji-teacher-medium", "emoji-teacher-medium"):
        models = {"student": MODELS["student"], "teacher": (teacher, None)}
        adapt_folder(heap, tmp_path / "out", NAMES, epochs=1, **models)
    assert len(trained) == 2


def test_a_file_of_the_users_beside_our_card_stays(heap, tmp_path):
    arguments = {"epochs": 1, "dictionary": tmp_path / "words.txt", "k": 3, **MODELS}
    adapt_folder(heap, tmp_path / "out", **arguments)
    theirs = kd.save_learner(kd.CoOp(kd.load_vlm("emoji-student-rn", device="cpu")), tmp_path / "theirs.safetensors")
    shutil.copy(theirs, tmp_path / "out" / "classifier.safetensors")  # a learner is no classifier of this command
    with pytest.raises(ValueError, match="classifier.safetensors was not written by this command"):
        adapt_folder(heap, tmp_path / "out", **arguments)
