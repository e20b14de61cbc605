import urllib.request
from urllib.error import URLError

import pytest

from kdpl_utils.support.disk import DiskFull
from kdpl_utils.worlds import dictionaries
from kdpl_utils.worlds.dictionaries import dictionary_report, imagenet21k_names, load_dictionary
from kdpl_utils.worlds.load import load_world


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_imagenet_21k_is_wordnet():
    names = imagenet21k_names()
    assert len(names) > 20_000 and len({n.casefold() for n in names}) == len(names)
    assert "pipistrelle" in names and not any("," in n or "_" in n or n != n.strip() for n in names)
    assert load_dictionary("imagenet21k", root=None) is names


def test_open_images_is_read_from_its_own_file(tmp_path, monkeypatch):
    """As it is published: ids and names, quoted where there is a comma, accents, some names twice."""
    lines = ["/m/0100nhbf,Sprenger's tulip", '/m/04bcr3,"Kitchen, dining"', "/m/01,Adélie penguin", "/m/02,tulip"]
    lines = ["LabelName,DisplayName", *lines, "/m/03,Tulip"]
    (tmp_path / "oidv7-class-descriptions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setenv("KDPL_DATA", str(tmp_path))
    names = ("Sprenger's tulip", "Kitchen, dining", "Adélie penguin", "tulip")
    assert load_world(dictionary="open_images").dictionary == names
    assert load_world(dictionary=tmp_path / "oidv7-class-descriptions.csv").dictionary == names


def test_without_open_images_it_says_what_to_put_where(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_world(root=tmp_path, dictionary="open_images")
    message = str(error.value)
    assert "put https://storage.googleapis.com/openimages/v7/oidv7-class-descriptions.csv there" in message
    assert str(tmp_path / "oidv7-class-descriptions.csv") in message and "\n" not in message


@pytest.mark.parametrize(
    "file, text",
    [("a.txt", "oak\n\n Ash tree \nOAK\n"), ("b.csv", "oak\nAsh tree\n"),
     ("c.csv", "id,ClassName\n1,oak\n2,Ash tree\n"),
     ("d.csv", "\ufeffClassName\noak\nAsh tree\n")],
)  # fmt: skip
def test_a_file_of_ones_own(tmp_path, file, text):
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert load_dictionary(tmp_path / file, tmp_path) == ("oak", "Ash tree")


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no dictionary 'imagnet21k': give 'imagenet21k', 'open_images', a list"
    ):
        load_dictionary("imagnet21k", tmp_path)
    (tmp_path / "a.csv").write_text("1,oak\n")
    with pytest.raises(ValueError, match="a.csv has 2 columns: call the one with the names ClassName"):
        load_dictionary(tmp_path / "a.csv", tmp_path)
    for empty in ([], [" "]):
        with pytest.raises(ValueError, match="no name in it"):
            load_dictionary(empty, tmp_path)
        with pytest.raises(ValueError, match="no name in it"):
            load_world(dictionary=empty)
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ValueError, match="no name in it"):
        load_dictionary(tmp_path / "b.csv", tmp_path)


def test_the_report_says_which_names_are_missing_and_what_is_near():
    dictionary = ["Great Dane", "Birman cat", "pug dog", "Sphynx cat", "tulip"]
    report = dictionary_report(dictionary, ["great dane", "Birman", "tulip", "sphinx cat", "xylophone"])
    assert report.held == ("great dane", "tulip") and report.size == 5 and report.share == 0.4
    assert report.missing == {"Birman": "Birman cat", "sphinx cat": "Sphynx cat", "xylophone": None}
    assert str(report) == (
        "2 of 5 class names (40%) are among the dictionary's 5; missing: Birman (nearest: Birman cat), sphinx cat "
        "(nearest: Sphynx cat), xylophone."
    )
    assert str(dictionary_report(["a_b"], ["A b"])) == "1 of 1 class names (100%) are among the dictionary's 1."
    assert str(dictionary_report(["oak"], [f"name {i}" for i in range(12)])).endswith("name 9 and 2 more.")
    with pytest.raises(ValueError, match="no class names"):
        dictionary_report(dictionary, [])


def test_the_nearest_spelling_is_difflibs_on_the_whole_dictionary():
    """The trigram index is only there to be fast: no name elsewhere has a higher ratio."""
    import difflib

    names = imagenet21k_names()[::10]
    wanted = ["tabby cat", "golden retreiver", "monark butterfly", "aeroplane", "zebras"]
    report = dictionary_report(names, wanted)
    for name, near in report.missing.items():
        ratio = [
            difflib.SequenceMatcher(None, dictionaries._plain(name), dictionaries._plain(n)).ratio() for n in names
        ]
        assert near is None and max(ratio) < 0.65 or max(ratio) - ratio[names.index(near)] < 0.05


def test_the_emoji_dictionary_holds_every_true_name():
    world = load_world()
    assert dictionary_report(world.dictionary, world.classnames).share == 1


def test_a_disk_without_room_is_no_missing_list(tmp_path, monkeypatch):
    """The list could be fetched: more room helps, and putting it there by hand does not."""

    def full(address, path):
        raise DiskFull("no room")

    monkeypatch.setattr(dictionaries, "fetch_file", full)
    with pytest.raises(DiskFull, match="no room"):
        load_dictionary("open_images", lambda: tmp_path)
