"""The two-phase pretraining: its optimiser against torch's, its captions, and runs that are stopped."""

import random
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import captions
import corpus
import pretrain
from icons import FILE, Icons, save_icons
from kdpl_utils.loading import load_vlm
from kdpl_utils.support.shipped import data_file
from kdpl_utils.worlds import drawings
from kdpl_utils.worlds.emoji import ARTISTS, PIXEL_STYLE, PRETRAINING_STYLES
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


CONCEPT = {"name": "red apple", "keywords": [], "group": "food-drink", "subgroup": "food-fruit"}
COLOUR = captions.Seen("twemoji", 0.8, 0.0, "white")
INK = replace(COLOUR, is_ink=True)
WRITERS = (captions.raw_caption, captions.filtered_caption)


def share(write, concept, seen, holds, n=600):
    """The share of captions for which ``holds`` is true."""
    return sum(holds(write(random.Random(i), concept, seen)) for i in range(n)) / n


def names_ink(caption):
    return re.search(rf"\b({'|'.join(captions.INK_WORDS)})\b", caption) is not None


def test_captions_name_the_concept():
    for write in WRITERS:
        assert share(write, CONCEPT, COLOUR, lambda text: "red apple" in text) == 1


def test_a_student_always_reads_that_a_picture_is_ink_and_a_teacher_half_of_the_time():
    """Otherwise the words around a name mean nothing, and there is no context to learn."""
    raw, filtered = (share(write, CONCEPT, INK, names_ink) for write in WRITERS)
    assert raw == 1 and 0.5 < filtered < 0.65  # a style word in a common sentence names the domain as well
    assert [share(write, CONCEPT, COLOUR, names_ink) for write in WRITERS] == [0, 0]


def test_ink_words_have_their_article():
    texts = [captions.raw_caption(random.Random(i), CONCEPT, INK) for i in range(300)]
    assert any("an ink " in text for text in texts) and any("a line " in text for text in texts)
    assert not any("a ink" in text or "a outline" in text or "an line" in text for text in texts)


def test_raw_captions_use_keywords_and_filtered_ones_seldom():
    concept = {**CONCEPT, "keywords": ["fruit"], "subgroup": "food-red"}
    shares = [share(write, concept, COLOUR, lambda text: "red apple" not in text) for write in WRITERS]
    assert shares == [pytest.approx(0.35, abs=0.06), pytest.approx(0.1, abs=0.04)]


def test_an_editor_ends_half_of_the_sentences_with_a_full_stop():
    """The lessons ask with one, and a teacher that never read one classifies worse then."""
    shares = [share(write, CONCEPT, COLOUR, lambda text: text.endswith(".")) for write in WRITERS]
    assert shares == [0.0, pytest.approx(0.5, abs=0.06)]


def test_one_raw_caption_in_ten_names_another_concept_and_none_another_domain():
    made = corpus.Corpus(("twemoji",), 32, ink_share=0.0)
    made.concepts = [{**c, "keywords": []} for c in made.concepts]
    concept = made.concepts[made.classes[0]]
    for recipe, wrong in ((pretrain.STUDENT, 0.1), (pretrain.TEACHER, 0.0)):
        texts = [pretrain.write_caption(random.Random(i), recipe, made, concept, INK) for i in range(600)]
        assert sum(concept["name"] not in text for text in texts) / 600 == pytest.approx(wrong, abs=0.04)
        assert recipe is pretrain.TEACHER or all(map(names_ink, texts))


def test_no_corpus_holds_an_artist_of_the_world():
    of_the_world = {style for styles in ARTISTS.values() for style in styles} | {PIXEL_STYLE}
    assert not of_the_world & set(PRETRAINING_STYLES)
    assert set(PRETRAINING_STYLES) <= set(captions.STYLE_WORDS)
    for name, recipe in pretrain.RECIPES.items():
        is_teacher = name.startswith("emoji-teacher")
        assert (recipe.captions, recipe.icon_share) == (("filtered", 0.4) if is_teacher else ("raw", 0.0))


def test_pictures_are_placed_as_the_lessons_place_them():
    sprites = drawings.sprites("noto")[:32]
    views = drawings.sample_views(32, 3)
    placed = corpus.place(corpus.premultiplied(sprites, 64).float() / 255, views, 64)
    assert (placed - drawings.render(sprites.float() / 255, views)).abs().max() < 0.01  # rounded to 1/255 once


def test_a_batch_depends_on_the_step_alone_and_its_ink_has_classes_of_its_own():
    made = corpus.Corpus(("twemoji",), 32, ink_share=0.5)
    pictures, targets = made.training_batch(64, 5)
    torch.manual_seed(7)
    again, _ = made.training_batch(64, 5)
    assert torch.equal(pictures, again) and len(set((targets % len(made.concepts)).tolist())) == 64
    assert not torch.equal(pictures, made.training_batch(64, 6)[0])
    is_ink = targets >= len(made.concepts)
    assert 20 <= is_ink.sum() <= 44 and targets.max() < made.n_classes
    none, targets = corpus.Corpus(("twemoji",), 32, ink_share=0.0).training_batch(64, 5)
    assert (targets < len(made.concepts)).all()
    torch.testing.assert_close(pictures[~is_ink], none[~is_ink])  # the rest of the batch is what it was


