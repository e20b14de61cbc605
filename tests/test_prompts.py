"""A learned context equals the words it starts from, moves alone, and serves any list of names."""

import copy

import open_clip
import pytest
import torch
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils.clip.tokens import context_prompts
from kdpl_utils.clip.vectors import nearest_words, random_vectors, word_vectors
from kdpl_utils.clip.words import check_names
from kdpl_utils.loading import load_vlm
from kdpl_utils.prompts import PromptLearner, encode_prompts, encode_prompts_plainly
from kdpl_utils.train import Recipe, fit
from kdpl_utils.vlm import VLM, encode_names

NAMES = ["sushi", "hot dog", "OK! button", "man in motorized wheelchair: facing right", "ice_cream"]


@pytest.fixture(scope="module", params=["emoji-student-rn", "emoji-student-vit"])
def student(request):
    return load_vlm(request.param, device="cpu")


@pytest.fixture(scope="module")
def tiny():
    return load_vlm("emoji-student-rn", device="cpu")


def by_hand(vlm, rows):
    """Unit features of prompts given as lists of ids and vectors, at full context length, one at a time."""
    model, length = vlm.model, vlm.tokenizer.context_length
    features = []
    for row in rows:
        x = [model.token_embedding(torch.tensor(s)) if isinstance(s, int) else s for s in row]
        x += [model.token_embedding(torch.tensor(0))] * (length - len(row))
        x = torch.stack(x)[None] + model.positional_embedding
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))[0, len(row) - 1]
        features.append(F.normalize(x @ model.text_projection, dim=0))
    return torch.stack(features)


