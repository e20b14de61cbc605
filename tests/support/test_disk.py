import pytest

from kdpl_utils.support.disk import fingerprint, read_json


def test_a_fingerprint_tells_large_files_apart(tmp_path):
    """Also when only the end differs, far behind what 64 blocks from the start would reach; not by name or place."""
    content = bytearray(8 * 2**20)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    content[-1] = 1
    (tmp_path / "c").write_bytes(content)
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c
    (tmp_path / "a").write_bytes(content)
    assert fingerprint(tmp_path / "a") == c  # a file that was replaced is read again
    whole = fingerprint(tmp_path)
    (tmp_path / "b").unlink()
    assert fingerprint(tmp_path) != whole


def test_json_that_nobody_meant_is_damaged_like_any_other(tmp_path):
    """Python's reader ends with another kind of error there than for all other faults."""
    (tmp_path / "scores.json").write_text("[" * 100_000)
    with pytest.warns(UserWarning, match="scores.json"):
        assert read_json(tmp_path / "scores.json") is None
