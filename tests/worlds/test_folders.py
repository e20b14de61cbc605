import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.worlds import photos
from kdpl_utils.worlds.load import load_world
from kdpl_utils.worlds.photo_worlds import folder_world


def picture(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (grey, 0, 0)).save(path)


def greys(split):
    return [image.getpixel((0, 0))[0] for image in split.images]


@pytest.fixture
def flat(tmp_path):
    """Five pictures and what lies beside pictures."""
    for grey, name in enumerate(["b.png", "a.PNG", "sub.png", "d.webp", "c.bmp"]):
        picture(tmp_path / name, 10 * grey)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._a.png").write_bytes(b"hidden")
    picture(tmp_path / ".thumbnails" / "a.png", 250)
    return tmp_path


@pytest.fixture
def labelled(tmp_path):
    """Three subfolders with pictures, ten each, some of them deeper; one without."""
    for label, name in enumerate(["cherry_tree", "Ash", "beech"]):
        for number in range(10):
            picture(tmp_path / name / ("deep" if number % 2 else ".") / f"{number}.png", 20 * label + number)
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_pictures_without_names_are_for_class_agnostic_learning(flat):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world = load_world(str(flat))
    assert sorted(greys(world.train)) == [0, 10, 20, 30, 40] and world.train.labels.tolist() == [-1] * 5
    assert world.name == flat.name and world.classnames == () and (world.base, world.novel) == (range(0), range(0, 0))
    assert len(world.test) == len(world.val) == 0 and len(world.dictionary) > 20_000
    assert world.student == ("ViT-B-32-quickgelu", "openai")
    for split, what in ((world.test, "nothing can be scored on them"), (world.train, "learn from world.train")):
        with pytest.raises(ValueError, match=what):
            kd.of_classes(split, world.base)
    with pytest.raises(ValueError, match="learn from world.train"):  # also of some of them
        kd.of_classes(world.train.subset([0, 1]), world.base)
    with pytest.raises(ValueError, match="no labels"):
        kd.few_shot(world.train.labels, 1, seed=0)


def test_pictures_with_a_list_of_names(flat):
    world = folder_world(flat, ["oak", "ash"], templates=["a drawing of a {}."], dictionary=["oak", "elm"])
    assert world.classnames == ("oak", "ash") and (world.base, world.novel) == (range(2), range(2, 2))
    assert world.templates == ("a drawing of a {}.",) and world.dictionary == ("oak", "elm")
    assert world.train.labels.tolist() == [-1] * 5
    with pytest.raises(ValueError, match="'oak' occurs twice"):
        folder_world(flat, ["oak", "oak"])
    with pytest.raises(ValueError, match="give a list of names"):
        folder_world(flat, {"oak": "Oak"})


def test_load_world_hands_the_dictionary_on(flat):
    assert load_world(flat, dictionary=["oak", "elm"]).dictionary == ("oak", "elm")
    with pytest.raises(ValueError, match="no name in it"):
        load_world(flat, dictionary=[])


