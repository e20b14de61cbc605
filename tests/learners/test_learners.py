"""The learners against ``oracle``: features, logits, losses, gradients of all that is learned; and what each one is."""

import functools
import itertools

import open_clip
import oracle
import pytest
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from oracle import ORACLES, error, moved, tiny
from torch import nn
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.clip.tokens import context_prompts
from kdpl_utils.distill import select_classes, symmetric_kl
from kdpl_utils.learners import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptKD, PromptSRC
from kdpl_utils.learners.promptsrc import CROSS_DATASET, templates
from kdpl_utils.train import Recipe, fit
from kdpl_utils.vlm import VLM, ImageBatches

NAMES = ["sushi", "hot dog", "ice_cream"]
DICTIONARY = [*NAMES, "OK! button", "pizza", "beach with umbrella", "kiwi fruit"]
FIVE = [CoOp, CoCoOp, VPT, MaPLe, PromptSRC]
VISUAL = [VPT, MaPLe, PromptSRC]
METHODS = {"supervised", "kdpl", "class-agnostic"}
by_name = {"ids": lambda kind: getattr(kind, "__name__", str(kind))}


@pytest.fixture(scope="module")
def emoji():
    return kd.load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture(scope="module")
def double(emoji):
    return oracle.in_double(emoji)


@pytest.fixture(scope="module")
def resnet():
    return kd.load_vlm("emoji-student-rn", device="cpu")


@pytest.fixture(scope="module")
def deep_tiny(emoji):
    """Twelve layers in both towers."""
    return tiny(emoji)


def random_clip(name: str, **settings) -> VLM:
    torch.manual_seed(0)
    model = oracle.enliven(open_clip.create_model(name, **settings))
    return VLM(model, None, open_clip.get_tokenizer(name), name)


@pytest.fixture(scope="module")
def vit():
    """ViT-B-32 with random weights; 96 pixels are 9 patches, so that the oracle takes seconds."""
    return random_clip("ViT-B-32", force_image_size=96)


@pytest.fixture(scope="module")
def vit_double(vit):
    return oracle.in_double(vit)


def pixels_for(vlm, n=2):
    size, dtype = vlm.model.visual.image_size, vlm.model.logit_scale.dtype
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(3)).to(dtype)


def build(kind, vlm, **settings):
    return moved(kind(vlm, vlm, **settings) if kind is PromptKD else kind(vlm, **settings))


# PromptSRC's 60 sentences a name are the slow part: encoded once for each model, by the product and by the oracle.
@functools.cache
def product_reference(vlm):
    return PromptSRC(vlm).reference


@functools.cache
def oracle_reference(vlm, names, wrong):
    return oracle.reference(vlm, names, wrong)


def objective(method, n, dtype):
    """(names, the product's supervision, the oracle's) of one way of learning, over n images."""
    g = torch.Generator().manual_seed(5)
    teacher = (4 * torch.randn(n, len(DICTIONARY), generator=g)).to(dtype)
    if method == "supervised":
        labels = torch.arange(n) % len(NAMES)
        return NAMES, lambda z: F.cross_entropy(z, labels), lambda z: oracle.cross_entropy(z, labels)
    if method == "kdpl":
        teacher = teacher[:, : len(NAMES)]
        return NAMES, lambda z: symmetric_kl(teacher, z), lambda z: oracle.distillation(teacher, z)
    chosen, expected = select_classes(teacher, 4), oracle.most_probable(teacher, 4)
    assert chosen.tolist() == expected  # the same, in the same order
    names = [DICTIONARY[i] for i in expected]
    return (
        names,
        lambda z: symmetric_kl(teacher[:, chosen], z),
        lambda z: oracle.distillation(teacher[:, expected], z),
    )


def compare(learner, method="kdpl", n=2, **how):
    """Relative errors of features, logits, loss, and the gradient of each learned tensor."""
    pixels = pixels_for(learner.vlm, n)
    names, supervise, supervise_plainly = objective(method, n, pixels.dtype)
    if isinstance(learner, PromptSRC) and "t0" not in how:
        learner.reference = product_reference(learner.vlm)
        how["t0"] = oracle_reference(learner.vlm, tuple(names), how.get("wrong", ""))
    loss, params = learner.loss(pixels, names, supervise), dict(learner.named_parameters())
    grads = torch.autograd.grad(loss, params.values())
    expected = ORACLES[type(learner)](learner, pixels, names, **how)
    expected_loss = supervise_plainly(expected.logits) + expected.own
    expected_grads = torch.autograd.grad(expected_loss, params.values())
    with torch.no_grad():
        found = {
            "image": error(learner.image(pixels), expected.image),
            "logits": error(learner(pixels, names), expected.logits),
            "loss": error(loss, expected_loss),
        }
        if not isinstance(learner, CoCoOp):
            found["text"] = error(learner.text(names), expected.text)
    return found, {name: error(g, e) for name, g, e in zip(params, grads, expected_grads)}


