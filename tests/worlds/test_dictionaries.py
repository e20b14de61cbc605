"""Dictionaries: where their names come from, each once."""

import urllib.request
from urllib.error import URLError

import pytest

from kdpl_utils.worlds.dictionaries import dictionary_report, imagenet21k_names, load_dictionary
from kdpl_utils.worlds.load import load_world


def test_imagenet_21k_is_wordnet():
    names = imagenet21k_names()
    assert len(names) > 20_000 and len({n.casefold() for n in names}) == len(names)
    assert "pipistrelle" in names and not any("," in n or n != n.strip() for n in names)
    assert load_dictionary("imagenet21k") is names


def test_open_images_is_read_from_its_own_file(tmp_path, monkeypatch):
    """As it is published: ids and names, quoted where there is a comma, accents, some names twice."""
    lines = ["LabelName,DisplayName", "/m/0,Sprenger's tulip", '/m/1,"Kitchen, dining"', "/m/2,Adélie penguin"]
    lines += ["/m/3,tulip", "/m/4,Tulip"]
    (tmp_path / "oidv7-class-descriptions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setenv("KDPL_DATA", str(tmp_path))
    names = ("Sprenger's tulip", "Kitchen, dining", "Adélie penguin", "tulip")
    assert load_world(dictionary="open_images").dictionary == names


def test_without_open_images_it_says_what_to_put_where(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(FileNotFoundError) as error:
        load_world(root=tmp_path, dictionary="open_images")
    message = str(error.value)
    assert "put https://storage.googleapis.com/openimages/v7/oidv7-class-descriptions.csv there" in message
    assert str(tmp_path / "oidv7-class-descriptions.csv") in message and not list(tmp_path.iterdir())


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffoak\n\n Ash tree \nOAK\nash_tree\n", encoding="utf-8")
    assert load_dictionary(tmp_path / "a.txt") == ("oak", "Ash tree")
    (tmp_path / "b.csv").write_text("id,ClassName\n1,oak\n")
    (tmp_path / "c.txt").write_text("\n")
    for name, problem in (("b.csv", "b.csv is not a text file with one name a line"), ("c.txt", "c.txt is empty")):
        with pytest.raises(ValueError, match=problem):
            load_dictionary(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="imagnet21k"):
        load_dictionary("imagnet21k")


def test_the_report_says_which_names_are_missing_and_what_is_near():
    dictionary = ["Great Dane", "Birman cat", "pug dog", "tulip"]
    assert dictionary_report(dictionary, ["great dane", "Birman", "tulip", "xylophone"]) == (
        "2 of 4 class names are among the dictionary's 4; not Birman (nearest: Birman cat), xylophone (nearest: none)."
    )
    assert dictionary_report(["a_b"], ["A b"]) == "1 of 1 class names are among the dictionary's 1."


def test_the_emoji_dictionary_holds_every_true_name():
    world = load_world()
    assert set(world.classnames) <= set(world.dictionary)
