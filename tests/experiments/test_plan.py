"""A plan holds every run once, with the published settings, and refuses what no run could do."""

from dataclasses import replace

import pytest
import torch

import kdpl_utils as kd
from kdpl_utils.choices import LEARNERS, PAPER_MODES
from kdpl_utils.experiments import plan as module
from kdpl_utils.experiments.plan import plan
from kdpl_utils.train import Recipe
from kdpl_utils.worlds.world import Split

WORLD = "emoji/activities"


@pytest.fixture
def photos(monkeypatch):
    """A world of photographs of which only the name, the models and the labels matter."""
    emoji = kd.load_world(WORLD)
    fields = {"student": ("ViT-B-16-quickgelu", "openai"), "transformer": None, "recipes": {}, "views": 8}
    world = replace(emoji, name="photos", shots_as_published=True, targets=("emoji/objects",), **fields)
    monkeypatch.setattr(module, "load_world", lambda name, *_: world if name == "photos" else kd.load_world(name))
    return world


def test_every_combination_once():
    pairs = plan("base-to-novel", WORLD, ["coop", "vpt", "coop"], ["labels", "kdpl"], [1, 2, 3], epochs=2)
    found = [(config.learner, config.mode, config.seed) for config, _ in pairs]
    assert len(set(found)) == len(found) == 1 + 2 * 2 * 3 and found[0] == ("zero-shot", "labels", 0)
    assert {config.classes for config, _ in pairs} == {"base"} and {tested.world for _, tested in pairs} == {WORLD}
    assert all(config.recipe.epochs == 2 and config.recipe.seed == config.seed for config, _ in pairs[1:])
    assert {config.classes for config, _ in plan("domain", WORLD, ["coop"], ["kdpl"], [1])} == {"all"}
    few = plan("few-shot", WORLD, ["coop"], ["labels"], [1], shots=[1, 4])
    assert [config.shots for config, _ in few] == [16, 1, 4]
    cross = plan("cross-dataset", WORLD, ["coop"], ["labels"], [1], targets=["emoji", "emoji/objects"])
    assert [tested.world for _, tested in cross] == ["emoji", "emoji/objects"] * 2
    others = {tested.world for _, tested in plan("cross-dataset", WORLD, ["coop"], ["labels"], [1])}
    assert len(others) == 5 and WORLD not in others


def test_options_reach_the_mode_that_reads_them():
    runs = plan("few-shot", WORLD, ["coop"], PAPER_MODES, [1], label_fraction=0.25, k=5, views=None, scale="own")[1:]
    found = [(config.mode, config.label_fraction, config.k, config.scale) for config, _ in runs]
    assert found == [("labels", 0.0, 0, "own"), ("kdpl", 0.25, 0, "own"), ("kdpl-ca", 0.0, 5, "own")]


def test_published_settings_are_the_default_on_photographs(photos):
    runs = {config.learner: config for config, _ in plan("domain", "photos", LEARNERS, ["kdpl"], [1])}
    assert (runs["coop"].recipe, runs["coop"].views) == (Recipe(50, 32, 2e-3, seed=1), 8)
    assert runs["cocoop"].recipe == Recipe(10, 1, 2e-3, seed=1) and runs["vpt"].recipe == Recipe(5, 4, 2.5e-3, seed=1)
    assert runs["maple"].recipe == Recipe(5, 4, 3.5e-3, seed=1)
    assert runs["promptsrc"].settings == {"depth": 3} and runs["promptsrc"].recipe.average == (6, 10)
    ((_, _), (halves, _)) = plan("base-to-novel", "photos", ["promptsrc"], ["kdpl"], [1])
    assert halves.settings == {} and halves.recipe.average == (15, 1)
    assert runs["coop"].student == ("ViT-B-16-quickgelu", "openai") and runs["coop"].is_real_size


def test_learners_that_the_student_cannot_have_are_left_out(photos):
    with pytest.warns(UserWarning, match="left out") as warned:
        pairs = plan("domain", "photos", list(LEARNERS)[:5], ["kdpl"], [1], student="RN50-quickgelu/openai")
    assert [config.learner for config, _ in pairs] == ["zero-shot", "coop", "cocoop"]
    assert [str(one.message).split()[0] for one in warned] == ["vpt", "maple", "promptsrc"]
    with pytest.warns(UserWarning, match="linear is left out of kdpl-ca"):
        pairs = plan("few-shot", WORLD, ["linear"], ["kdpl-ca", "kdpl", "promptkd"], [1])
    assert [config.mode for config, _ in pairs[1:]] == ["kdpl"]