def assert_agrees(learner, method="kdpl", **how):
    exact = learner.vlm.model.logit_scale.dtype == torch.float64
    found, grads = compare(learner, method, **how)
    assert max(found.values()) < (1e-9 if exact else 1e-5), found
    assert max(grads.values()) < (1e-9 if exact else 1e-4), grads


# --- agreement -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("kind", [*FIVE, PromptKD], **by_name)
def test_emoji_in_double(double, kind, method):
    assert_agrees(build(kind, double), method)


@pytest.mark.parametrize("kind", [*FIVE, PromptKD], **by_name)
def test_emoji_in_single(emoji, kind):
    assert_agrees(build(kind, emoji), "supervised")


@pytest.mark.parametrize("kind", [CoOp, CoCoOp], **by_name)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_emoji_resnet(resnet, kind, method):
    assert_agrees(build(kind, oracle.in_double(resnet)), method)


@pytest.mark.parametrize(
    "kind, settings",
    [(MaPLe, {"depth": d}) for d in (1, 2, 3)]
    + [(VPT, {"depth": d}) for d in (1, 3, 5, 6)]
    + [(PromptSRC, {"depth": d, "depth_text": t}) for d, t in ((1, 1), (3, 3), (6, 1), (2, 3))],
    **by_name,
)
def test_emoji_depths(double, kind, settings):
    assert_agrees(build(kind, double, **settings), "supervised")


@pytest.mark.parametrize("depth", [1, 3, 9, 12])
@pytest.mark.parametrize("kind", [*VISUAL, PromptKD], **by_name)
def test_depths_of_twelve_layers(deep_tiny, kind, depth):
    assert_agrees(build(kind, deep_tiny, depth=depth), "class-agnostic")


@pytest.mark.parametrize("settings", [{"n_ctx": 1}, {"n_ctx": 4}, {"n_ctx": 5}], **by_name)
def test_maple_widths(deep_tiny, settings):
    """Some of "a photo of a" learned, all of it, and more vectors than words."""
    assert_agrees(build(MaPLe, deep_tiny, **settings))


