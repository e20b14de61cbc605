import json

import pytest

from kdpl_utils import files


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    (tmp_path / "emoji" / "sheets").mkdir(parents=True)
    (tmp_path / "emoji" / "sheets" / "a.webp").write_bytes(b"drawings")
    (tmp_path / "emoji" / "unfinished.part").write_bytes(b"half")
    files.write_checksums(tmp_path / "emoji")
    monkeypatch.setattr(files, "data_root", lambda: tmp_path)
    return tmp_path / "emoji"


def test_a_whole_file_is_found_by_its_name(shipped):
    assert files.data_file("sheets/a.webp").read_bytes() == b"drawings"
    assert list(json.loads((shipped / "checksums.json").read_text())) == ["sheets/a.webp"]


def test_a_missing_file_says_how_to_get_it_back(shipped):
    with pytest.raises(FileNotFoundError, match=r"b\.webp is missing: .*git checkout"):
        files.data_file("sheets/b.webp")


@pytest.mark.parametrize("name, content", [("sheets/a.webp", b"Drawings"), ("unlisted.json", b"{}")])
def test_a_file_that_was_not_published_is_refused(shipped, name, content):
    (shipped / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged .*git checkout"):
        files.data_file(name)


def test_every_shipped_file_is_whole_and_listed():
    folder = files.data_root() / "emoji"
    listed = json.loads((folder / "checksums.json").read_text())
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".part"}
    assert present - {"checksums.json"} == set(listed)
    assert all(files.data_file(name).exists() for name in listed)


@pytest.mark.parametrize("layout", ["kdpl_utils/_data", "data"])
def test_data_lies_in_a_wheel_or_beside_the_package(tmp_path, monkeypatch, layout):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "kdpl_utils" / "files.py"))
    with pytest.raises(FileNotFoundError, match="clone the whole repository, or reinstall"):
        files.data_root.__wrapped__()
    (tmp_path / layout / "emoji").mkdir(parents=True)
    assert files.data_root.__wrapped__() == tmp_path / layout


def test_a_fingerprint_tells_large_files_apart(tmp_path):
    """Also when only the end differs, far behind what 64 blocks from the start would reach; not by name or place."""
    content = bytearray(8 * 2**20)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    content[-1] = 1
    (tmp_path / "c").write_bytes(content)
    a, b, c = (files.fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c
    (tmp_path / "a").write_bytes(content)
    assert files.fingerprint(tmp_path / "a") == c  # a file that was replaced is read again
    whole = files.fingerprint(tmp_path)
    (tmp_path / "b").unlink()
    assert files.fingerprint(tmp_path) != whole
