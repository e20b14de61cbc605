import io
import sys
import tarfile
import warnings

import pytest
from PIL import Image

from kdpl_utils.worlds import photos
from kdpl_utils.worlds import shards as streams
from kdpl_utils.worlds.load import load_world
from kdpl_utils.worlds.photo_worlds import folder_world
from kdpl_utils.worlds.shards import Shards, is_shards, tar_pictures


def png(grey):
    buffer = io.BytesIO()
    Image.new("L" if grey % 2 else "RGB", (4, 4), grey if grey % 2 else (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    """Three shards of two samples each, with a caption and a label beside every picture, as webdataset has them."""
    for s in range(3):
        members = {}
        for n in range(2):
            key = f"{s}{n:03d}"
            members |= {f"{key}.png": png(10 * s + n), f"{key}.txt": b"a caption", f"{key}.cls": b"1"}
        write_shard(tmp_path / f"train-{s:02d}.tar", members)
    return tmp_path


KEYS = [f"train-{s:02d}.tar/{s}{n:03d}.png" for s in range(3) for n in range(2)]


def seen(stream):
    pairs = list(stream)
    assert all(image.mode == "RGB" for _, image in pairs)
    return [(key, image.getpixel((0, 0))[0]) for key, image in pairs]


EVERY = list(zip(KEYS, [0, 1, 10, 11, 20, 21], strict=True))


def test_pictures_come_in_order_with_their_keys(shards):
    names = [shards / f"train-{s:02d}.tar" for s in range(3)]
    for given in (
        names,
        f"{shards}/train-{{00..02}}.tar",
        f"{shards}/*.tar",
        [f"{shards}/train-{{00..01}}.tar", names[2]],
    ):
        stream = Shards(given)
        assert seen(stream) == EVERY == seen(stream)  # again from the start
    assert seen(Shards(names[1])) == EVERY[2:4]


def test_processes_side_by_side_see_each_picture_once(shards):
    parts = [seen(Shards(f"{shards}/*.tar", part=(k, 2))) for k in range(2)]
    assert parts == [EVERY[:2] + EVERY[4:], EVERY[2:4]]
    for part in ((2, 2), (0, 4), (-1, 2)):
        with pytest.raises(ValueError, match="at least n shards|of at least 0"):
            Shards(f"{shards}/*.tar", part=part)


def test_what_is_done_is_not_decoded_again(shards, monkeypatch):
    assert seen(Shards(f"{shards}/*.tar", skip=set(KEYS[1:4]))) == [EVERY[0], *EVERY[4:]]
    monkeypatch.setattr(Image, "open", None)
    assert seen(Shards(f"{shards}/*.tar", skip=KEYS)) == []


def test_batches_keep_keys_beside_pictures(shards):
    batches = list(Shards(f"{shards}/*.tar").batches(4))
    assert [len(keys) for keys, _ in batches] == [4, 2]
    assert [pair for keys, images in batches for pair in seen(zip(keys, images, strict=True))] == EVERY


def test_one_picture_is_in_memory_at_a_time(shards, monkeypatch):
    read = []
    plain = tarfile.ExFileObject.read if hasattr(tarfile.ExFileObject, "read") else io.BufferedReader.read
    monkeypatch.setattr(tarfile.ExFileObject, "read", lambda self, *a: read.append(1) or plain(self, *a), raising=False)
    stream = iter(Shards(f"{shards}/*.tar"))
    next(stream)
    assert len(read) == 1


def test_compressed_shards_and_folders_inside(tmp_path):
    write_shard(tmp_path / "a.tar.gz", {"./cats/1.png": png(2), "cats/._1.png": b"", "dogs/1.png": png(4)}, "w:gz")
    assert seen(Shards(tmp_path / "a.tar.gz")) == [("a.tar.gz/cats/1.png", 2), ("a.tar.gz/dogs/1.png", 4)]


def test_unreadable_members_are_named(tmp_path):
    write_shard(tmp_path / "a.tar", {"1.png": png(2), "2.jpg": b"no picture", "3.png": png(4)})
    with pytest.raises(
        ValueError, match="a.tar/2.jpg cannot be read as a picture: remove it, or say unreadable='skip'"
    ):
        list(Shards(tmp_path / "a.tar"))
    with pytest.warns(UserWarning, match="1 members cannot be read as pictures and were skipped: a.tar/2.jpg."):
        assert [grey for _, grey in seen(Shards(tmp_path / "a.tar", unreadable="skip"))] == [2, 4]
    with pytest.raises(ValueError, match="unreadable = 'pass': choose"):
        Shards(tmp_path / "a.tar", unreadable="pass")


def test_a_shard_cut_short_is_named(tmp_path):
    write_shard(tmp_path / "a.tar", {f"{n}.png": png(n) * 20 for n in range(9)})
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"a.tar is no tar file, or was cut short .*fetch it again"):
        list(Shards(tmp_path / "a.tar"))
    (tmp_path / "b.tar").write_bytes(b"nothing like a tar file" * 100)
    with pytest.raises(ValueError, match="b.tar is no tar file"):
        list(Shards(tmp_path / "b.tar"))


def test_shards_that_are_not_there(tmp_path, shards):
    for pattern in (tmp_path / "none.tar", f"{tmp_path}/none*.tar", f"{tmp_path}/train-{{02..03}}.tar"):
        with pytest.raises(FileNotFoundError, match="There is no shard .*give .tar files"):
            Shards(pattern)
    (tmp_path / "more").mkdir()
    write_shard(tmp_path / "more" / "train-00.tar", {"1.png": png(2)})
    with pytest.raises(ValueError, match="Two shards are called train-00.tar"):
        Shards([tmp_path / "train-00.tar", tmp_path / "more" / "train-00.tar"])


def test_addresses_are_read_through_webdataset(shards, monkeypatch):
    pytest.importorskip("webdataset")
    pattern = f"pipe:cat {shards}/train-{{00..02}}.tar"
    assert seen(Shards(pattern)) == EVERY  # the same keys as from files
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ModuleNotFoundError, match=r"This needs webdataset: pip install webdataset, or .*\[stream\]"):
        list(Shards(pattern))


