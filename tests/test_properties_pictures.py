"""What holds for any picture file, any picture and any folder, however damaged or odd: tried on drawn examples."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from properties import cases

from kdpl_utils.support.pictures import as_rgb, open_picture
from kdpl_utils.worlds.folders import class_order, read_folder
from kdpl_utils.worlds.layouts import FILLERS, WORDS, layout_of, part_of, tree_of
from kdpl_utils.worlds.photos import cut

# --- damaged files ---------------------------------------------------------------------------------------------------


def encoded(kind, mode="RGB", **options):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x829A] = 6, "a camera", 0.5
    options = {"exif": exif} | options if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else options
    buffer = io.BytesIO()
    Image.effect_noise((24, 16), 60).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


FILES = [
    encoded("JPEG"), encoded("JPEG", "CMYK"), encoded("PNG"), encoded("PNG", "P"), encoded("PNG", "LA"),
    encoded("PNG", "I;16"), encoded("WEBP"), encoded("GIF", "P"), encoded("BMP"), encoded("TIFF"),
    encoded("TIFF", "F"), encoded("TIFF", compression="tiff_lzw"), encoded("PPM"), encoded("JPEG2000"), encoded("AVIF"),
]  # fmt: skip


@st.composite
def damaged(draw):
    """A picture's file with some bytes changed, put in, or taken out."""
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, min(len(content), 400) - 1)) | st.integers(0, max(0, len(content) - 1)))
        new = draw(st.binary(min_size=0, max_size=6))
        taken = draw(st.integers(0, 40)) if draw(st.booleans()) else len(new)
        content[place : place + taken] = new
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 4)) == 0 else content)


@pytest.mark.filterwarnings("ignore")
@cases(400)
@given(damaged(), st.booleans(), st.booleans())
def test_a_damaged_file_is_a_picture_or_a_sentence(content, upright, only_look):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
        try:
            picture = open_picture(io.BytesIO(content), "mine.jpg", upright, only_look)
        except ValueError as error:
            sentence = str(error)
            assert sentence.startswith("mine.jpg cannot be read as a picture (") and "\n" not in sentence
        else:
            assert picture.mode == "RGB" and picture.info == {} and min(picture.size) > 0


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "La", "RGBa", "RGBX"]


@cases(140)  # with KDPL_CASES=100000 nearly all that there are
@given(st.sampled_from(MODES), st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 1, 6, 99]))
def test_any_picture_becomes_rgb_once(mode, width, height, orientation):
    image = Image.new(mode, (width, height))
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.info["exif"] = exif.tobytes()
    opened = as_rgb(image)
    assert opened.mode == "RGB" and opened.size == ((height, width) if orientation == 6 else (width, height))
    opened.info = {}
    assert as_rgb(opened) is opened


WIDE = st.sampled_from([np.uint16, np.int32, np.float32])


@cases(150)
@given(WIDE, st.lists(st.integers(0, 65535), min_size=2, max_size=30))
def test_wide_numbers_keep_their_order(kind, numbers):
    """The lighter of two pixels is never the darker one afterwards, and nothing is cut off at white."""
    shades = np.asarray(as_rgb(Image.fromarray(np.array([numbers], dtype=kind))))[0, :, 0].astype(int)
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(shades[order]) >= 0).all()
    assert max(numbers) < 256 or len({shades[i] for i in range(len(numbers))}) > 1 or np.ptp(numbers) < 600


# --- folders ---------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["train", "Test", "valid", "dev", "eval", "images", "cat", "dog", "1", "2", "10", "emu", "train station", "data"]
)
TREES = st.dictionaries(st.lists(NAMES, max_size=4).map(tuple), st.integers(1, 12), min_size=1, max_size=8)


def places(tree):
    return {f"{'/'.join(parts)}/{n}.png": parts for parts, number in tree.items() for n in range(number)}


def sorted_out(layout):
    """Every picture that has a place, once for each place."""
    labelled = [p for classes in layout.classes.values() for pictures in classes.values() for p in pictures]
    return labelled + [p for pictures in layout.unlabelled.values() for p in pictures]


