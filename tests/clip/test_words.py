"""Names and sentences: what no classifier could use is refused."""

import pytest

from kdpl_utils.clip.words import check_names, check_templates


def test_names_are_checked_once():
    names = check_names(("hot_dog", "sushi"))
    assert names == ["hot dog", "sushi"] and check_names(names) is names


@pytest.mark.parametrize(
    "names, sentence",
    [
        ("sushi", "one string"),
        ([], "empty"),
        (["sushi", " "], "' ' is not a class name"),
        (["a", "<end_of_text>"], "is not a class name"),
        (["hot_dog", "Hot  Dog"], "'hot dog' and 'Hot  Dog' as the same words"),
        (["caf\u00e9", "cafe\u0301"], "as the same words"),
        (["8ball", "8 ball"], "as the same words"),
    ],
)
def test_names_that_no_classifier_can_use(names, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_names(names)


def test_a_dictionary_may_spell_one_thing_twice():
    assert check_names(["8ball", "8 ball"], dictionary=True) == ["8ball", "8 ball"]
    with pytest.raises(ValueError, match="as the same words"):
        check_names(["ball", "ball"], dictionary=True)


@pytest.mark.parametrize("templates", ["a photo of a {}.", [], ["a photo"], ["{} and {}"], ["{name}"]])
def test_templates_need_one_place_for_the_name(templates):
    with pytest.raises(ValueError, match="template"):
        check_templates(templates)