def test_keys_of_addresses_hold_no_query():
    for shard in ("https://host/a-0.tar?token=x/y", "pipe:aws s3 cp s3://bucket/a-0.tar -", "/data/a-0.tar"):
        assert streams._name(shard) == "a-0.tar"
    assert streams._name("/data/b.tar.gz") == "b.tar.gz" and streams._name("/data/odd") == "odd"


def test_shards_that_webdataset_wrote(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with webdataset.ShardWriter(f"{tmp_path}/w-%03d.tar", maxcount=2, verbose=0) as sink:
            for n in range(3):
                sink.write({"__key__": f"sample{n}", "png": Image.new("RGB", (4, 4), (n, 0, 0)), "cls": n})
    expected = [(f"w-{n // 2:03d}.tar/sample{n}.png", n) for n in range(3)]
    assert seen(Shards(f"{tmp_path}/w-{{000..001}}.tar")) == expected


# --- shards as a world


def test_a_world_opens_pictures_where_they_lie_in_the_shards(shards, monkeypatch):
    world = load_world(shards / "train-{00..02}.tar", dictionary=["tree", "leaf"])
    assert [world.train.images[i].getpixel((0, 0))[0] for i in (5, 0, 3)] == [21, 0, 11]
    assert (world.classnames, world.train.labels.tolist(), len(world.test)) == ((), [-1] * 6, 0)
    assert [str(p).removeprefix(f"{shards}/") for p in tar_pictures(shards / "train-*.tar")] == KEYS
    monkeypatch.chdir(shards)
    named = folder_world("train-*.tar", ["tree", "leaf"], dictionary=["tree", "leaf"])
    assert named.train.key == folder_world(shards / "train-*.tar", ["tree", "leaf"], dictionary=["a"]).train.key
    assert named.classnames == ("tree", "leaf") and len(load_world("train-01.tar", dictionary=["tree"]).train) == 2
    with pytest.raises(ValueError, match="Pictures in shards have no labels"):
        folder_world("train-*.tar", ["tree", "leaf"], labelled=True)


def test_a_shard_that_is_replaced_is_another_list(shards):
    key = load_world(shards / "train-00.tar", dictionary=["tree"]).train.key
    assert key == load_world(shards / "train-00.tar", dictionary=["tree"]).train.key
    write_shard(shards / "train-00.tar", {"0000.png": png(100), "0001.png": png(7)})
    assert key != load_world(shards / "train-00.tar", dictionary=["tree"]).train.key


@pytest.mark.parametrize("mode, content, sentence", [
    ("w:gz", {"a.png": b"x"}, "compressed, cut short, or no tar file"),
    ("w", {"a.txt": b"x"}, "There is no picture that can be read in"),
])  # fmt: skip
def test_shards_that_cannot_be_a_world(tmp_path, mode, content, sentence):
    write_shard(tmp_path / "a.tar", content, mode)
    with pytest.raises(ValueError, match=sentence):
        load_world(tmp_path / "a.tar", dictionary=["tree"])


def test_a_shard_cut_short_is_no_world(shards):
    path = shards / "train-00.tar"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="train-00.tar is compressed, cut short"):
        tar_pictures(path)


def test_what_is_broken_in_a_shard_is_named_when_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "CHECKED", 0)
    write_shard(tmp_path / "a.tar", {"b.png": b"no picture"})
    with pytest.raises(ValueError, match="a.tar/b.png cannot be read as a picture"):
        load_world(tmp_path / "a.tar", dictionary=["tree"]).train.images[0]


def test_elsewhere_is_no_world():
    with pytest.raises(ValueError, match="lies elsewhere: fetch it"):
        load_world("https://example.org/train-000.tar", dictionary=["tree"])


@pytest.mark.parametrize("path, answer", [("a.tar", True), ("x/train-{00..02}.tar", True), ("a.tar.gz", True),
                                          ("a.target", False), ("tar", False)])  # fmt: skip
def test_what_names_shards(path, answer):
    assert is_shards(path) is answer
