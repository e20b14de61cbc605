import json

import pytest

from kdpl_utils.support import shipped as files
from kdpl_utils.support.disk import write_checksums
from kdpl_utils.support.shipped import data_file, data_root


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    (tmp_path / "emoji" / "sheets").mkdir(parents=True)
    (tmp_path / "emoji" / "sheets" / "a.webp").write_bytes(b"drawings")
    (tmp_path / "emoji" / "unfinished.part").write_bytes(b"half")
    write_checksums(tmp_path / "emoji")
    monkeypatch.setattr(files, "data_root", lambda: tmp_path)
    data_file.cache_clear()
    yield tmp_path / "emoji"
    data_file.cache_clear()


def test_a_whole_file_is_found_by_its_name(shipped):
    assert data_file("sheets/a.webp").read_bytes() == b"drawings"
    assert list(json.loads((shipped / "checksums.json").read_text())) == ["sheets/a.webp"]


def test_a_missing_file_says_how_to_get_it_back(shipped):
    with pytest.raises(FileNotFoundError, match=r"b\.webp is missing: .*git checkout"):
        data_file("sheets/b.webp")


@pytest.mark.parametrize("name, content", [("sheets/a.webp", b"Drawings"), ("unlisted.json", b"{}")])
def test_a_file_that_was_not_published_is_refused(shipped, name, content):
    (shipped / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged .*git checkout"):
        data_file(name)


def test_every_shipped_file_is_whole_and_listed():
    folder = data_root() / "emoji"
    listed = json.loads((folder / "checksums.json").read_text())
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".part"}
    assert present - {"checksums.json"} == set(listed)
    assert all(data_file(name).exists() for name in listed)


@pytest.mark.parametrize("layout", ["kdpl_utils/_data", "data"])
def test_data_lies_in_a_wheel_or_beside_the_package(tmp_path, monkeypatch, layout):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "kdpl_utils" / "support" / "shipped.py"))
    with pytest.raises(FileNotFoundError, match="clone the whole repository, or reinstall"):
        data_root.__wrapped__()
    (tmp_path / layout / "emoji").mkdir(parents=True)
    assert data_root.__wrapped__() == tmp_path / layout