LAYOUTS = {
    "CLIP": {},
    "CustomTextCLIP": {"custom": True},
    "no ln_pre": {"vision": {"no_ln_pre": True}},
    "quick": {"quick_gelu": True},
    "LayerScale": {"vision": {"ls_init_value": 0.5}, "text": {"ls_init_value": 0.5}, "custom": True},
    "projection with bias": {"text": {"proj_bias": True}, "custom": True},
    "one layer": {"layers": (1, 1)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [*FIVE, PromptKD], **by_name)
def test_layouts(emoji, kind, layout):
    vlm = tiny(emoji, **{"layers": (3, 3)} | LAYOUTS[layout])
    assert hasattr(vlm.model, "text") == (LAYOUTS[layout].get("custom", False))
    assert_agrees(build(kind, vlm))


# On the large models the oracle runs at 12 of 77 positions, to save time; that nothing is lost is tested first.
SHORT = 12


def test_vit_b_32_at_full_length(vit_double):
    assert_agrees(build(MaPLe, vit_double, depth=9))


@pytest.mark.parametrize("depth", [1, 3, 9, 12])
@pytest.mark.parametrize("kind", [VPT, MaPLe, PromptSRC], **by_name)
def test_vit_b_32_depths(vit_double, kind, depth):
    learner, how = build(kind, vit_double, depth=depth), {"length": SHORT}
    if kind is PromptSRC:  # its reference is tested below: here any frozen features do
        how["t0"] = t0 = oracle.unit(torch.arange(3 * 512).double().sin().view(3, 512))
        learner.reference = lambda names: t0
    assert_agrees(learner, **how)


@pytest.mark.parametrize("kind", [CoOp, CoCoOp], **by_name)
def test_vit_b_32_text_learners(vit_double, kind):
    assert_agrees(build(kind, vit_double), length=SHORT)


@pytest.mark.parametrize("kind", FIVE, **by_name)
def test_vit_b_32_in_single(vit, kind):
    learner, how = build(kind, vit), {"length": SHORT}
    if kind is PromptSRC:
        how["t0"] = t0 = oracle.photo_of(vit, NAMES, length=SHORT)
        learner.reference = lambda names: t0
    assert_agrees(learner, **how)


def test_vit_b_32_reference(vit):
    length = max(len(oracle.sentence(vit, t.format("sushi"))) for t in oracle.TEMPLATES)
    assert error(PromptSRC(vit).reference(["sushi"]), oracle.reference(vit, ["sushi"], length=length)) < 1e-5


@pytest.fixture(scope="module")
def rn50():
    """RN50 with random weights, at 64 pixels."""
    return random_clip("RN50", force_image_size=64)


def test_rn50(rn50):
    double = oracle.in_double(rn50)
    for kind in (CoOp, CoCoOp):
        assert_agrees(build(kind, rn50), length=SHORT)
        assert_agrees(build(kind, double), length=SHORT)


# --- the comparison can fail ---------------------------------------------------------------------------------------

WRONG = [
    *((kind, wrong) for kind in FIVE for wrong in ("positions", "mask", "early")),
    *((kind, "after ln_pre") for kind in VISUAL),
    *((kind, wrong) for kind in VISUAL for wrong in ("deep late", "kept", "dropped", "patch")),
    *((kind, "deep positions") for kind in (MaPLe, PromptSRC)),
    *((CoCoOp, wrong) for wrong in ("raw image", "first vector")),
    (MaPLe, "words"),
    *((PromptSRC, wrong) for wrong in ("unit mean", "batch mean")),
    *((PromptKD, wrong) for wrong in ("after ln_pre", "deep late")),
]


@pytest.mark.parametrize("kind, wrong", WRONG, **by_name)
def test_a_mistake_is_seen(deep_tiny, kind, wrong):
    """Each by far more than the tolerance: in the loss or the gradient of some tensor."""
    settings = {} if kind in (CoOp, CoCoOp) else {"depth": 3}
    found, grads = compare(build(kind, deep_tiny, **settings), wrong=wrong)
    assert max(*found.values(), *grads.values()) > 1e-4, (found, grads)


# --- how many, and what they start from ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, settings, count",
    [
        (CoOp, {}, 2_048),
        (CoCoOp, {}, 35_360),
        (VPT, {}, 73_728),
        (MaPLe, {}, 3_555_072),
        (PromptSRC, {}, 46_080),
        (PromptSRC, CROSS_DATASET["settings"], 15_360),
    ],
    **by_name,
)
def test_counts_on_vit_b_32(vit, kind, settings, count):
    learner = kind(vit, **settings)
    assert learner.n_parameters() == count == sum(p.numel() for p in learner.parameters())
    assert learner.n_parameters() == sum(t.numel() for t in learner.state_dict().values())  # and nothing else is saved


def test_counts_on_rn50(rn50):
    assert CoCoOp(rn50).n_parameters() == 100_928 and CoOp(rn50).n_parameters() == 2_048


def test_recipes():
    """Epochs, batch and rate of KDPL's configurations; all with one epoch at 1e-5, momentum and decay."""
    published = {CoOp: (50, 32, 2e-3), CoCoOp: (10, 1, 2e-3), VPT: (5, 4, 2.5e-3), MaPLe: (5, 4, 3.5e-3)}
    assert all(kind.recipe == Recipe(*numbers) for kind, numbers in published.items())
    assert PromptSRC.recipe == Recipe(20, 4, 2.5e-3, average=(15, 1))
    assert CROSS_DATASET["recipe"] == Recipe(20, 4, 2.5e-3, average=(6, 10))


def test_context_starts_from_words(emoji):
    words = emoji.model.token_embedding.weight[torch.tensor(emoji.tokenizer.encode("a photo of a"))]
    assert len(words) == 4
    assert torch.equal(CoOp(emoji).prompt.ctx, words) and torch.equal(CoCoOp(emoji).ctx, words)
    assert torch.equal(PromptSRC(emoji).ctx, words) and torch.equal(MaPLe(emoji).ctx, words[:2])
    for learner in (CoOp(emoji), CoCoOp(emoji), PromptSRC(emoji), MaPLe(emoji)):  # the table itself is not learned
        moved(learner)
    assert torch.equal(words, emoji.model.token_embedding.weight[torch.tensor(emoji.tokenizer.encode("a photo of a"))])


