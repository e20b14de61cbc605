"""Folders of pictures: three layouts, or a sentence."""

import warnings

import pytest
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.worlds import photos
from kdpl_utils.worlds.folders import find_pictures, folder_world
from kdpl_utils.worlds.load import load_world


def picture(path, red):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (red, 0, 0)).save(path, lossless=True)


def reds(split):
    return [image.getpixel((0, 0))[0] for image in split.images]


def tree(folder, *files):
    for number, file in enumerate(files):
        picture(folder / file, 20 * number)
    return folder


@pytest.fixture
def flat(tmp_path):
    """Four pictures and what lies beside pictures."""
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._a.png").write_bytes(b"hidden")
    picture(tmp_path / ".thumbnails" / "a.png", 250)
    return tree(tmp_path, "b.png", "a.PNG", "d.webp", "c.bmp")


@pytest.fixture
def classes(tmp_path):
    """Three subfolders with ten pictures each; one without."""
    for label, name in enumerate(["cherry_tree", "Ash", "beech"]):
        for number in range(10):
            picture(tmp_path / name / f"{number}.png", 20 * label + number)
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_pictures_without_names_are_for_class_agnostic_learning(flat):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world = load_world(str(flat))
    assert sorted(reds(world.train)) == [0, 20, 40, 60] and world.train.labels.tolist() == [-1] * 4
    assert world.name == flat.name and world.classnames == () and (world.base, world.novel) == (range(0), range(0, 0))
    assert len(world.test) == len(world.val) == 0 and len(world.dictionary) > 20_000
    for split in (world.test, world.train, world.train.subset([0, 1])):
        with pytest.raises(ValueError, match="have no labels: nothing can be scored"):
            kd.of_classes(split, world.base)


def test_pictures_with_a_list_of_names(flat):
    world = folder_world(flat, ["oak", "ash"], templates=["a drawing of a {}."], dictionary=["oak", "elm"])
    assert world.classnames == ("oak", "ash") and (world.base, world.novel) == (range(2), range(2, 2))
    assert world.templates == ("a drawing of a {}.",) and world.dictionary == ("oak", "elm")
    assert world.train.labels.tolist() == [-1] * 4


