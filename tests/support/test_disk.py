from kdpl_utils.support.disk import fingerprint


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