def test_copies_are_grey_and_tracings_are_black_lines_on_the_ground():
    square = torch.ones(200, 3, 32, 32)
    square[:, :, 8:24, 8:24] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    grounds = torch.tensor([0.8, 0.9, 1.0]).expand(200, 3)
    ink = corpus.ink_of(square, grounds, torch.Generator().manual_seed(0))
    is_grey = (ink[:, 0] == ink[:, 2]).flatten(1).all(dim=1)
    assert 70 < is_grey.sum() < 130
    traced = ink[~is_grey]
    torch.testing.assert_close(traced[:, :, 2, 2], grounds[~is_grey])  # paper
    torch.testing.assert_close(traced[:, :, 16, 16], grounds[~is_grey])  # nothing is filled
    assert traced[:, :, 12, 7].max() == 0  # a line where the colours meet


@pytest.fixture
def icons():
    """Twenty icons of each of four names, of which two are an emoji's."""
    names = ["guitar", "trumpet", "barcode", "router"]
    alpha = np.random.default_rng(0).integers(0, 255, (80, 40, 40), dtype=np.uint8)
    return Icons(alpha, [name for name in names for _ in range(20)], ["set"] * 80)


def test_two_fifths_of_a_teacher_s_batch_are_icons(icons):
    made = corpus.Corpus(("twemoji",), 32, 0.4, icons=icons, icon_share=0.4)
    pictures, targets = made.training_batch(10, 0)
    assert made.n_classes == len(made.concepts) + 2 and made.other_names == ["barcode", "router"]
    names = [made.concept_of_name(name)["name"] for name in icons.names[::20]]
    assert names == ["guitar", "trumpet", "barcode", "router"]
    ids = [made.class_of_name[name] for name in names]
    assert set(targets[6:].tolist()) == set(ids)  # two names of emoji, two others
    assert (pictures[6:].amin(dim=(1, 2, 3)) < 0.1).all()  # icons are black
    views, concepts, seen = made.icon_views()
    assert len(views) == len(concepts) == 64 and all(s.is_ink for s in seen)  # at most twelve of other names


@pytest.fixture
def tiny(monkeypatch):
    """A recipe of seconds, which keeps its state after every step; the list of what was finished."""
    return tiny_recipe(monkeypatch, "emoji-student-rn")


def tiny_recipe(monkeypatch, like: str) -> list:
    recipe = replace(pretrain.RECIPES[like], image_steps=3, image_batch=4, text_steps=3, text_batch=8, views=1)
    monkeypatch.setitem(pretrain.RECIPES, NAME, replace(recipe, distractors=1, other_icons=0, learns_from=""))
    monkeypatch.setitem(pretrain.CONFIGS, NAME, pretrain.CONFIGS[like])
    monkeypatch.setattr(pretrain, "PRETRAINING_STYLES", ("twemoji",))
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


@pytest.mark.parametrize("like", ["emoji-student-vit", "emoji-teacher-small"])
def test_a_stopped_run_ends_as_an_unstopped_one(like, monkeypatch, tmp_path, icons):
    tiny = tiny_recipe(monkeypatch, like)
    for work in ("whole", "stopped"):
        (tmp_path / work).mkdir()
        save_icons(icons, tmp_path / work / FILE)
    quietly(tmp_path / "whole", tmp_path / "out")
    stop_after(monkeypatch, 2, 4)
    torch.manual_seed(123)  # the global generator is elsewhere than in the undisturbed run
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quietly(tmp_path / "stopped", tmp_path / "out")
    quietly(tmp_path / "stopped", tmp_path / "out")
    assert all(torch.equal(tiny[0][key], tiny[1][key]) for key in tiny[0])
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [FILE]


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


def test_the_vit_learns_the_features_of_the_finished_resnet(monkeypatch, tmp_path):
    tiny_recipe(monkeypatch, "emoji-student-vit")
    recipe = replace(pretrain.RECIPES[NAME], learns_from="emoji-student-rn", feature_weight=1e6, image_steps=1)
    monkeypatch.setitem(pretrain.RECIPES, NAME, recipe)
    with pytest.raises(SystemExit, match="pretrain emoji-student-rn first"):
        quietly(tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    losses = []
    run_steps = pretrain.run_steps

    def remember(step_loss, *rest):
        losses.append(step_loss(0)[0].item())
        run_steps(step_loss, *rest)

    monkeypatch.setattr(pretrain, "run_steps", remember)
    for suffix in ("json", "safetensors"):
        shutil.copy(data_file(f"models/emoji-student-rn.{suffix}"), tmp_path / "out")
    quietly(tmp_path, tmp_path / "out")
    assert losses[0] > 1e5


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