def test_subfolders_are_classes(classes):
    with pytest.warns(UserWarning, match="no subfolders train and test: each class is cut"):
        world = load_world(classes)
    assert world.classnames == ("Ash", "beech", "cherry tree")
    every = []
    for split, size in ((world.train, 5), (world.val, 2), (world.test, 3)):
        assert split.labels.bincount().tolist() == [size] * 3
        assert [{0: 2, 1: 0, 2: 1}[red // 20] for red in reds(split)] == split.labels.tolist()
        every += reds(split)
    assert len(set(every)) == 30


@pytest.mark.filterwarnings("ignore")
def test_the_cut_stays_where_the_folder_is_moved_or_gets_another_class(classes, tmp_path_factory):
    first = reds(load_world(classes).train)
    moved = classes.rename(tmp_path_factory.mktemp("other") / "moved")
    assert reds(load_world(moved).train) == first
    tree(moved, "Acacia/1.png", "Acacia/2.png")
    assert reds(load_world(moved).train)[1:] == first


@pytest.mark.parametrize("train, val, test", [("train", "val", "test"), ("Training", "valid", "TEST")])
def test_a_folder_with_parts_is_not_cut(tmp_path, train, val, test):
    tree(tmp_path, f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/a/1.png", f"{test}/b/1.png", f"{val}/a/1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world = load_world(tmp_path)
    assert world.classnames == ("a", "b")
    for split, expected, labels in (
        (world.train, [0, 20], [0, 1]),
        (world.test, [40, 60], [0, 1]),
        (world.val, [80], [0]),
    ):
        assert reds(split) == expected and split.labels.tolist() == labels


def test_without_test_pictures_the_validation_pictures_are_tested_on(tmp_path):
    tree(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    with pytest.warns(UserWarning, match="validation pictures are tested on"):
        world = load_world(tmp_path)
    assert reds(world.test) == [40, 60] and len(world.val) == 0


@pytest.mark.parametrize(
    "files",
    [
        ["pets/cat/1.png", "pets/dog/1.png"],  # a wrapper
        ["train/cat/1.png", "train/dog/1.png", "test/1.png"],
        ["cat/1.png", "dog/1.png", "stray.png"],
        ["cat/1.png", "dog/black/1.png"],
        ["images/1.png"],
        ["train/pets/1.png", "test/pets/1.png"],
    ],
)
def test_another_layout_is_refused_in_a_sentence_that_shows_the_three(tmp_path, files):
    with pytest.raises(ValueError, match=f"{tmp_path} has .*FOLDER/<class>/….*FOLDER/train/<class>/….*all in FOLDER"):
        load_world(tree(tmp_path, *files))


@pytest.mark.filterwarnings("ignore")
def test_labels_may_be_ignored(classes):
    world = folder_world(classes, labelled=False)
    assert len(world.train) == 30 and set(world.train.labels.tolist()) == {-1} and world.classnames == ()


@pytest.mark.filterwarnings("ignore")
def test_the_folders_own_names_may_come_in_any_order(classes):
    assert folder_world(classes, ["beech", "cherry tree", "ash"]).classnames == ("Ash", "beech", "cherry tree")
    assert folder_world(classes, {"Ash": "ash tree"}).classnames == ("ash tree", "beech", "cherry tree")


@pytest.mark.filterwarnings("ignore:.*has no subfolders")
def test_other_names_are_paired_by_position_and_only_where_that_is_safe(classes):
    with pytest.warns(UserWarning, match="paired with its subfolders: {'Ash': 'x', 'beech': 'y', 'cherry_tree': 'z'}"):
        assert folder_world(classes, ["x", "y", "z"]).classnames == ("x", "y", "z")
    for names, problem in (
        (["x", "y"], "2 names for the 3 subfolders"),
        (["beech", "x", "y"], "'beech' is a subfolder"),
        ({"elm": "Elm"}, "no subfolder 'elm'"),
    ):
        with pytest.raises(ValueError, match=problem):
            folder_world(classes, names)


@pytest.mark.filterwarnings("ignore")
def test_numbered_folders_are_sorted_as_numbers(tmp_path):
    tree(tmp_path, "10/1.png", "9/1.png", "0/1.png")
    assert load_world(tmp_path).classnames == ("0", "9", "10")


@pytest.mark.filterwarnings("ignore")
def test_links_are_followed_and_circles_are_not(tmp_path):
    tree(tmp_path, "elsewhere/oak/1.png", "here/ash/1.png")
    (tmp_path / "here" / "oak").symlink_to(tmp_path / "elsewhere" / "oak")
    (tmp_path / "here" / "ash" / "again").symlink_to(tmp_path / "here")
    assert load_world(tmp_path / "here").classnames == ("ash", "oak")


def test_a_folder_that_is_missing_or_empty(tmp_path):
    for name in (str(tmp_path / "nowhere"), "./nowhere", "~/nowhere/at/all"):
        with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
            load_world(name)
    with pytest.raises(FileNotFoundError, match="has no .jpg.*FOLDER/<class>"):
        load_world(tmp_path)


def test_files_of_other_kinds_are_reported(tmp_path):
    for name in ("1.heic", "2.HEIC", "3.svg"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match="2 .heic, 1 .svg"):
        load_world(tmp_path)
    tree(tmp_path, "a.png")
    with pytest.warns(UserWarning, match="2 .heic, 1 .svg are not opened"):
        assert list(find_pictures(tmp_path)) == [str(tmp_path / "a.png")]


def test_no_picture_is_decoded_before_it_is_looked_at(flat, monkeypatch):
    (flat / "broken.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(photos, "open_picture", None)
    assert len(load_world(flat).train) == 5
    monkeypatch.undo()
    with pytest.raises(ValueError, match="broken.jpg cannot be read"):
        list(load_world(flat).train.images)


@pytest.mark.parametrize("read", [2000, 2])
def test_a_key_tells_pictures_from_others(flat, monkeypatch, read):
    monkeypatch.setattr(photos, "READ", read)
    key = load_world(flat).train.key
    assert load_world(flat).train.key == key
    picture(flat / "b.png", 99)
    assert load_world(flat).train.key != key


def test_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert load_world(tmp_path).train.images[0].size == (4, 6)


def test_an_unknown_world_is_told_the_nearest_name():
    with pytest.raises(ValueError, match="no world 'emoji/fod-drink': did you mean 'emoji/food-drink'"):
        load_world("emoji/fod-drink")
    with pytest.raises(ValueError, match="no world 'xyz': choose from emoji, .*path of a folder"):
        load_world("xyz")
