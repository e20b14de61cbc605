"""Names and sentences: what CLIP reads alike is refused, and a class may have sentences of its own."""

import json
import warnings

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.clip.words import TEMPLATE, as_templates, check_names, check_templates, sentences_of
from kdpl_utils.learners.base import TextFeatureCache

OWN = {
    "hot_dog": ["A hot dog is a sausage in a bun.", "a drawing of a {}, seen from above."],
    "sushi": ["Sushi is rice with raw fish."],
}
NAMES = ["sushi", "hot dog"]


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


def test_each_name_has_its_own_sentences(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(OWN))
    for given in (OWN, path, str(path)):
        assert sentences_of(NAMES, as_templates(given)) == [
            ["Sushi is rice with raw fish."],
            ["A hot dog is a sausage in a bun.", "a drawing of a hot dog, seen from above."],
        ]
    assert sentences_of(NAMES, as_templates([TEMPLATE])) == [["a photo of a sushi."], ["a photo of a hot dog."]]
    with pytest.raises(ValueError, match="sentences of 'sushi'"):
        as_templates({"sushi": "Sushi is rice."})


def test_names_outside_get_the_general_sentence_with_a_warning():
    with pytest.warns(UserWarning, match=r"2 of 3 class names .* get 'a photo of a \{\}.': pizza, kiwi."):
        found = sentences_of(["pizza", "sushi", "kiwi"], as_templates(OWN))
    assert found == [["a photo of a pizza."], ["Sushi is rice with raw fish."], ["a photo of a kiwi."]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sentences_of(NAMES, as_templates(OWN))


def test_features_are_the_mean_over_a_names_own_sentences(student):
    def text(sentence):
        return student.model.encode_text(student.tokenizer([sentence]), normalize=True)[0]

    dog = torch.stack([text("A hot dog is a sausage in a bun."), text("a drawing of a hot dog, seen from above.")])
    expected = torch.stack([text("Sushi is rice with raw fish."), torch.nn.functional.normalize(dog.mean(0), dim=0)])
    torch.testing.assert_close(kd.encode_names(student, NAMES, OWN), expected, atol=1e-5, rtol=0)
    cache = TextFeatureCache(student, OWN)
    torch.testing.assert_close(cache(NAMES)[0], expected[0], atol=1e-5, rtol=0)
    assert set(cache.known) == set(NAMES)