@pytest.mark.parametrize(
    "kind, drawn",
    [(VPT, lambda x: [*x.visual]), (MaPLe, lambda x: [*x.deep]), (PromptSRC, lambda x: [*x.deep, *x.visual])],
    **by_name,
)
def test_random_starts(vit, kind, drawn):
    first, again, other = (torch.cat([t.flatten() for t in drawn(kind(vit, seed=s))]).detach() for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.std().item() == pytest.approx(0.02, rel=0.05) and abs(first.mean()) < 1e-3
    layers = [t.flatten() for t in drawn(kind(vit))]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(layers, 2))  # no layer a copy of another


def test_promptsrcs_towers_start_from_draws_of_their_own(emoji):
    """Here both are 128 wide, so that one draw for both would be seen."""
    learner = PromptSRC(emoji)
    drawn = [*learner.deep, *learner.visual]
    assert all(t.shape == (4, 128) for t in drawn)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


def test_global_random_numbers_stay(emoji):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    for kind in FIVE:
        kind(emoji)
    PromptKD(emoji, emoji)
    assert torch.equal(state, torch.get_rng_state())


def test_maples_deeper_maps_start_as_copies(vit):
    learner = MaPLe(vit)
    assert len(learner.deep) == len(learner.deep_proj) == 8
    first = learner.deep_proj[0]
    for proj in learner.deep_proj:
        assert torch.equal(proj.weight, first.weight) and torch.equal(proj.bias, first.bias)
    assert len({proj.weight.data_ptr() for proj in learner.deep_proj}) == 8  # equal, and each its own
    assert not torch.equal(learner.proj.weight, first.weight)
    assert learner.proj.weight.shape == (768, 512) and learner.proj.weight.abs().max() <= 512**-0.5


def test_maple_keeps_the_words_it_does_not_learn(emoji):
    encode = emoji.tokenizer.encode
    expected = {2: [~0, ~1, *encode("of a sushi.")], 4: [~0, ~1, ~2, ~3, *encode("sushi.")]}
    expected[5] = [~0, ~1, ~2, ~3, ~4, *encode("sushi.")]
    for n_ctx, symbols in expected.items():
        (prompt,) = context_prompts(emoji, ("sushi",), n_ctx, template=MaPLe(emoji, n_ctx=n_ctx).template)
        assert list(prompt[1:-1]) == symbols


def test_cocoops_network(vit):
    net = CoCoOp(vit).meta_net
    assert [tuple(p.shape) for p in net.parameters()] == [(32, 512), (32,), (512, 32), (512,)]


def test_promptsrcs_sentences():
    """Sixty, all different, all of OpenAI's; the plain one among them, as the published list has it in front."""
    sentences = templates()
    assert len(sentences) == len(set(sentences)) == 60
    assert set(sentences) <= {template("{}") for template in OPENAI_IMAGENET_TEMPLATES}
    assert "a photo of a {}." in sentences and all("{}" in s for s in sentences)


def test_promptsrc_reference(double):
    expected = oracle.reference(double, NAMES)
    assert error(PromptSRC(double).reference(NAMES), expected) < 1e-12
    assert error(oracle.reference(double, NAMES, wrong="unit mean"), expected) > 1e-5


@pytest.mark.parametrize("kind", [CoOp, VPT], **by_name)
def test_step_zero_is_zero_shot_where_it_can_be(double, kind):
    """CoOp starts as the words themselves; VPT's text stays theirs."""
    pixels = pixels_for(double)
    plain = oracle.zero_shot(double, pixels, NAMES)
    assert error(Learner(double)(pixels, NAMES), plain.logits) < 1e-12
    assert error(kind(double).text(NAMES), plain.text) < 1e-12
    if kind is CoOp:
        assert error(CoOp(double)(pixels, NAMES), plain.logits) < 1e-12


