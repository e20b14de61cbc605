import pytest
from PIL import Image

from kdpl_utils.support.extras import optional
from kdpl_utils.worlds.photos import (
    cut,
    cut_classes,
    is_picture,
    of_labels,
    open_photo,
    pictures_in,
    sample,
    why_unreadable,
)


def test_a_cut_is_of_the_set_and_the_key():
    items = [f"{n:03d}" for n in range(100)]
    parts = cut(items, "key", 0.5, 0.2)
    assert [len(part) for part in parts] == [50, 20, 30] and sorted(sum(parts, [])) == items
    assert parts == cut(reversed(items), "key", 0.5, 0.2) and all(part == sorted(part) for part in parts)
    assert parts != cut(items, "other", 0.5, 0.2)
    assert parts[0] != items[:50]  # drawn, not counted


@pytest.mark.parametrize(
    "n, shares, sizes",
    [(0, (0.5, 0.2), (0, 0, 0)), (1, (0.5, 0.2), (1, 0, 0)), (2, (0.5, 0.2), (1, 0, 1)),
     (120, (0.5, 0.2), (60, 24, 36)), (99, (0.8, 0.2), (79, 20, 0)), (3, (0.8, 0.2), (2, 1, 0))],
)  # fmt: skip
def test_shares_are_rounded_and_training_gets_the_first(n, shares, sizes):
    assert tuple(len(part) for part in cut(range(n), "key", *shares)) == sizes


def test_classes_are_cut_one_by_one():
    parts = cut_classes({"a": range(10), "b": range(10, 20)}, "key", 0.5, 0.2)
    assert [[y for _, y in part] for part in parts] == [[0] * 5 + [1] * 5, [0] * 2 + [1] * 2, [0] * 3 + [1] * 3]
    assert all(item // 10 == y for part in parts for item, y in part)
    assert of_labels([("a", 2), ("b", 0), ("c", 2)], 3) == [["b"], [], ["a", "c"]]


def test_one_picture_more_moves_one_other_of_a_part_at_most():
    names = [f"{n:03d}.jpg" for n in range(40)]
    before = [set(part) for part in cut(names, "key", 0.5, 0.2)]
    for more in ("0000.jpg", "new.jpg", "zzz.jpg"):
        after = cut([*names, more], "key", 0.5, 0.2)
        assert all(len(was - set(now)) <= 1 for was, now in zip(before, after))
    there, here = cut([f"/else/{n}" for n in names], "key", 0.5, 0.2), cut(names, "key", 0.5, 0.2)
    assert [[n.removeprefix("/else/") for n in part] for part in there] == list(here)


def test_draw_takes_all_of_few():
    items = list(range(50))
    assert sample(items, 80, "key") == items and len(set(sample(items, 8, "key"))) == 8
    assert sample(items[::-1], 8, "key") == sample(items, 8, "key") != sample(items, 8, "other")


def test_pictures_are_told_by_their_names(tmp_path):
    names = ["b.JPG", "a.jpeg", "c.webp", "d.txt", ".e.png", "._f.jpg", "g.png.part", "jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert pictures_in(tmp_path) == [f"{tmp_path}/{name}" for name in ("a.jpeg", "b.JPG", "c.webp")]
    assert [name for name in names if is_picture(name)] == ["b.JPG", "a.jpeg", "c.webp"]
    assert "a.jpeg cannot be read" in why_unreadable(tmp_path / "a.jpeg")
    assert "There is no file" in why_unreadable(tmp_path / "nowhere.png")


def test_a_package_that_is_there():
    assert optional("json", "data").dumps([1]) == "[1]"


def test_photographs_stay_as_the_camera_saw_them_unless_asked(tmp_path):
    image, exif = Image.new("RGB", (6, 4)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert open_photo(tmp_path / "a.jpg").size == (6, 4) and open_photo(tmp_path / "a.jpg", upright=True).size == (4, 6)


def test_a_picture_cut_short_is_named(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with pytest.raises(
        ValueError, match="b.jpg cannot be read as a picture .*fetch or convert it again, or remove it."
    ):
        open_photo(tmp_path / "b.jpg")