def test_subfolders_are_classes(labelled):
    with pytest.warns(UserWarning, match="no subfolders train and test, so each class is cut"):
        world = load_world(labelled)
    assert world.classnames == ("Ash", "beech", "cherry tree")  # in the order of list.sort(), as CoOp's data sets
    every = []
    for split, size in ((world.train, 5), (world.val, 2), (world.test, 3)):
        assert split.labels.bincount().tolist() == [size] * 3
        every += greys(split)
        assert [{0: 2, 1: 0, 2: 1}[grey // 20] for grey in greys(split)] == split.labels.tolist()
    assert len(set(every)) == 30
    assert len(kd.of_classes(world.test, world.base)) == 6


def test_the_cut_stays_where_the_folder_is_moved(labelled):
    with pytest.warns(UserWarning):
        first = greys(load_world(labelled).train)
        moved = labelled.rename(labelled.with_name("moved"))
        assert greys(load_world(moved).train) == first


def test_a_folder_with_train_and_test_is_not_cut(tmp_path):
    for part, names in (("train", ["a", "b"]), ("test", ["a", "b"]), ("val", ["a"])):
        for name in names:
            picture(tmp_path / part / name / "1.png", 2 * ord(name) + len(part))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world = load_world(tmp_path)
    assert world.classnames == ("a", "b")
    assert (world.train.labels.tolist(), greys(world.train)) == ([0, 1], [2 * ord("a") + 5, 2 * ord("b") + 5])
    assert (world.test.labels.tolist(), greys(world.test)) == ([0, 1], [2 * ord("a") + 4, 2 * ord("b") + 4])
    assert (world.val.labels.tolist(), greys(world.val)) == ([0], [2 * ord("a") + 3])


def test_a_train_may_be_a_class(tmp_path):
    for vehicle in ("train", "plane"):
        picture(tmp_path / vehicle / "old" / "1.png", 1)
    with pytest.warns(UserWarning, match="The subfolder train is taken for a class"):
        assert load_world(tmp_path).classnames == ("plane", "train")


@pytest.mark.filterwarnings("ignore")
def test_subfolders_can_be_renamed(labelled):
    assert folder_world(labelled, ["x", "y", "z"]).classnames == ("x", "y", "z")
    assert folder_world(labelled, {"Ash": "ash tree"}).classnames == ("ash tree", "beech", "cherry tree")
    with pytest.raises(ValueError, match="2 names for the 3 subfolders .* in the order Ash, beech, cherry_tree"):
        folder_world(labelled, ["x", "y"])
    with pytest.raises(ValueError, match="no subfolder 'elm': it has Ash, beech, cherry_tree"):
        folder_world(labelled, {"elm": "Elm"})
    with pytest.raises(ValueError, match="'x' occurs twice"):
        folder_world(labelled, ["x", "x", "z"])


def test_labels_may_be_ignored(labelled):
    world = folder_world(labelled, labelled=False)
    assert len(world.train) == 30 and set(world.train.labels.tolist()) == {-1} and world.classnames == ()


def test_both_in_and_beside_subfolders_has_to_be_said(labelled):
    for number in range(4):
        picture(labelled / f"{number}.png", 200)
    with pytest.raises(ValueError, match="4 pictures lie in the folder itself and 30 in subfolders: .*labelled=False"):
        load_world(labelled)
    assert len(folder_world(labelled, labelled=False).train) == 34
    with pytest.warns(UserWarning, match="4 pictures lie in no subfolder and are left out"):
        assert len(folder_world(labelled, labelled=True).train) == 15


def test_unreadable_files_are_named_and_left_out(flat, monkeypatch):
    for n in range(6):
        (flat / f"bad{n}.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"^6 of 11 pictures .* left out: .*bad0.jpg .*bad4.jpg .*And 1 more."):
        world = load_world(flat)
    assert len(world.train) == 5
    monkeypatch.setattr(photos, "CHECKED", 3)  # among very many they are found later
    world = load_world(flat)
    assert len(world.train) == 11
    with pytest.raises(ValueError, match="bad0.jpg cannot be read as a picture"):
        list(world.train.images)


def test_a_folder_that_is_none_or_empty(tmp_path):
    for name in (str(tmp_path / "nowhere"), Path("nowhere"), "./nowhere", "~/nowhere/at/all"):
        with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
            load_world(name)
    with pytest.raises(ValueError, match="no pictures that can be read: put JPEG or PNG files there"):
        load_world(tmp_path)
    picture(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match="no pictures in subfolders"):
        folder_world(tmp_path, labelled=True)


def test_a_folder_beside_the_notebook_needs_no_dot(labelled, monkeypatch):
    monkeypatch.chdir(labelled.parent)
    with pytest.warns(UserWarning):
        assert load_world(labelled.name).classnames[0] == "Ash"


def test_very_many_are_not_decoded_before_they_are_looked_at(flat, monkeypatch):
    monkeypatch.setattr(photos, "CHECKED", 3)
    monkeypatch.setattr(Image.Image, "convert", None)
    world = load_world(flat)
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        world.train.images[0]


def test_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert load_world(tmp_path).train.images[0].size == (4, 6)


def test_a_prompt_is_learned_from_a_folder_without_labels_or_names(flat):
    """The cells of the class-agnostic notebook run on it, with the emoji models."""
    world = folder_world(flat, dictionary=["apple", "bread", "cheese", "egg"])
    student, teacher = kd.load_vlm("emoji-student-rn"), kd.load_vlm("emoji-teacher-small")
    images, seen = (kd.encode_images(vlm, world.train.images) for vlm in (student, teacher))
    unknown = kd.logits(seen, kd.encode_names(teacher, world.dictionary, world.templates), student.scale)
    prompt = kd.PromptLearner(student)

    def loss(batch):
        chosen = kd.select_classes(unknown[batch], k=2)
        student_logits = kd.logits(images[batch], prompt([world.dictionary[i] for i in chosen]), student.scale)
        return kd.symmetric_kl(unknown[batch][:, chosen], student_logits)

    start = prompt.ctx.detach().clone()
    kd.fit(prompt, loss, len(world.train), kd.Recipe(epochs=1, batch_size=5), progress=False)
    assert not torch.equal(prompt.ctx, start)


def test_one_class_that_is_meant_as_one_keeps_its_labels(tmp_path):
    """Otherwise the pictures of an only folder count as unlabelled."""
    for number in range(4):
        picture(tmp_path / "oak" / f"{number}.png", number)
    with pytest.warns(UserWarning, match="There is one class only, oak: every picture is named so, and nothing can be"):
        world = folder_world(tmp_path, labelled=True, dictionary=["tree"])
    assert world.classnames == ("oak",) and set(world.train.labels.tolist()) == {0}
    with pytest.warns(UserWarning):
        world = folder_world(tmp_path, dictionary=["tree"])
    assert set(world.train.labels.tolist()) == {-1}