# --- what is learned, and what is not ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*FIVE, PromptKD], **by_name)
def test_the_model_stays_bit_for_bit(emoji, kind):
    before = {n: t.clone() for n, t in emoji.model.state_dict().items()}
    learner, pixels, labels = build(kind, emoji), pixels_for(emoji, 4), torch.tensor([0, 1, 2, 0])
    start = {n: p.detach().clone() for n, p in learner.named_parameters()}
    recipe = Recipe(epochs=2, batch_size=4, lr=0.1, warmup_epochs=0, average=(2, 1))
    history = fit(
        learner,
        lambda learner, b: learner.loss(pixels[b], NAMES, lambda z: F.cross_entropy(z, labels[b])),
        4,
        recipe,
        progress=False,
    )
    assert history.loss[0] != history.loss[1]
    assert all(torch.equal(t, before[n]) for n, t in emoji.model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in emoji.model.parameters())
    assert all(not torch.equal(p, start[n]) for n, p in learner.named_parameters())  # all that is learned has moved
    assert not any(name.startswith(("vlm", "model", "teacher")) for name in learner.state_dict())


@pytest.mark.parametrize("kind", FIVE, **by_name)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_one_fit_for_every_way_of_learning(emoji, kind, method):
    learner, pixels = build(kind, emoji, **({"depth": 2} if kind in VISUAL else {})), pixels_for(emoji, 4)
    names, supervise, _ = objective(method, 4, torch.float32)
    history = fit(
        learner,
        lambda learner, b: learner.loss(pixels, names, supervise),
        4,
        Recipe(epochs=6, batch_size=4, lr=1e-3, warmup_epochs=0),
        progress=False,
    )
    assert min(history.loss[1:]) < history.loss[0]


@pytest.mark.parametrize("kind", FIVE, **by_name)
def test_half_precision_is_the_models_alone(emoji, kind):
    """A model in bfloat16: what is learned, its gradient and the logits stay float32."""
    half = kd.load_vlm("emoji-student-vit", device="cpu", precision="bf16")
    learner, exact, pixels = build(kind, half), build(kind, emoji), pixels_for(emoji)
    learner.load_state_dict(exact.state_dict())
    z = learner(pixels.to(half.dtype), NAMES)
    z.square().sum().backward()
    assert z.dtype == torch.float32 and error(z, exact(pixels, NAMES)) < 0.1
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in learner.parameters())


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*VISUAL, PromptKD], **by_name)
def test_resnets_carry_no_visual_tokens(resnet, kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} puts learned tokens .* use CoOp or CoCoOp") as refused:
        kind(resnet, resnet) if kind is PromptKD else kind(resnet)
    assert "\n" not in str(refused.value) and str(refused.value).count(". ") == 0


@pytest.mark.parametrize("kind", [*VISUAL, PromptKD], **by_name)
def test_cached_features_are_refused_where_the_image_tower_learns(emoji, kind):
    features = F.normalize(torch.randn(2, 128), dim=-1)
    with pytest.raises(ValueError, match="needs the images .*not features cached without its tokens") as refused:
        build(kind, emoji)(features, NAMES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [CoOp, CoCoOp], **by_name)
def test_cached_features_serve_where_it_does_not(double, kind):
    learner, pixels = build(kind, double), pixels_for(double)
    cached = learner.frozen_image(pixels)
    assert error(learner(cached, NAMES), learner(pixels, NAMES)) < 1e-12


