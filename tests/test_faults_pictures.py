"""What goes wrong with pictures and folders, as a table: what is there → the sentence that is said → what is kept."""

import io
import os
import re
import struct
import tarfile
import warnings

import numpy as np
import pytest
from faults import Fault, pattern
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps.cli import main
from kdpl_utils.apps.inspect import folder_images
from kdpl_utils.apps.predict import named_pictures
from kdpl_utils.worlds.finding import find_pictures
from kdpl_utils.worlds.photo_worlds import folder_world

# --- one broken picture among good ones, in every way in -------------------------------------------------------------


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = Image.effect_noise((80, 60), 60)
JPEG, PNG = encoded(NOISE, "JPEG"), encoded(NOISE, "PNG")
HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 40_000, 40_000) + PNG[24:]  # checksum and all else wrong
NO_KIND = "cannot be read as a picture (its content is none of "
UNREADABLE = "cannot be read as a picture ("
OTHERS_STAY = "the other pictures, and what was computed from them"
CONTENTS = {  # what a file called .jpg holds
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n", NO_KIND),
    "PDF": (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", NO_KIND),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", NO_KIND),
    "a web page": (b"<!doctype html><title>404</title>", NO_KIND),
    "nothing": (b"", NO_KIND),
    "zeros": (bytes(5000), NO_KIND),
    "a cut JPEG": (JPEG[: len(JPEG) // 2], UNREADABLE + "… truncated"),
    "a cut PNG": (PNG[: len(PNG) // 2], UNREADABLE),
    "a PNG with a wrong header": (HUGE, UNREADABLE),
    "a bomb of 400 million pixels": (
        encoded(Image.new("1", (20_000, 20_000)), "PNG"),
        UNREADABLE + "it has more pixels than Pillow opens",
    ),
    "a GIF without its colours": (encoded(NOISE, "GIF")[:200], UNREADABLE),
    "a TIFF whose directory is elsewhere": (b"II*\0\xff\xff\xff\x7f", UNREADABLE),
    "a WebP of noise": (b"RIFF\x40\0\0\0WEBPVP8 " + bytes(range(60)), UNREADABLE),
    "a BMP of no size": (encoded(Image.new("RGB", (4, 4)), "BMP")[:18] + bytes(36), UNREADABLE),
}
BROKEN = {f"a .jpg that holds {what}": Fault(*row, OTHERS_STAY) for what, row in CONTENTS.items()}
every_broken_file = pytest.mark.parametrize("broken", BROKEN, indirect=True)


@pytest.fixture
def broken(request, tmp_path):
    """A folder and a tar file with a broken picture between two good ones."""
    content, sentence, _ = BROKEN[request.param]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, bytes_of in (("1.jpg", JPEG), ("2.jpg", content), ("3.jpg", PNG)):
        (folder / name).write_bytes(bytes_of)
    with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
        archive.add(folder, ".")
    return tmp_path, rf"2\.jpg {pattern(sentence)}.+\): fetch or convert it again, or remove it\."


@every_broken_file
def test_it_is_left_out_of_a_folder(broken):
    home, sentence = broken
    with pytest.warns(UserWarning, match=rf"1 of 3 pictures .*left out: .*{sentence}"):
        world = folder_world(home / "pictures", ["a", "b"], dictionary=["a"])
    assert [image.size for image in world.train.images] == [(80, 60)] * 2
    (home / "pictures" / "2.jpg").unlink()
    whole = folder_world(home / "pictures", ["a", "b"], dictionary=["a"])
    assert whole.train.key == world.train.key  # so that what was computed from the others stays


@every_broken_file
def test_it_is_left_out_of_a_tar_file(broken):
    home, sentence = broken
    with pytest.warns(UserWarning, match=rf"1 of 3 pictures .*left out: .*{sentence}"):
        world = folder_world(home / "pictures.tar", ["a", "b"], dictionary=["a"])
    assert [image.size for image in world.train.images] == [(80, 60)] * 2


@every_broken_file
def test_it_ends_no_stream(broken):
    home, _ = broken
    with pytest.warns(UserWarning, match="1 members cannot be read as pictures and were skipped: pictures.tar/2.jpg"):
        keys = [key for key, _ in kd.Shards(home / "pictures.tar", unreadable="skip")]
    assert keys == ["pictures.tar/1.jpg", "pictures.tar/3.jpg"]
    with pytest.raises(ValueError, match="pictures.tar/2.jpg cannot be read as a picture.*unreadable='skip'"):
        list(kd.Shards(home / "pictures.tar"))


@every_broken_file
def test_it_costs_predict_no_other(broken):
    home, sentence = broken
    rows = list(named_pictures(lambda images: [[("a", images[0].width)]], [home / "pictures"]))
    assert [row for _, row, _ in rows] == [[("a", 80)], [], [("a", 80)]]
    assert rows[0][2] == rows[2][2] == "" and re.search(sentence, rows[1][2])


@every_broken_file
def test_it_is_named_by_inspect_and_by_encoding(broken):
    home, sentence = broken
    student = kd.load_vlm("emoji-student-rn", device="cpu")
    for images in (folder_images(home / "pictures"), sorted((home / "pictures").iterdir())):
        with pytest.raises(ValueError, match=sentence):
            kd.encode_images(student, images)


# --- one picture in every way in looks the same ----------------------------------------------------------------------


def ramp(high, kind):
    return np.linspace(0, high, 64 * 48).reshape(48, 64).astype(kind)


def drawing():
    image = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    image.paste((30, 20, 10, 255), (8, 8, 40, 40))
    return image


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return Image.fromarray(ramp(255, np.uint8)).convert("RGB"), {"exif": exif}


RAMP = {(0, 0): 0, (32, 24): 130, (63, 47): 255}
LOOKS = {  # a file's name and picture → its size, and what two of its pixels look like
    "of 16 bits": (
        "a.png",
        lambda: (Image.fromarray(ramp(65535, np.uint16)), {}),
        (64, 48),
        RAMP,
    ),
    "of 16 bits that is nearly black": (
        "a.png",
        lambda: (Image.fromarray(ramp(255, np.uint16)), {}),
        (64, 48),
        {(0, 0): 0, (63, 47): 1},
    ),
    "of 32 bits": ("a.tif", lambda: (Image.fromarray(ramp(2e9, np.int32)), {}), (64, 48), RAMP),
    "of floating point": (
        "a.tif",
        lambda: (Image.fromarray(ramp(1, np.float32)), {}),
        (64, 48),
        RAMP,
    ),
    "that is dark on nothing": ("a.png", lambda: (drawing(), {}), (64, 48), {(0, 0): 255, (20, 20): 20}),
    "that is dark on nothing, as WebP": (
        "a.webp",
        lambda: (drawing(), {"lossless": True}),
        (64, 48),
        {(0, 0): 255, (20, 20): 20},
    ),
    "that is grey on nothing": ("a.png", lambda: (drawing().convert("LA"), {}), (64, 48), {(0, 0): 255, (20, 20): 22}),
    "with a palette": ("a.png", lambda: (drawing().quantize(), {}), (64, 48), {(0, 0): 255, (20, 20): 20}),
    "turned by a quarter": ("a.jpg", turned, (48, 64), {(0, 63): 255, (47, 0): 0}),
    "for print": ("a.jpg", lambda: (Image.new("CMYK", (64, 48), (0, 0, 0, 255)), {}), (64, 48), {(0, 0): 0}),
    "in black and white": ("a.png", lambda: (Image.new("1", (64, 48), 1), {}), (64, 48), {(0, 0): 255}),
}
ODD = {f"a picture {what}": Fault(looks, (), "the same picture in every way in") for what, looks in LOOKS.items()}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ODD)
def test_every_way_in_sees_the_same(kind, tmp_path):
    name, make, size, shades = ODD[kind].given
    image, options = make()
    path = tmp_path / "in" / name
    path.parent.mkdir()
    image.save(path, **options)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(path, name)
    student = kd.load_vlm("emoji-student-rn", device="cpu")
    pictures = [
        folder_world(path.parent, dictionary=["a"]).train.images[0],
        folder_world(tmp_path / "a.tar", dictionary=["a"]).train.images[0],
        next(iter(kd.Shards(tmp_path / "a.tar")))[1],
        folder_images(path.parent)[0],
        kd.random_crops([Image.open(path)], 1, 0, scale=(1.0, 1.0))[0],
    ]
    for picture in pictures[:-1]:
        assert picture.mode == "RGB" and picture.size == size
        for place, shade in shades.items():
            assert picture.getpixel(place)[1] == pytest.approx(shade, abs=8)
    assert pictures[-1].mode == "RGB"
    seen = kd.encode_images(student, [*pictures[:-1], Image.open(path), path])
    assert (seen @ seen.T).min() > 0.99999
    (row,) = list(named_pictures(lambda images: [[(str(images[0].size), 1.0)]], [path]))
    assert row == (str(path), [(str(size), 1.0)], "")


def test_a_strip_costs_no_gigabytes(tmp_path):
    """2 × 20,000 pixels: CLIP's preprocessing would make 64 × 640,000 (224 × 2,240,000) of it before it crops."""
    Image.new("RGB", (2, 20_000), "red").save(tmp_path / "strip.png")
    student, largest = kd.load_vlm("emoji-student-rn", device="cpu"), []
    plain = Image.Image.resize

    def resize(image, size, *arguments, **options):
        largest.append(size[0] * size[1])
        return plain(image, size, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", resize)
        features = kd.encode_images(student, [tmp_path / "strip.png", Image.new("RGB", (64, 64), "red")])
    assert max(largest) < 1e6 and features[0] @ features[1] > 0.999


def test_many_photographs_are_opened_one_at_a_time(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(12)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    opened, most, plain = 0, 0, Image.open

    def counting(*arguments, **options):
        nonlocal opened
        opened += 1
        return plain(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", counting)
        for named, _ in enumerate(named_pictures(lambda images: [[("a", 1.0)]], paths), start=1):
            most = max(most, opened - named)
    assert opened == 12 and most <= 2


def test_pixels_are_opened_in_a_forked_process(tmp_path):
    """As DataLoader's workers are; the parent has opened pictures before."""
    import torch

    student = kd.load_vlm("emoji-student-rn", device="cpu")
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(4)]
    pixels = kd.Pixels(student, images)
    here = pixels[[0, 1, 2, 3]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = torch.utils.data.DataLoader(
            range(4),
            batch_size=4,
            num_workers=1,
            collate_fn=pixels.__getitem__,
            timeout=60,
            multiprocessing_context="fork",
        )
        (there,) = list(loader)
    assert torch.equal(here, there)


# --- folders ---------------------------------------------------------------------------------------------------------


def fill(root, tree):
    """``tree``: subfolder → how many pictures lie in it, each of another colour; names count on."""
    shade = 0
    for below, number in tree.items():
        (root / below).mkdir(parents=True, exist_ok=True)
        for n in range(number):
            shade += 1
            Image.new("RGB", (4, 4), (shade, shade // 256, 7)).save(root / below / f"{n:03d}.png")
    return root


def read(root, *arguments, **options):
    """A world without a dictionary, and what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        world = folder_world(root, *arguments, dictionary=["tree"], **options)
    return world, [str(one.message) for one in said]


def sizes(world):
    return len(world.train), len(world.val), len(world.test)


TEN = {"cat": 10, "dog": 10}
CUT = r"so each class is cut, the same way each time: 50 % training, 20 % validation, 30 % test"
SPLIT = {"train/cat": 5, "train/dog": 4, "test/cat": 3, "test/dog": 2}


def parts(train, test, val=""):
    tree = {f"{train}/cat": 5, f"{train}/dog": 4, f"{test}/cat": 3, f"{test}/dog": 2}
    return tree | ({f"{val}/cat": 2} if val else {})


CATS = ("cat", "dog")
NO_TEST = "has no test pictures, so those for validation are tested on"
ONE = "one class cannot be told from anything, so they count as unlabelled"
TREES = {  # what lies where → class names, (train, val, test), the sentences that are said and no others
    "classes": (TEN, CATS, (10, 4, 6), [f"has no subfolders train and test, {CUT}"]),
    "train and test": (SPLIT, CATS, (9, 0, 5), []),
    "train, valid and test": (parts("train", "test", "valid"), CATS, (9, 2, 5), []),
    "Train and Test": (parts("Train", "Test"), CATS, (9, 0, 5), []),
    "TRAINING, TESTING, VALIDATION": (parts("TRAINING", "TESTING", "VALIDATION"), CATS, (9, 2, 5), []),
    "training_set and test_set": (parts("training_set", "test_set", "dev_set"), CATS, (9, 2, 5), []),
    "trainset, testset, valset": (parts("trainset", "testset", "valset"), CATS, (9, 2, 5), []),
    "train2017 and val2017": (parts("train2017", "val2017"), CATS, (9, 0, 5), [NO_TEST]),
    "train-images, test-images": (parts("train-images", "test-images"), CATS, (9, 0, 5), []),
    "train_v2 and test_v2": (parts("train_v2", "test_v2"), CATS, (9, 0, 5), []),
    "train_224x224 and test_224x224": (parts("train_224x224", "test_224x224"), CATS, (9, 0, 5), []),
    "train-resized and test-resized": (parts("train-resized", "test-resized"), CATS, (9, 0, 5), []),
    "tr, va and te": (parts("tr", "te", "va"), CATS, (9, 2, 5), []),
    "images.train, images.test": (parts("images.train", "images.test"), CATS, (9, 0, 5), []),
    "trainData and testData": (parts("trainData", "testData"), CATS, (9, 0, 5), []),
    "train and dev": (parts("train", "dev"), CATS, (9, 0, 5), [NO_TEST]),
    "train and eval": (parts("train", "eval"), CATS, (9, 0, 5), []),
    "train, eval and test": (parts("train", "test", "evaluation"), CATS, (9, 2, 5), []),
    "train, dev and holdout": (parts("train", "holdout", "development"), CATS, (9, 2, 5), []),
    "a wrapper": ({f"pets/{c}": n for c, n in TEN.items()}, CATS, (10, 4, 6),
                  ["All pictures lie in pets, so the subfolders there are read", CUT]),
    "three wrappers": ({f"pets/v1/data/{c}": n for c, n in TEN.items()}, CATS, (10, 4, 6),
                       ["All pictures lie in pets/v1/data,", CUT]),
    "a wrapper around parts": ({f"pets/{c}": n for c, n in SPLIT.items()}, CATS, (9, 0, 5), ["lie in pets,"]),
    "wrappers in parts": ({c.replace("/", "/images/"): n for c, n in SPLIT.items()}, CATS, (9, 0, 5), []),
    "only train": ({f"train/{c}": n for c, n in TEN.items()}, CATS, (10, 4, 6), ["All pictures lie in train,", CUT]),
    "only Test": ({f"Test/{c}": n for c, n in TEN.items()}, CATS, (10, 4, 6), ["All pictures lie in Test,", CUT]),
    "val and test without train": (parts("val", "test"), CATS, (7, 3, 4), [CUT]),
    "an unlabelled test": ({"train/cat": 10, "train/dog": 10, "test": 3}, CATS, (10, 4, 6),
                           ["the 3 pictures of test lie in no class's folder and are left out",
                            f"only train has labelled pictures, {CUT}"]),
    "an unlabelled test in a folder": ({"train/cat": 10, "train/dog": 10, "test/images": 3}, CATS, (10, 4, 6),
                                       ["the 3 pictures of test lie in no class's folder", CUT]),
    "unlabelled training": ({"train": 9, "test/cat": 3, "test/dog": 2}, CATS, (9, 0, 5),
                            ["the 9 training pictures have no labels: they are for KDPL"]),
    "unlabelled training beside val": ({"train": 9, "val/cat": 3, "val/dog": 2}, CATS, (9, 0, 5),
                                       ["the 9 training pictures have no labels: they are for KDPL", NO_TEST]),
    "one class beside an unlabelled test": ({"train/cat": 9, "test": 3}, (), (12, 0, 0), [ONE]),
    "unlabelled parts": ({"train": 9, "test": 3}, (), (9, 0, 0),
                         ["the 3 pictures of test have no labels, so nothing can be scored on them"]),
    "parts in the classes": ({"cat/train": 5, "cat/test": 3, "dog/Train": 4, "dog/Test": 2}, CATS, (9, 0, 5), []),
    "a stray picture": (TEN | {".": 1}, CATS, (10, 4, 6), ["1 pictures lie beside the subfolders …: 000.png", CUT]),
    "a stray picture in train": (parts("train", "test") | {"train": 1}, CATS, (9, 0, 5), ["lie in train beside"]),
    "a folder beside the parts": (SPLIT | {"samples": 3}, CATS, (9, 0, 5),
                                  ["Beside train, val and test there is samples, which is left out"]),
    "a class that is only tested": (SPLIT | {"test/emu": 2}, (*CATS, "emu"), (9, 0, 7),
                                    ["of emu there are no pictures in train, so none are learned from"]),
    "a class that is not tested": (SPLIT | {"train/emu": 2}, (*CATS, "emu"), (11, 0, 5),
                                   ["of emu there are no pictures in test, so none are tested on"]),
    "one class": ({"cat": 10}, (), (10, 0, 0), [ONE]),
    "one class in parts": ({"train/cat": 10, "test/cat": 5}, (), (15, 0, 0), [ONE]),
    "a folder that names no class": ({"images": 10}, (), (10, 0, 0), ["one subfolder images, which names no class"]),
    "only pictures for training": ({"train": 10}, (), (10, 0, 0), []),
    "an empty subfolder": (TEN | {"emu": 0}, CATS, (10, 4, 6), ["1 subfolders have no picture …: emu", CUT]),
    "a train among toys": ({"train/old": 5, "train/new": 5, "ship": 10}, ("ship", "train"), (10, 4, 6),
                           ["1 of 2 classes … (train: new, old)", "train is taken for a class", CUT]),
    "groups of classes": ({"pets/cat": 5, "pets/dog": 5, "farm/cow": 5, "farm/pig": 5}, ("farm", "pets"), (10, 4, 6),
                          ["2 of 2 classes have their pictures in subfolders (farm: cow, pig… first level", CUT]),
    "groups of classes in parts": ({"train/pets/cat": 4, "train/pets/dog": 4, "train/farm/cow": 4, "train/farm/pig": 4,
                                    "test/pets/cat": 2, "test/farm/cow": 2}, ("farm", "pets"), (16, 0, 4),
                                   ["2 of 2 classes have their pictures in subfolders (farm: cow, pig… first level"]),
    "numbers": ({str(n): 2 for n in range(12)}, tuple(str(n) for n in range(12)), (12, 0, 12), [CUT]),
    "numbers behind letters": ({f"class{n}": 2 for n in range(12)}, tuple(f"class{n}" for n in range(12)), (12, 0, 12),
                               [CUT]),
    "numbers before names": ({"1. cat": 2, "10. emu": 2, "2. dog": 2}, ("1. cat", "2. dog", "10. emu"), (3, 0, 3),
                             [CUT]),
    "what systems leave": (TEN | {"__MACOSX/cat": 3, "@eaDir": 3, ".thumbnails": 3}, CATS, (10, 4, 6), [CUT]),
    "names of two words": ({"test_tube": 10, "train station": 10}, ("test tube", "train station"), (10, 4, 6), [CUT]),
}  # fmt: skip


def in_words(names, numbers):
    """The classes of a world and the pictures of its parts."""
    parts = [f"{number} for {part}" for number, part in zip(numbers, ("training", "validation", "testing")) if number]
    return f"{', '.join(names) or 'no class'}: {', '.join(parts)}"


LAYOUTS = {
    f"a folder: {what}": Fault(tree, tuple(said), in_words(names, numbers))
    for what, (tree, names, numbers, said) in TREES.items()
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_is_understood_and_what_is_odd_is_said(kind, tmp_path):
    tree, sentences, kept = LAYOUTS[kind]
    world, said = read(fill(tmp_path, tree))
    assert in_words(world.classnames, sizes(world)) == kept, said
    assert len(said) == len(sentences) and all(re.search(pattern(a), b) for a, b in zip(sentences, said)), said
    again, _ = read(tmp_path)
    assert [again.train.key, again.test.key] == [world.train.key, world.test.key]
    shades = [image.getpixel((0, 0)) for split in (world.train, world.val, world.test) for image in split.images]
    assert len(set(shades)) == len(shades)  # no picture in two parts


WISHES = {  # what lies where, what is asked for → the sentence
    "as many in the folder itself": (TEN | {".": 20}, {}, "20 pictures lie in the folder itself and 20 in subfolders"),
    "fewer names": (TEN, {"classnames": ["cat"]}, "1 names for the 2 subfolders of … in the order cat, dog"),
    "a name of another folder": (TEN, {"classnames": ["dog", "emu"]}, "'dog' is that of a subfolder … with another"),
    "a name for no folder": (TEN, {"classnames": {"emu": "Emu"}}, "no subfolder 'emu': it has cat, dog"),
    "names by folder for one heap": ({".": 3}, {"classnames": {"a": "b"}}, "give a list of names instead"),
    "labels of one heap": ({".": 3}, {"labelled": True}, "no pictures in subfolders: make one for each class"),
}  # fmt: skip
FOLDER_STAYS = "the folder is as it was"
MISTAKES = {f"a wish: {what}": Fault(row[:2], row[2], FOLDER_STAYS) for what, row in WISHES.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MISTAKES)
def test_what_cannot_be_understood_is_refused_in_a_sentence(kind, tmp_path):
    (tree, options), sentence, _ = MISTAKES[kind]
    before = times(fill(tmp_path, tree))
    with pytest.raises(ValueError, match=pattern(sentence)) as caught:
        folder_world(tmp_path, dictionary=["tree"], **options)
    assert "\n" not in str(caught.value) and times(tmp_path) == before


def times(folder):
    """When each thing below a folder was changed."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def shade_of(world):
    """Class name → colours of its pictures, in whatever part."""
    found = {}
    for split in (world.train, world.val, world.test):
        for image, label in zip(split.images, split.labels.tolist()):
            found.setdefault(world.classnames[label], set()).add(image.getpixel((0, 0)))
    return found


NAMES = ["beer mug", "banana", "baby bottle"]


@pytest.mark.parametrize(
    "given", [NAMES, ["Banana", "BEER_MUG", "baby-bottle"], ("banana", "baby  bottle", "beer mug")]
)
def test_names_find_their_own_folders(given, tmp_path):
    """In whatever order and spelling; label k means the k-th name that was given."""
    fill(tmp_path, {"baby_bottle": 4, "banana": 4, "beer mug": 4})
    plain, (world, said) = shade_of(read(tmp_path)[0]), read(tmp_path, given)
    assert [name.lower() for name in world.classnames] == [name.replace("_", " ").lower() for name in given]
    for name, shades in shade_of(world).items():
        assert shades == plain[" ".join(name.lower().replace("_", " ").replace("-", " ").split())]
    assert len(said) == 1  # the cut


def test_other_names_go_in_order_which_is_printed(tmp_path):
    fill(tmp_path, {str(n): 4 for n in range(12)})
    plain = shade_of(read(tmp_path)[0])
    world, said = read(tmp_path, [f"name {n}" for n in range(12)])
    assert {name.removeprefix("name "): shades for name, shades in shade_of(world).items()} == plain
    assert "the names go with its subfolders in order: 0 = name 0, 1 = name 1, 2 = name 2" in said[0]
    assert "10 = name 10, 11 = name 11." in said[0]


def test_more_names_than_folders_are_classes_without_pictures(tmp_path):
    world, said = read(fill(tmp_path, TEN), ["emu", "dog", "cat"])
    assert sorted(shade_of(world)) == ["cat", "dog"] and "has no pictures of emu" in said[0]


def test_pictures_that_are_learned_from_and_tested_on_are_said(tmp_path):
    """Under another name, in another class, in the folders' own parts or those that are cut."""
    fill(tmp_path / "parts", SPLIT)
    (tmp_path / "parts" / "test" / "dog" / "copy.png").write_bytes((tmp_path / "parts/train/cat/000.png").read_bytes())
    _, said = read(tmp_path / "parts")
    assert len(said) == 1
    assert "1 of 6 pictures to test on are copies of some that are learned from, so that they test nothing" in said[0]
    assert "(test/dog/copy.png)" in said[0]
    fill(tmp_path / "cut", {"cat": 4, "dog": 4})
    for path in (tmp_path / "cut").rglob("*.png"):
        path.write_bytes((tmp_path / "cut" / "dog" / "000.png").read_bytes())
    assert any("2 of 2 pictures to test on are copies" in one for one in read(tmp_path / "cut")[1])


def test_nothing_moves_when_another_class_comes_or_is_renamed(tmp_path):
    fill(tmp_path, {"cat": 10, "dog": 10, "emu": 10})

    def parts_of(name):
        world, _ = read(tmp_path)
        splits = {part: getattr(world, part) for part in ("train", "val", "test")}
        return {
            part: {
                image.getpixel((0, 0)) for image, y in zip(split.images, split.labels) if world.classnames[y] == name
            }
            for part, split in splits.items()
        }

    before = parts_of("dog")
    fill(tmp_path, {"ant": 3})
    (tmp_path / "cat").rename(tmp_path / "zebra")
    assert parts_of("dog") == before
    Image.new("RGB", (4, 4), (0, 99, 0)).save(tmp_path / "dog" / "more.png")
    after = parts_of("dog")
    assert sum(len(before[part] - after[part]) for part in before) <= 2  # to keep the shares, and no more


COUNTS = {  # suffixes of files, DSC0001 is a picture, too → what is counted
    "of a phone": ((".heic", ".HEIC", ".heic", ".HEIC"), "4 .heic"),
    "of a game": ((".tga", ".tga"), "2 .tga"),
    "of a camera": ((".cr2", ".nef", ".cr2", ".nef"), "2 .cr2, 2 .nef"),
    "without a suffix": (("", ""), "2 without a suffix"),
}
OTHERS = {
    f"a class whose pictures are {what}": Fault(
        suffixes,
        (
            f"1 subfolders have no picture that can be read and are no classes: emu ({counted})",
            f"files are not opened: {counted}; if these are pictures, convert them",
            CUT,
        ),
        in_words(CATS, (10, 4, 6)),
    )
    for what, (suffixes, counted) in COUNTS.items()
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_class_of_other_files_does_not_vanish_in_silence(kind, tmp_path):
    suffixes, sentences, kept = OTHERS[kind]
    fill(tmp_path, TEN)
    (tmp_path / "emu").mkdir()
    for n, suffix in enumerate(suffixes):
        (tmp_path / "emu" / f"DSC{n}{suffix}").write_bytes(b"something")
    (tmp_path / "cat" / "README").write_text("no picture, and no loss")
    (tmp_path / "cat" / "notes.txt").write_text("no picture, and no loss")
    world, said = read(tmp_path)
    assert len(said) == 3 and all(re.search(pattern(a), b) for a, b in zip(sentences, said)), said
    assert in_words(world.classnames, sizes(world)) == kept


def test_pictures_by_other_suffixes_are_pictures(tmp_path):
    (tmp_path / "a").mkdir()
    kinds = {"1.jfif": "JPEG", "2.JPE": "JPEG", "3.avif": "AVIF", "4.jp2": "JPEG2000", "5.PNM": "PPM", "6.TIF": "TIFF",
             "7.dib": "BMP", "8.apng": "PNG", "9.gif": "GIF"}  # fmt: skip
    for name, kind in kinds.items():
        NOISE.convert("RGB").save(tmp_path / "a" / name, kind)
    world, said = read(tmp_path, ["x", "y"])
    assert len(world.train) == 9 and all(image.size == (80, 60) for image in world.train.images)


def test_a_folder_of_other_files_says_what_they_are(tmp_path):
    (tmp_path / "1.heic").write_bytes(b"something")
    with pytest.raises(ValueError, match="has no pictures that can be read.* It holds 1 .heic instead, .*convert them"):
        read(tmp_path)
    (tmp_path / "2.jpg").write_bytes(b"something")
    with pytest.raises(ValueError, match="The 1 that are called so are broken"):
        read(tmp_path)


def link(path, target):
    path.symlink_to(target, target_is_directory=True)


CLASSES_STAY = in_words(CATS, (10, 4, 6))
LINKS = {  # beside the classes cat and dog
    "a link to a class elsewhere": Fault(
        lambda root: ((root / "cat").rename(root.parent / "cat"), link(root / "cat", root.parent / "cat")),
        (CUT,),
        CLASSES_STAY,
    ),
    "a link in a circle": Fault(
        lambda root: link(root / "loop", root), ("loop is a link to a folder around it", CUT), CLASSES_STAY
    ),
    "a link to the folder around it": Fault(
        lambda root: link(root / "dog" / "up", ".."), ("dog/up is a link to a folder around it", CUT), CLASSES_STAY
    ),
    "a link to everything": Fault(
        lambda root: link(root / "all", root.parent), ("all is a link to a folder around it", CUT), CLASSES_STAY
    ),
    "a link to what is there already": Fault(
        lambda root: link(root / "hound", "dog"),
        ("hound is a link to …/dog, which is read already, and is not followed", CUT),
        CLASSES_STAY,
    ),
    "a link to nothing": Fault(
        lambda root: link(root / "gone", "nowhere"), ("gone is a link to what is not there", CUT), CLASSES_STAY
    ),
    "a picture that is a link to nothing": Fault(
        lambda root: (root / "dog" / "gone.png").symlink_to("nowhere.png"),
        ("dog/gone.png is a link to what is not there", CUT),
        CLASSES_STAY,
    ),
    "a pipe": Fault(
        lambda root: os.mkfifo(root / "dog" / "pipe.png"), ("dog/pipe.png is no regular file", CUT), CLASSES_STAY
    ),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_followed_and_loops_are_not(kind, tmp_path):
    make, sentences, kept = LINKS[kind]
    root = fill(tmp_path / "root", TEN)
    make(root)
    world, said = read(root)
    assert in_words(world.classnames, sizes(world)) == kept, said
    assert len(said) == len(sentences) and all(re.search(pattern(a), b) for a, b in zip(sentences, said)), said


def test_all_of_these_at_once(tmp_path):
    root = fill(tmp_path / "root", TEN)
    for make, _, _ in LINKS.values():
        make(root)
    world, said = read(root)
    assert in_words(world.classnames, sizes(world)) == CLASSES_STAY
    for sentence in (sentence for row in LINKS.values() for sentence in row.sentences):
        assert any(re.search(pattern(sentence), one) for one in said), sentence


def test_two_folders_that_link_to_each_other(tmp_path):
    fill(tmp_path / "a", {"cat": 4}), fill(tmp_path / "b", {"dog": 4})
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(find_pictures(tmp_path / "a")) == 8 and len(find_pictures(tmp_path)) == 8


def test_a_folder_that_may_not_be_opened_is_said(tmp_path, monkeypatch):
    fill(tmp_path, TEN | {"emu": 3})
    plain = os.scandir

    def scandir(path):
        if str(path).endswith("emu"):
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    world, said = read(tmp_path)
    assert world.classnames == CATS and "emu cannot be opened (Permission denied)" in said[0]


PATHS = {  # what lies beside the folder pictures, the path that is given, and the kind of error
    "a path with a slip of the pen": Fault(
        (lambda home: None, "pixtures", FileNotFoundError),
        "There is no folder …/pixtures: …; beside it there is pictures",
        FOLDER_STAYS,
    ),
    "a path to nothing": Fault(
        (lambda home: None, "no/where", FileNotFoundError), "There is no folder …/no/where", FOLDER_STAYS
    ),
    "an archive in place of a folder": Fault(
        (lambda home: (home / "a.zip").write_bytes(b"PK"), "a.zip", NotADirectoryError),
        "a.zip is a file: give the folder of pictures, unpacked if this is an archive",
        FOLDER_STAYS,
    ),
    "an empty folder": Fault(
        (lambda home: (home / "e").mkdir(), "e", ValueError), "e has no pictures that can be read: put", FOLDER_STAYS
    ),
}


@pytest.mark.parametrize("kind", PATHS)
def test_a_mistyped_path_is_said(kind, tmp_path):
    (make, path, error), sentence, _ = PATHS[kind]
    fill(tmp_path, {"pictures": 2})
    make(tmp_path)
    before = times(tmp_path)
    with pytest.raises(error, match=pattern(sentence)):
        read(tmp_path / path)
    assert times(tmp_path) == before


def test_a_home_that_nobody_has():
    with pytest.raises(FileNotFoundError, match="begins with ~ and no home folder is known: spell it out"):
        read("~nobody-of-this-name/pictures")


def test_a_folder_whose_name_is_no_text_is_said(tmp_path):
    fill(tmp_path, TEN)
    os.mkdir(os.fsencode(tmp_path) + b"/b\xff")
    Image.new("RGB", (4, 4)).save(os.fsencode(tmp_path) + b"/b\xff/1.png")
    with pytest.raises(ValueError, match=r"The subfolder 'b\\udcff' of .* holds bytes that are no letters: rename it"):
        read(tmp_path)


def test_other_pictures_in_a_tar_file_are_counted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("1.jpg", JPEG), ("2.HEIC", b"x"), ("3.heic", b"x"), ("4.tga", b"x"), ("1.txt", b"cat")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    world, said = read(tmp_path / "a.tar")
    assert len(world.train) == 1 and len(said) == 1
    assert "3 pictures in" in said[0] and "are not opened: 2 .heic, 1 .tga; convert them" in said[0]


# --- through the command ---------------------------------------------------------------------------------------------

ADAPT = ["--student", "emoji-student-rn", "--teacher", "emoji-teacher-small", "--epochs", "1"]


@pytest.fixture(scope="module")
def emoji():
    return kd.load_world("emoji/activities")


def emoji_folder(world, root, tree):
    """``tree``: subfolder → (class, how many of its pictures, from the n-th on)."""
    for below, (label, number, first) in tree.items():
        (root / below).mkdir(parents=True, exist_ok=True)
        for n, row in enumerate((world.test.labels == label).nonzero().flatten()[first : first + number].tolist()):
            world.test.images[row].save(root / below / f"{n}.png")
    return root


@pytest.fixture
def words(tmp_path):
    (tmp_path / "words.txt").write_text("balloon\ntrophy\npaint\n")
    return str(tmp_path / "words.txt")


def test_adapt_says_what_it_decided_and_what_it_left_out(emoji, words, tmp_path, capsys):
    """A wrapper, Train beside an unlabelled test, a broken picture and a folder of HEIC, each said in plain words."""
    folder = emoji_folder(emoji, tmp_path / "mine", {"a/Train/balloon": (0, 8, 0), "a/Train/trophy": (1, 8, 0),
                                                     "a/test": (0, 3, 8)})  # fmt: skip
    (folder / "a/Train/trophy/broken.jpg").write_bytes(JPEG[:500])
    (folder / "a/Train/kite").mkdir()
    (folder / "a/Train/kite/1.heic").write_bytes(b"something")
    assert main(["adapt", str(folder), "--out", str(tmp_path / "o"), "--dictionary", words, *ADAPT]) == 0
    printed, said = capsys.readouterr()
    assert "8 pictures, 2 class names, kdpl with coop" in printed and "test accuracy, learned" in printed
    for sentence in ("kdpl: 1 of 20 pictures cannot be read and are left out: .*broken.jpg",
                     "kdpl: .*no picture that can be read and are no classes: a/Train/kite .1 .heic.",
                     "kdpl: .*All pictures lie in a, so", "kdpl: .*the 3 pictures of test lie in no class",
                     "kdpl: .*only train has labelled pictures, so each class is cut"):  # fmt: skip
        assert re.search(sentence, said), (sentence, said)
    assert "UserWarning" not in said and "Traceback" not in said


def test_adapt_learns_from_an_unlabelled_train_and_is_judged_on_the_test(emoji, words, tmp_path, capsys):
    folder = emoji_folder(
        emoji, tmp_path / "mine", {"train": (0, 6, 0), "test/balloon": (0, 4, 6), "test/trophy": (1, 4, 0)}
    )
    assert main(["adapt", str(folder), "--out", str(tmp_path / "o"), "--dictionary", words, *ADAPT]) == 0
    printed, said = capsys.readouterr()
    assert "6 pictures, 2 class names" in printed and "test accuracy, learned" in printed
    assert "the 6 training pictures have no labels: they are for KDPL" in said


def test_adapt_takes_subfolders_as_no_classes_when_asked(emoji, words, tmp_path, capsys):
    folder = emoji_folder(emoji, tmp_path / "mine", {".": (0, 4, 0), "more": (1, 4, 0)})
    command = ["adapt", str(folder), "--out", str(tmp_path / "o"), "--dictionary", words, *ADAPT]
    assert main([*command, "--names", "balloon", "trophy"]) == 2
    assert "4 pictures lie in the folder itself and 4 in subfolders" in capsys.readouterr().err
    assert main([*command, "--names", "balloon", "trophy", "--flat"]) == 0
    assert "8 pictures, 2 class names, kdpl" in capsys.readouterr().out


def test_predict_names_the_others_and_says_which_it_cannot_read(emoji, words, tmp_path, capsys):
    folder = emoji_folder(emoji, tmp_path / "mine", {".": (0, 4, 0)})
    command = ["adapt", str(folder), "--out", str(tmp_path / "o"), "--dictionary", words, *ADAPT]
    assert main([*command, "--names", "balloon", "trophy"]) == 0
    (folder / "00.jpg").write_bytes(JPEG[:500])
    capsys.readouterr()
    status = main(["predict", str(tmp_path / "o" / "classifier.safetensors"), str(folder), str(tmp_path / "typo.png")])
    printed, said = capsys.readouterr()
    assert status == 2 and len(printed.splitlines()) == 4 and all("balloon" in line for line in printed.splitlines())
    assert re.search(r"00.jpg cannot be read as a picture", said) and "There is no file" in said
    assert len(said.splitlines()) == 2


def test_reproduce_refuses_pictures_without_labels_before_anything_is_run(tmp_path, capsys):
    fill(tmp_path / "heap", {".": 3})
    command = ["reproduce", "--out", str(tmp_path / "o"), "--world"]
    assert main([*command, str(tmp_path / "heap")]) == 2
    said = capsys.readouterr().err
    assert "heap cannot be reproduced on: The pictures of" in said and "there is kdpl adapt" in said
    assert main([*command, str(tmp_path / "heep")]) == 2
    assert "There is no folder" in (said := capsys.readouterr().err) and "beside it there is heap" in said
    assert main([*command, "emoij/activities"]) == 2
    assert "There is no world 'emoij/activities'" in (said := capsys.readouterr().err) and "did you mean 'emoji" in said
    assert not (tmp_path / "o").exists()


PAGE = {
    "A file that is no picture": BROKEN,
    "A picture of an odd kind": ODD,
    "How a folder is laid out": LAYOUTS,
    "What a folder is asked for and does not have": MISTAKES,
    "Files that are not opened": OTHERS,
    "Links": LINKS,
    "Paths": PATHS,
}