def test_step_zero_equals_zero_shot(student):
    """At full length through open_clip, not through our own cut: both equalities of the exact text path at once."""
    tokens = student.tokenizer([f"a photo of a {n.replace('_', ' ')}." for n in NAMES])
    plain = student.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(PromptLearner(student)(NAMES), plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(encode_names(student, NAMES), plain, atol=1e-5, rtol=0)


def test_custom_text_layout(tiny):
    torch.manual_seed(0)
    model = open_clip.create_model("emoji-student-rn", force_custom_text=True).eval().requires_grad_(False)
    vlm = VLM(model, tiny.preprocess, tiny.tokenizer, "custom")
    plain = model.encode_text(vlm.tokenizer([f"a photo of a {n}." for n in NAMES[:2]]), normalize=True)
    torch.testing.assert_close(PromptLearner(vlm)(NAMES[:2]), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("n_ctx", [1, 4, 5])
def test_positions_by_hand(tiny, position, n_ctx):
    prompt = PromptLearner(tiny, n_ctx=n_ctx, position=position, seed=1)
    sot, eot, encode = tiny.tokenizer.sot_token_id, tiny.tokenizer.eot_token_id, tiny.tokenizer.encode
    ctx, cut = list(prompt.ctx), {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    names = ["sushi", "hot dog"]
    rows = [[sot, *ctx[:cut], *encode(n), *ctx[cut:], *encode("."), eot] for n in names]
    torch.testing.assert_close(prompt(names), by_hand(tiny, rows), atol=1e-5, rtol=0)


def test_gradient_equals_the_plain_way(tiny):
    prompt = PromptLearner(tiny, n_ctx=3, seed=2)
    weights = torch.randn(2, tiny.model.text_projection.shape[1], generator=torch.Generator().manual_seed(0))
    (prompt(["sushi", "hot dog"]) * weights).sum().backward()
    got, prompt.ctx.grad = prompt.ctx.grad, None
    sot, eot = tiny.tokenizer.sot_token_id, tiny.tokenizer.eot_token_id
    rows = [[sot, *prompt.ctx, *tiny.tokenizer.encode(f"{n}."), eot] for n in ("sushi", "hot dog")]
    (by_hand(tiny, rows) * weights).sum().backward()
    torch.testing.assert_close(got, prompt.ctx.grad, atol=1e-5, rtol=1e-4)


def test_only_the_context_moves(tiny):
    vlm = VLM(copy.deepcopy(tiny.model), tiny.preprocess, tiny.tokenizer, "copy")
    prompt = PromptLearner(vlm)
    assert [n for n, _ in prompt.named_parameters()] == ["ctx"] and list(prompt.state_dict()) == ["ctx"]
    before = {n: t.clone() for n, t in vlm.model.state_dict().items()}
    start, images = prompt.ctx.detach().clone(), F.normalize(torch.randn(8, vlm.model.text_projection.shape[1]), dim=-1)
    fit(
        prompt,
        lambda p, b: F.cross_entropy(9 * images[b] @ p(NAMES).T, b % 5),
        8,
        Recipe(3, 4, lr=0.1),
        progress=False,
    )
    assert all(torch.equal(t, before[n]) for n, t in vlm.model.state_dict().items())
    assert all(p.grad is None for p in vlm.model.parameters())
    assert (prompt.ctx - start).abs().max() > 1e-4


def test_names_are_an_argument(tiny):
    prompt = PromptLearner(tiny, n_ctx=2)
    torch.testing.assert_close(prompt(NAMES)[[3, 1]], prompt([NAMES[3], NAMES[1]]), atol=1e-6, rtol=0)
    assert prompt(["a name nobody trained"]).shape == (1, tiny.model.text_projection.shape[1])


def test_class_specific_contexts(tiny):
    prompt = PromptLearner(tiny, classnames=NAMES)
    shared = PromptLearner(tiny)
    assert prompt.ctx.shape == (len(NAMES), *shared.ctx.shape)
    torch.testing.assert_close(prompt(NAMES), shared(NAMES))
    prompt(NAMES[1:3]).sum().backward()
    assert prompt.ctx.grad.abs().amax(dim=(1, 2)).gt(0).tolist() == [False, True, True, False, False]
    with pytest.raises(KeyError, match="pizza"):
        prompt(["pizza"])
    drawn = PromptLearner(tiny, n_ctx=2, classnames=NAMES).ctx
    assert len({tuple(c) for c in drawn.flatten(1).tolist()}) == len(NAMES)  # each class has a draw of its own


def test_random_start(tiny):
    a, b, c = (PromptLearner(tiny, n_ctx=16, seed=s).ctx for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert 0.015 < a.std() < 0.025


def test_nearest_words_of_untrained_words_are_the_words(tiny):
    assert [words[0] for words in nearest_words(tiny, PromptLearner(tiny).ctx, k=2)] == ["a", "photo", "of", "a"]


def test_vectors_of_a_half_precision_model_are_learned_in_float32(tiny):
    """Half precision would round small steps away; double precision stays what it is."""
    for dtype, kept in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64,) * 2):
        vlm = VLM(copy.deepcopy(tiny.model).to(dtype), tiny.preprocess, tiny.tokenizer, "copy")
        for ctx in (word_vectors(vlm, "a photo"), random_vectors(vlm, 3, seed=0)):
            assert ctx.dtype == kept and not ctx.requires_grad


def test_a_random_start_is_drawn_with_deviation_a_fiftieth(tiny):
    expected = 0.02 * torch.randn(4, 7, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(random_vectors(tiny, 4, seed=3, width=7), expected)
    assert random_vectors(tiny, 4, seed=3).shape == (4, tiny.model.token_embedding.weight.shape[1])
    own = PromptLearner(tiny, n_ctx=2, classnames=["ox", "cat"], seed=3).ctx
    torch.testing.assert_close(own.detach().flatten(0, 1), random_vectors(tiny, 4, seed=3))


def test_words_are_copied_from_the_model(tiny):
    """What is learned never writes into the frozen table."""
    ctx = word_vectors(tiny, "a photo of a")
    before = tiny.model.token_embedding.weight.clone()
    ctx += 1
    assert torch.equal(tiny.model.token_embedding.weight, before) and ctx.shape == (4, before.shape[1])


def test_a_prompt_may_be_as_long_as_the_model_reads(tiny):
    """Start, vectors, the name with its full stop, end: 40 tokens are read, 41 refused."""
    most = 40 - 2 - len(tiny.tokenizer.encode("sushi."))
    assert PromptLearner(tiny, n_ctx=most)(["sushi"]).isfinite().all()
    sentence = (
        f"The class name 'sushi' and {most + 1} context vectors are 41 tokens, and emoji-student-rn reads at most 40"
    )
    for position in ("end", "middle", "front"):
        with pytest.raises(ValueError, match=sentence):
            PromptLearner(tiny, n_ctx=most + 1, position=position)(["sushi"])


def test_a_tower_or_tokenizer_that_is_not_clips_is_refused(tiny):
    """Every token sees every other, so a context behind the name would change it; another tokenizer has other marks."""
    bidirectional = copy.deepcopy(tiny.model)
    bidirectional.attn_mask = None
    for vlm in (VLM(bidirectional, None, tiny.tokenizer, "other"), VLM(tiny.model, None, lambda texts: None, "other")):
        with pytest.raises(ValueError, match="text tower of other is not CLIP's.*use it as a teacher"):
            PromptLearner(vlm)


def test_the_plain_way_is_the_fast_way(tiny):
    """Features and gradients, with deeper vectors, at the end, in the middle and in front."""
    g = torch.Generator().manual_seed(0)
    ctx, deep = (torch.randn(3, tiny.model.token_embedding.weight.shape[1], generator=g) for _ in range(2))
    for position in ("end", "middle", "front"):
        prompts = context_prompts(tiny, tuple(check_names(NAMES)), 3, position)
        pairs = []
        for encode in (encode_prompts, encode_prompts_plainly):
            leaves = [ctx.clone().requires_grad_(), deep.clone().requires_grad_()]
            features = encode(tiny.model, prompts, leaves[0], leaves[1:])
            features.cos().sum().backward()
            pairs.append([features.detach(), *(leaf.grad for leaf in leaves)])
        for fast, plain in zip(*pairs):
            torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-4)


def test_one_loss_for_prompt_and_learner(tiny):
    """The same call as ``Learner.loss``, so that ``from_teacher`` and its siblings take either."""
    features = F.normalize(torch.randn(4, 128, generator=torch.Generator().manual_seed(1)), dim=-1)
    labels = torch.tensor([0, 1, 0, 1])
    losses = [kd.from_labels(features, labels, NAMES[:2])(learner, torch.arange(4)) for learner in (
        PromptLearner(tiny), kd.CoOp(tiny)
    )]  # fmt: skip
    torch.testing.assert_close(*losses)
