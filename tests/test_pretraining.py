"""The two-phase pretraining: its optimiser against torch's, its captions, and runs that are stopped."""

import random
from dataclasses import replace

import pytest
import torch

import captions
import corpus
import pretrain
from kdpl_utils.loading import load_vlm
from kdpl_utils.worlds import drawings
from muon import Muon

NAME = "emoji-second-edition-tiny"  # a name of its own: open_clip's list of models is the whole process's


def test_muon_is_torch_s_on_matrices():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(24, 16))
    theirs = torch.nn.Parameter(ours.detach().clone())
    one = Muon([ours], lr=0.02, momentum=0.95, weight_decay=0.01)
    other = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.01)
    for _ in range(3):
        ours.grad = torch.randn(24, 16)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    assert torch.allclose(ours, theirs, atol=2e-3)  # torch iterates in bfloat16


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="AdamW"):
        Muon([torch.nn.Parameter(torch.zeros(3))])


def test_captions_name_the_concept():
    concept = {"name": "red apple", "keywords": [], "group": "food-drink", "subgroup": "food-fruit"}
    seen = captions.Seen("noto", 0.8, 0.0, "white")
    for write in (captions.raw_caption, captions.filtered_caption):
        assert all("red apple" in write(random.Random(i), concept, seen) for i in range(50))


TEST_HANDS = {"emojione", "emojione-v1", "emojione-monotone", "fluent-emoji"}


def test_no_corpus_holds_a_test_hand_and_a_student_has_colour_alone():
    for name, recipe in pretrain.RECIPES.items():
        assert not TEST_HANDS & set(recipe.styles), name
        assert set(recipe.styles) <= set(captions.STYLE_WORDS), name
        has_ink = bool(set(pretrain.INK_HANDS) & set(recipe.styles))
        assert has_ink == name.startswith("emoji-teacher"), name
        assert recipe.captions == ("filtered" if has_ink else "raw"), name


def test_raw_captions_use_keywords_and_filtered_ones_seldom():
    concept = {"name": "red apple", "keywords": ["fruit"], "group": "food-drink", "subgroup": "food-red"}
    seen = captions.Seen("noto", 0.8, 0.0, "white")
    shares = [
        sum("red apple" not in write(random.Random(i), concept, seen) for i in range(600)) / 600
        for write in (captions.raw_caption, captions.filtered_caption)
    ]
    assert shares == [pytest.approx(0.35, abs=0.06), pytest.approx(0.1, abs=0.04)]


def test_an_editor_ends_half_of_the_sentences_with_a_full_stop():
    """The lessons ask with one, and a teacher that never read one names worse then."""
    concept = {"name": "red apple", "keywords": [], "group": "food-drink", "subgroup": "food-red"}
    seen = captions.Seen("noto", 0.8, 0.0, "white")
    shares = [
        sum(write(random.Random(i), concept, seen).endswith(".") for i in range(600)) / 600
        for write in (captions.raw_caption, captions.filtered_caption)
    ]
    assert shares == [0.0, pytest.approx(0.5, abs=0.06)]


def test_one_raw_caption_in_ten_belongs_to_another_picture():
    made = corpus.Corpus(("noto",), 32, photocopies=0.0)
    concept = made.classes[0]
    made.concepts = [{**c, "keywords": []} for c in made.concepts]
    name = made.concepts[concept]["name"]
    seen = captions.Seen("noto", 0.8, 0.0, "white")
    shares = [
        sum(name not in pretrain.write_caption(random.Random(i), recipe, made, concept, seen) for i in range(600)) / 600
        for recipe in (pretrain.STUDENT, pretrain.TEACHER)
    ]
    assert shares == [pytest.approx(0.1, abs=0.04), 0.0]


def test_pictures_are_placed_as_the_lessons_place_them():
    sprites = drawings.sprites("noto")[:32]
    views = drawings.sample_views(32, 3)
    placed = corpus.place(corpus.premultiplied(sprites, 64).float() / 255, views, 64)
    assert (placed - drawings.render(sprites.float() / 255, views)).abs().max() < 0.01  # rounded to 1/255 once


def test_batches_depend_on_the_step_alone_and_photocopies_are_grey():
    made = corpus.Corpus(("noto",), 32, photocopies=0.5)
    pictures, concepts = made.training_batch(64, 5)
    torch.manual_seed(7)
    again, _ = made.training_batch(64, 5)
    assert torch.equal(pictures, again) and len(set(concepts.tolist())) == 64
    assert not torch.equal(pictures, made.training_batch(64, 6)[0])
    is_grey = (pictures[:, 0] == pictures[:, 2]).flatten(1).all(dim=1)
    assert 20 <= is_grey.sum() <= 44
    none = corpus.Corpus(("noto",), 32, photocopies=0.0).training_batch(64, 5)[0]
    assert not (none[:, 0] == none[:, 2]).flatten(1).all(dim=1).any()