@pytest.mark.parametrize(
    "kind, settings, sentence",
    [
        (VPT, {"depth": 7}, "depth is 7, and a tower of emoji-student-vit has 6 layers"),
        (MaPLe, {"depth": 4}, "a tower of emoji-student-vit has 3 layers"),
        (PromptSRC, {"depth": 3, "depth_text": 4}, "a tower .* has 3 layers"),
        (MaPLe, {"ctx_init": "a wheelchairing of"}, "several tokens"),
    ],
    **by_name,
)
def test_wrong_settings(emoji, kind, settings, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        kind(emoji, **settings)
    assert "\n" not in str(refused.value)


def test_cocoop_has_no_text_features_of_a_class(emoji):
    with pytest.raises(TypeError, match="no text features of a class alone"):
        CoCoOp(emoji).text(NAMES)


# --- what is computed, and how often -------------------------------------------------------------------------------


class Watched:
    """A tokenizer that notes what it was asked to encode."""

    def __init__(self, tokenizer):
        self._tokenizer, self.seen = tokenizer, []

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode(self, text):
        self.seen.append(text)
        return self._tokenizer.encode(text)


@pytest.fixture
def watched(emoji):
    """The student, its tokenizer watched; and the number of prompts of each pass through its text tower."""
    vlm, passes = VLM(emoji.model, emoji.preprocess, Watched(emoji.tokenizer), "watched"), []
    hook = vlm.model.ln_final.register_forward_hook(lambda module, args, out: passes.append(len(out)))
    yield vlm, passes
    hook.remove()


@pytest.mark.parametrize("kind", FIVE, **by_name)
def test_selection_comes_before_building(watched, kind):
    """Of a dictionary, the names that were not selected are neither turned into tokens nor encoded."""
    vlm, passes = watched
    learner, pixels = build(kind, vlm), pixels_for(vlm)
    teacher = torch.zeros(2, 1000)
    teacher[:, [700, 3, 41]] = torch.tensor([9.0, 8.0, 7.0])
    dictionary = [f"{name} {i}" for i in range(250) for name in ("sushi", "hot dog", "kiwi", "pizza")]
    loss = kd.from_dictionary(pixels, teacher, dictionary, 3)
    names = [dictionary[i] for i in (700, 3, 41)]
    vlm.tokenizer.seen.clear()
    passes.clear()
    loss(learner, torch.tensor([0, 1])).backward()
    assert vlm.tokenizer.seen and all(any(name in text for name in names) for text in vlm.tokenizer.seen)
    images = 2 if kind is CoCoOp else 1
    assert sum(passes) == 3 * images + (60 * 3 if kind is PromptSRC else 0)


@pytest.mark.parametrize("kind", [CoOp, VPT, MaPLe, PromptSRC, PromptKD], **by_name)
def test_a_classifier_encodes_its_names_once(watched, kind):
    vlm, passes = watched
    learner, pixels = build(kind, vlm), pixels_for(vlm, 3)
    passes.clear()
    with torch.no_grad():
        classify = learner.classifier(NAMES)
        parts = [classify(image[None]) for image in pixels]
    assert sum(passes) == len(NAMES)
    torch.testing.assert_close(torch.cat(parts), learner(pixels, NAMES), rtol=1e-5, atol=1e-5)


def test_frozen_texts_are_encoded_once_in_all(watched):
    vlm, passes = watched
    learner, pixels = VPT(vlm), pixels_for(vlm)
    first = learner(pixels, NAMES)
    assert sum(passes) == 3
    torch.testing.assert_close(learner(pixels, [*NAMES[::-1], "pizza"])[:, :3], first.flip(1))
    assert sum(passes) == 4  # only the new one


@pytest.mark.parametrize("kind", [*FIVE, PromptKD], **by_name)
def test_names_are_an_argument(double, kind):
    """Any names, in any order, underscores as spaces; no image knows of the others in its batch."""
    learner, pixels = build(kind, double), pixels_for(double, 3)
    z = learner(pixels, NAMES)
    assert z.shape == (3, 3) and error(learner(pixels, NAMES[::-1]), z.flip(1)) < 1e-12
    assert error(learner(pixels, ["ice cream"]), z[:, 2:]) < 1e-12
    assert error(learner(pixels[1:2], NAMES), z[1:2]) < 1e-12


# --- another learner -----------------------------------------------------------------------------------------------


class Shifted(Learner):
    """A seventh learner, in a dozen lines: one vector added to all text features, held near zero."""

    recipe = Recipe(epochs=30, batch_size=6, lr=0.05, warmup_epochs=0)

    def __init__(self, vlm, strength: float = 0.1):
        super().__init__(vlm, strength=strength)
        self.shift, self.strength = nn.Parameter(torch.zeros(vlm.model.visual.output_dim)), strength

    def text(self, classnames):
        return F.normalize(super().text(classnames) + self.shift, dim=-1)

    def loss(self, images, classnames, of_logits):
        return super().loss(images, classnames, of_logits) + self.strength * self.shift.square().sum()


def test_a_seventh_learner(emoji):
    world = kd.load_world("emoji")
    pictures = world.test.images[:6]
    pixels = ImageBatches(emoji, pictures)[:]
    learner, names = Shifted(emoji), DICTIONARY[:6]
    assert error(learner(pixels, names), Learner(emoji)(pixels, names)) < 1e-6
    teacher = 4 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    history = fit(learner, kd.from_teacher(pixels, teacher, names), 6, learner.recipe, progress=False)
    assert history.loss[-1] < history.loss[0] and learner.n_parameters() == 128
    predicted = learner.predict(pictures, names, k=2)
    p, best = learner(pixels, names).softmax(-1).max(-1)
    assert [row[0][0] for row in predicted] == [names[i] for i in best]
    assert [row[0][1] for row in predicted] == pytest.approx(p.tolist(), abs=1e-5)
    assert all(len(row) == 2 and row[0][1] >= row[1][1] for row in predicted)
