"""Pictures in a folder, at any depth; and what is said where there are none."""

import pytest
from PIL import Image

from kdpl_utils.worlds.finding import check_folder, find_pictures


def test_pictures_at_any_depth_are_found_in_order(tmp_path):
    for name in ("b.png", "a/c.png", "a/deep/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    expected = sorted(str(tmp_path / name) for name in ("a/c.png", "a/deep/d.jpg", "b.png"))
    assert sorted(find_pictures(tmp_path)) == find_pictures(tmp_path) == expected


def test_a_folder_without_pictures_says_what_it_has(tmp_path):
    for name in ("a.heic", "b.heic", "c.tga"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="has no pictures that can be read: .* It holds 2 .heic, 1 .tga instead"):
        find_pictures(tmp_path)


def test_a_mistyped_folder_is_told_its_neighbour(tmp_path):
    (tmp_path / "flowers").mkdir()
    with pytest.raises(FileNotFoundError, match="There is no folder .*flwers: .*; beside it there is flowers."):
        check_folder(tmp_path / "flwers")
    with pytest.raises(FileNotFoundError, match="give the path of a folder of pictures.$"):
        check_folder(tmp_path / "nowhere" / "flowers")
