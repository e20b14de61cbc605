"""Sentences of a class's own: from a dict or a file, averaged as the general ones are, and said aloud where lacking."""

import json
import warnings

import pytest
import torch
from PIL import Image

import kdpl_utils as kd
from kdpl_utils.learners import LinearProbe
from kdpl_utils.learners.base import FrozenTexts
from kdpl_utils.learners.saving import load_learner, save_learner
from kdpl_utils.towers.sentences import as_templates, sentences_of
from kdpl_utils.vlm import TEMPLATE

OWN = {
    "hot_dog": ["A hot dog is a sausage in a bun.", "a drawing of a {}, seen from above."],
    "sushi": ["Sushi is rice with raw fish."],
}
NAMES = ["sushi", "hot dog"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(OWN))
    return path


def test_each_name_has_its_own_sentences():
    own = as_templates(OWN)
    assert sentences_of(NAMES, own, TEMPLATE) == [
        ["Sushi is rice with raw fish."],
        ["A hot dog is a sausage in a bun.", "a drawing of a hot dog, seen from above."],
    ]
    assert sentences_of(NAMES, as_templates([TEMPLATE]), TEMPLATE) == [
        ["a photo of a sushi."],
        ["a photo of a hot dog."],
    ]


def test_names_outside_get_the_general_sentence_and_that_is_said():
    with pytest.warns(UserWarning, match=r"2 of 3 class names .* get 'a photo of a \{\}.': pizza, kiwi."):
        found = sentences_of(["pizza", "sushi", "kiwi"], as_templates(OWN), TEMPLATE)
    assert found == [["a photo of a pizza."], ["Sushi is rice with raw fish."], ["a photo of a kiwi."]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sentences_of(NAMES, as_templates(OWN), TEMPLATE)


def test_features_are_the_mean_over_a_names_own_sentences(student, file):
    def text(sentence):
        return student.model.encode_text(student.tokenizer([sentence]), normalize=True)[0]

    dog = torch.stack([text("A hot dog is a sausage in a bun."), text("a drawing of a hot dog, seen from above.")])
    expected = torch.stack([text("Sushi is rice with raw fish."), torch.nn.functional.normalize(dog.mean(0), dim=0)])
    for templates in (OWN, file, str(file)):
        torch.testing.assert_close(kd.encode_names(student, NAMES, templates), expected, atol=1e-5, rtol=0)
    frozen = FrozenTexts(student, file)
    assert frozen.mean(["sushi"]).shape == (1, 128) and frozen(NAMES).shape == (2, 128)
    torch.testing.assert_close(frozen(NAMES)[0], expected[0], atol=1e-5, rtol=0)


def test_a_linear_head_starts_from_them_and_comes_back(student, file, tmp_path):
    probe = LinearProbe(student, NAMES, file)
    torch.testing.assert_close(probe.text(NAMES), FrozenTexts(student, OWN)(NAMES))
    again = load_learner(save_learner(probe, tmp_path / "x.safetensors"), student)
    assert torch.equal(again.text(NAMES), probe.text(NAMES))


@pytest.mark.filterwarnings("ignore:.*no subfolders train and test")
def test_a_folder_takes_a_file_of_them(file, tmp_path):
    for name in ("sushi", "hot dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "pictures" / name / f"{i}.png")
    world = kd.folder_world(tmp_path / "pictures", templates=file, dictionary=["tree"])
    assert world.templates["hot dog"] == OWN["hot_dog"]


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("[1, 2", "is no JSON"),
        ("[1, 2]", "holds no dict"),
        ("{}", "dict of sentences is empty"),
        ('{"oak": "a tree"}', "give a list of at least one"),
        ('{"oak": []}', "give a list of at least one"),
        ('{"oak": [" "]}', "is no sentence of 'oak'"),
        ('{"oak": ["an oak <end_of_text>, cut"]}', "holds a mark of CLIP's own, which ends it: leave it out"),
    ],
)
def test_wrong_files_are_one_sentence(content, sentence, tmp_path):
    (tmp_path / "wrong.json").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        as_templates(tmp_path / "wrong.json")
    with pytest.raises(FileNotFoundError, match="There is no file nowhere.json"):
        as_templates("nowhere.json")


@pytest.mark.parametrize(
    "content, sentence",
    [
        ('{"hot dog": []}', "The sentences of 'hot dog' are \\[\\]: give a list of at least one."),
        ("{}", "The dict of sentences is empty"),
        ("[" * 100_000, "is no JSON \\(nested too deeply\\)"),
        ('{"hot dog": ["a {}"], "hot_dog": ["the {}"]}', "The name 'hot dog' has sentences twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(file, content, sentence):
    file.write_text(content)
    with pytest.raises(ValueError, match=f"prompts.json.*{sentence}"):
        as_templates(file)
