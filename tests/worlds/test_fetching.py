"""What was fetched is moved into place, and what lies there stays."""

from kdpl_utils.worlds.fetching import fetch_beside


def test_what_is_there_stays_and_the_rest_comes_beside_it(tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "images" / "1.png").write_text("mine")

    def fetch(home):
        (home / "set" / "images" / "more").mkdir(parents=True)
        for name in ("1.png", "2.png", "more/3.png"):
            (home / "set" / "images" / name).write_text("fetched")
        (home / "set" / "list.txt").write_text("fetched")

    fetch_beside("set", tmp_path, "set", [], fetch, lambda: False)
    images = tmp_path / "set" / "images"
    assert (images / "1.png").read_text() == "mine"
    assert [(images / name).read_text() for name in ("2.png", "more/3.png", "../list.txt")] == ["fetched"] * 3
    assert not list(tmp_path.glob(".fetching-set")), "nothing is left of the folder that it was fetched to"


def test_what_another_process_fetched_meanwhile_is_not_fetched_again(tmp_path):
    asked = []
    fetch_beside("set", tmp_path, "set", [], asked.append, lambda: True)
    assert asked == [] and not (tmp_path / "set").exists()