@pytest.fixture
def tiny(monkeypatch):
    """A recipe of seconds, which keeps its state after every step; the list of what was finished."""
    return tiny_recipe(monkeypatch, "emoji-student-rn")


def tiny_recipe(monkeypatch, like: str) -> list:
    recipe = replace(pretrain.RECIPES[like], styles=("noto",), image_steps=3, image_batch=4, text_steps=3, text_batch=8)
    monkeypatch.setitem(pretrain.RECIPES, NAME, replace(recipe, views=1))
    monkeypatch.setitem(pretrain.CONFIGS, NAME, pretrain.CONFIGS[like])
    monkeypatch.setattr(pretrain, "CHECKPOINT_SECONDS", -1)
    finished = []
    save = pretrain.save

    def save_and_remember(model, *rest):
        finished.append({key: value.clone() for key, value in model.state_dict().items()})
        save(model, *rest)

    monkeypatch.setattr(pretrain, "save", save_and_remember)
    return finished


def stop_after(monkeypatch, *stops: int) -> None:
    """Interrupt the run when its state was kept so many times, counted over all runs."""
    keep, kept = pretrain.keep, []

    def keep_and_stop(*state):
        keep(*state)
        kept.append(1)
        if len(kept) in stops:
            raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "keep", keep_and_stop)


def quietly(work, out, longer=1.0):
    pretrain.pretrain(NAME, "cpu", work, out, longer, log=lambda _: None)


@pytest.mark.parametrize("like", ["emoji-student-rn", "emoji-student-vit"])
def test_a_stopped_run_ends_as_an_unstopped_one(like, monkeypatch, tmp_path):
    tiny = tiny_recipe(monkeypatch, like)
    quietly(tmp_path / "whole", tmp_path / "out")
    stop_after(monkeypatch, 2, 4)
    torch.manual_seed(123)  # the global generator is elsewhere than in the undisturbed run
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quietly(tmp_path / "stopped", tmp_path / "out")
    quietly(tmp_path / "stopped", tmp_path / "out")
    assert all(torch.equal(tiny[0][key], tiny[1][key]) for key in tiny[0])
    assert not list((tmp_path / "stopped").iterdir())


def test_the_patches_of_a_transformer_have_a_classifier_that_learns(monkeypatch, tmp_path):
    tiny_recipe(monkeypatch, "emoji-student-vit")
    classifiers = []
    keep = pretrain.keep

    def remember(checkpoint, modules, *rest):
        if "classifiers" in modules:
            classifiers.append({k: v.clone() for k, v in modules["classifiers"].state_dict().items()})
        keep(checkpoint, modules, *rest)

    monkeypatch.setattr(pretrain, "keep", remember)
    quietly(tmp_path, tmp_path)
    first, last = classifiers[0], classifiers[-1]
    assert {name.split(".")[0] for name in first} == {"picture", "patches"}
    # Weight decay alone would shrink all weights by one factor; the loss turns each row its own way.
    ratio = last["patches.weight"] / first["patches.weight"]
    assert ratio.std() > 1e-4


@pytest.mark.parametrize("name, embeds_patches", [("emoji-student-vit", True), ("emoji-student-rn", False)])
def test_a_patch_embedding_is_no_matrix_for_muon(name, embeds_patches):
    visual = load_vlm(name, device="cpu").model.visual.requires_grad_()
    muon, adam = pretrain.split_optimizers([*visual.named_parameters()], 1e-3, 0.02, 0.0)
    by_adam = [p for group in adam.param_groups for p in group["params"]]
    assert any(p is visual.conv1.weight for p in by_adam) == embeds_patches
    assert any(p is visual.conv1.weight for p in muon.param_groups[0]["params"]) != embeds_patches


def test_a_run_does_not_go_on_from_another_recipe_s_state(tiny, monkeypatch, tmp_path):
    quietly(tmp_path / "whole", tmp_path / "out", longer=2)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quietly(tmp_path / "work", tmp_path / "out", longer=1)
    quietly(tmp_path / "work", tmp_path / "out", longer=2)
    assert all(torch.equal(tiny[0][key], tiny[1][key]) for key in tiny[0])


def test_state_and_weights_may_share_a_folder(tiny, tmp_path):
    quietly(tmp_path, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{NAME}.json", f"{NAME}.safetensors"]


def test_a_transformer_sees_every_patch_at_the_end_of_phase_1(monkeypatch, tmp_path):
    tiny_recipe(monkeypatch, "emoji-student-vit")
    monkeypatch.setitem(pretrain.RECIPES, NAME, replace(pretrain.RECIPES[NAME], image_steps=10))
    dropped = []
    drop = pretrain.PatchDropout.forward

    def count(self, tokens):
        dropped.append(self.prob)
        return drop(self, tokens)

    monkeypatch.setattr(pretrain.PatchDropout, "forward", count)
    quietly(tmp_path, tmp_path)
    assert dropped == [0.5] * 9  # nine steps of ten
