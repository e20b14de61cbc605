"""What goes wrong with pictures and folders, as a table: what is there → the sentence that is said → what is kept."""

import io
import re
import struct
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.apps.inspect import folder_images
from kdpl_utils.apps.predict import named_pictures
from kdpl_utils.worlds.photo_worlds import folder_world

# --- one broken picture among good ones, in every way in -------------------------------------------------------------


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = Image.effect_noise((80, 60), 60)
JPEG, PNG = encoded(NOISE, "JPEG"), encoded(NOISE, "PNG")
HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 40_000, 40_000) + PNG[24:]  # checksum and all else wrong
BROKEN = {  # what a file called .jpg holds → what is said of it
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n", "its content is none of"),
    "PDF": (b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", "its content is none of"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "its content is none of"),
    "a web page": (b"<!doctype html><title>404</title>", "its content is none of"),
    "nothing": (b"", "its content is none of"),
    "zeros": (bytes(5000), "its content is none of"),
    "a cut JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "a cut PNG": (PNG[: len(PNG) // 2], "."),
    "a PNG with a wrong header": (HUGE, "."),
    "a bomb of 400 million pixels": (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "more pixels than Pillow opens"),
    "a GIF without its colours": (encoded(NOISE, "GIF")[:200], "."),
    "a TIFF whose directory is elsewhere": (b"II*\0\xff\xff\xff\x7f", "."),
    "a WebP of noise": (b"RIFF\x40\0\0\0WEBPVP8 " + bytes(range(60)), "."),
    "a BMP of no size": (encoded(Image.new("RGB", (4, 4)), "BMP")[:18] + bytes(36), "."),
}


@pytest.fixture(params=BROKEN)
def broken(request, tmp_path):
    """A folder and a tar file with a broken picture between two good ones."""
    content, reason = BROKEN[request.param]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, bytes_of in (("1.jpg", JPEG), ("2.jpg", content), ("3.jpg", PNG)):
        (folder / name).write_bytes(bytes_of)
    with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
        archive.add(folder, ".")
    return tmp_path, rf"2\.jpg cannot be read as a picture \(.*{reason}.*\)"


def test_it_is_left_out_of_a_folder(broken):
    home, sentence = broken
    with pytest.warns(UserWarning, match=rf"1 of 3 pictures .*left out: .*{sentence}"):
        world = folder_world(home / "pictures", ["a", "b"], dictionary=["a"])
    assert [image.size for image in world.train.images] == [(80, 60)] * 2
    (home / "pictures" / "2.jpg").unlink()
    whole = folder_world(home / "pictures", ["a", "b"], dictionary=["a"])
    assert whole.train.key == world.train.key  # so that what was computed from the others stays


def test_it_is_left_out_of_a_tar_file(broken):
    home, sentence = broken
    with pytest.warns(UserWarning, match=rf"1 of 3 pictures .*left out: .*{sentence}"):
        world = folder_world(home / "pictures.tar", ["a", "b"], dictionary=["a"])
    assert [image.size for image in world.train.images] == [(80, 60)] * 2


def test_it_ends_no_stream(broken):
    home, _ = broken
    with pytest.warns(UserWarning, match="1 members cannot be read as pictures and were skipped: pictures.tar/2.jpg"):
        keys = [key for key, _ in kd.Shards(home / "pictures.tar", unreadable="skip")]
    assert keys == ["pictures.tar/1.jpg", "pictures.tar/3.jpg"]
    with pytest.raises(ValueError, match="pictures.tar/2.jpg cannot be read as a picture.*unreadable='skip'"):
        list(kd.Shards(home / "pictures.tar"))


def test_it_costs_predict_no_other(broken):
    home, sentence = broken
    rows = list(named_pictures(lambda images: [[("a", images[0].width)]], [home / "pictures"]))
    assert [row for _, row, _ in rows] == [[("a", 80)], [], [("a", 80)]]
    assert rows[0][2] == rows[2][2] == "" and re.search(sentence, rows[1][2])


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


ODD = {  # a file's name and picture → what two of its pixels look like, and its size
    "16 bit": ("a.png", lambda: (Image.fromarray(ramp(65535, np.uint16)), {}), (64, 48), {(0, 0): 0, (63, 47): 255}),
    "32 bit": ("a.tif", lambda: (Image.fromarray(ramp(2e9, np.int32)), {}), (64, 48), {(0, 0): 0, (63, 47): 255}),
    "float": ("a.tif", lambda: (Image.fromarray(ramp(1, np.float32)), {}), (64, 48), {(0, 0): 0, (63, 47): 255}),
    "a dark drawing": ("a.png", lambda: (drawing(), {}), (64, 48), {(0, 0): 255, (20, 20): 20}),
    "the same as WebP": ("a.webp", lambda: (drawing(), {"lossless": True}), (64, 48), {(0, 0): 255, (20, 20): 20}),
    "in grey": ("a.png", lambda: (drawing().convert("LA"), {}), (64, 48), {(0, 0): 255, (20, 20): 22}),
    "with a palette": ("a.png", lambda: (drawing().quantize(), {}), (64, 48), {(0, 0): 255, (20, 20): 20}),
    "turned by a quarter": ("a.jpg", turned, (48, 64), {(0, 63): 255, (47, 0): 0}),
    "for print": ("a.jpg", lambda: (Image.new("CMYK", (64, 48), (0, 0, 0, 255)), {}), (64, 48), {(0, 0): 0}),
    "black and white": ("a.png", lambda: (Image.new("1", (64, 48), 1), {}), (64, 48), {(0, 0): 255}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ODD)
def test_every_way_in_sees_the_same(kind, tmp_path):
    name, make, size, shades = ODD[kind]
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