@cases(150)
@given(TREES)
def test_every_picture_has_one_place_or_is_said(tree):
    every = places(tree)
    try:
        layout = layout_of(tree_of(every))
    except ValueError as error:
        assert () in tree and "pictures lie in the folder itself" in str(error)
        return
    found = sorted_out(layout)
    assert len(found) == len(set(found)) and set(found) <= set(every) and found
    assert len(found) == len(every) or layout.said
    assert all("\n" not in sentence for sentence in layout.said)


# Several folders side by side, so that none of them is a wrapper already.
BELOW = st.dictionaries(st.lists(NAMES, max_size=3).map(tuple), st.integers(1, 12), min_size=1, max_size=3)
FORESTS = st.dictionaries(NAMES, BELOW, min_size=2, max_size=4).map(
    lambda forest: {(top, *parts): number for top, tree in forest.items() for parts, number in tree.items()}
)


@cases(150)
@given(FORESTS, st.sampled_from(["pets", "My Data", "train"]))
def test_a_wrapper_changes_nothing_but_a_sentence(tree, wrapper):
    plain = layout_of(tree_of(places(tree)))
    wrapped = layout_of(tree_of(places({(wrapper, *parts): number for parts, number in tree.items()})))
    strip = {part: set(classes) for part, classes in wrapped.classes.items()}
    assert strip == {part: set(classes) for part, classes in plain.classes.items()}
    assert len(sorted_out(wrapped)) == len(sorted_out(plain)) and len(wrapped.said) == len(plain.said) + 1


@cases(150)
@given(
    st.sampled_from([(part, word) for part, words in WORDS.items() for word in words]),
    st.sampled_from(["", *sorted(FILLERS)]),
    st.sampled_from(["_", "-", ".", " "]),
    st.sampled_from([str.lower, str.upper, str.capitalize]),
    st.sampled_from(["", "2017", "_1"]),
    st.booleans(),
)
def test_every_usual_name_of_a_part_is_known(meant, filler, between, case, number, first):
    part, word = meant
    words = [case(word), *([case(filler)] if filler else [])]
    name = between.join(words[:: 1 if first else -1]) + number
    assert part_of(name) == part
    assert part_of(f"{name}{between}station") is None


@cases(150)
@given(st.sets(st.text(st.characters(categories=("Ll", "Lu", "Nd", "Zs"), include_characters="_-."), min_size=1)))
def test_classes_are_ordered_the_same_each_time(names):
    ordered = class_order(names)
    assert sorted(ordered) == sorted(names) and ordered == class_order(set(reversed(ordered)))
    if names and all(name.isascii() and name.isdigit() for name in names):
        assert [int(name) for name in ordered] == sorted(int(name) for name in ordered)


@cases(150)
@given(st.sets(st.integers(0, 999), min_size=1, max_size=40), st.integers(1000, 1020))
def test_one_picture_more_moves_few_others(numbers, more):
    before = [set(part) for part in cut(numbers, "key", 0.5, 0.2)]
    after = [set(part) for part in cut([*numbers, more], "key", 0.5, 0.2)]
    assert set().union(*after) - set().union(*before) == {more}
    assert all(len(was - now) <= 2 for was, now in zip(before, after))


CLASSES = ["beer mug", "banana", "baby bottle", "Ash", "été"]


@cases(10)  # there are 360
@given(st.permutations(CLASSES), st.sampled_from([str, str.upper, lambda name: name.replace(" ", "_")]))
def test_names_find_their_folders_in_any_order(tmp_path_factory, order, spelling):
    root = tmp_path_factory.mktemp("root")
    for shade, name in enumerate(CLASSES):
        (root / name).mkdir()
        Image.new("L", (2, 2), shade).save(root / name / "1.png")
    given_names = [spelling(name) for name in order]
    with pytest.warns(UserWarning, match="each class is cut"):
        files = read_folder(root, given_names)
    assert files.classnames == given_names
    for path, label in [*files.train, *files.val, *files.test]:
        assert f"/{order[label]}/" in path