def test_promptkd_learns_from_the_target_in_its_own_mode():
    targets = ["emoji/objects", "emoji/food-drink"]
    pairs = plan("cross-dataset", WORLD, ["promptkd"], ["promptkd", "kdpl"], [1], targets=targets)[2:]
    found = [(config.mode, config.world, config.shots, tested.world) for config, tested in pairs]
    assert found[:2] == [("promptkd", target, 0, target) for target in targets]
    assert found[2:] == [("kdpl", WORLD, 16, target) for target in targets]


def test_shots_beyond_what_is_there_are_reported_and_named(photos):
    with pytest.warns(UserWarning, match="at most 32 training images a class: 32 are used"):
        pairs = plan("few-shot", WORLD, ["coop"], ["labels"], [1], shots=[16, 32, 1000])
    assert [config.shots for config, _ in pairs[1:]] == [16, 32]


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"table": "best"}, "no table 'best': choose from base-to-novel"),
        ({"learners": ["coup"]}, "no learner 'coup'"),
        ({"modes": ["label"]}, "no mode 'label'"),
        ({"student": "no-such-model"}, "no model 'no-such-model'"),
        ({"student": "ViT-B-32-quickgelu/no-such-tag"}, "no weights 'no-such-tag'"),
        ({"teachers": ["ViT-L-14/openai"]}, "QuickGELU"),
        ({"teachers": ["emoji-teacher-small"] * 2, "learners": ["promptkd"]}, "None of promptkd can be trained"),
        ({"student": "emoji-student-rn", "learners": ["vpt"]}, "None of vpt can be trained"),
        ({"k": 10**6}, "k is 1000000: give 2 to"),
        ({"k": 1}, "k is 1: give 2 to"),
        ({"shots": [-1]}, "shots is -1"),
        ({"epochs": 0}, "epochs"),
        ({"label_fraction": 1.5, "modes": ["kdpl"]}, "label_fraction is 1.5"),
        ({"label_fraction": 0.5, "modes": ["labels"]}, "label_fraction is 0.5"),
        ({"label_fraction": 1e-6, "modes": ["kdpl"]}, "share of"),
        ({"targets": ["nowhere"], "table": "cross-dataset"}, "no world 'nowhere'"),
    ],
)
def test_what_no_run_could_do_is_said_before_the_first(wrong, sentence):
    asked = {"table": "base-to-novel", "world": WORLD, "learners": ["coop"], "modes": ["kdpl-ca"], "seeds": [1]}
    with pytest.raises(ValueError, match=sentence):
        plan(**{**asked, **wrong})


@pytest.mark.parametrize(
    "table, fields, sentence",
    [
        ("domain", {"shifts": {}}, "no shifted test sets"),
        ("cross-dataset", {"targets": ()}, "needs targets"),
        ("few-shot", {"classnames": ("one",), "base": range(1)}, "1 classes"),
        ("base-to-novel", {"classnames": ("a", "b", "c")}, "3 classes"),
        (
            "few-shot",
            {"test": Split([], torch.empty(0, dtype=torch.long), unusable_because="No labels.")},
            "kdpl adapt",
        ),
    ],
)
def test_worlds_on_which_a_table_would_mean_nothing(table, fields, sentence, photos, monkeypatch):
    monkeypatch.setattr(module, "load_world", lambda *_: replace(photos, **fields))
    with pytest.raises(ValueError, match=sentence):
        plan(table, "photos", ["coop"], ["kdpl"], [1])


def test_other_data_is_another_run_where_it_matters(photos, monkeypatch):
    def digests(**fields):
        monkeypatch.setattr(module, "load_world", lambda *_: replace(photos, **fields))
        runs = plan("base-to-novel", "photos", ["coop"], ["kdpl", "kdpl-ca"], [1])[1:]
        return [config.data for config, _ in runs] + [runs[0][1].data]

    kdpl, agnostic, tested = digests()
    assert digests() == [kdpl, agnostic, tested]
    assert digests(dictionary=("bark", "leaf"))[0] == kdpl and digests(dictionary=("bark", "leaf"))[1] != agnostic
    assert kdpl not in digests(train=replace(photos.train, key="others"))
    assert kdpl not in digests(templates=("{}",)) and tested not in digests(test=replace(photos.test, key="others"))
    assert tested not in digests(classnames=tuple(name + "s" for name in photos.classnames))
