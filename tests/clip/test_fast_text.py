"""The text tower: which path a model takes, what a tree holds, and that sharing, chunks and recomputing change nothing.

The paths against the oracle, which writes every prompt out at full length; learners as wholes are in test_learners.
"""

import doctest
import itertools

import oracle
import pytest
import torch
from oracle import error, tiny

from kdpl_utils.clip import fast_text
from kdpl_utils.clip.fast_text import PromptTree, build_trees, encode_prompts
from kdpl_utils.clip.tokens import context_prompts, encode_texts, with_context
from kdpl_utils.loading import load_vlm
from kdpl_utils.prompts import encode_prompts_plainly

N, DEPTH, WIDTH = 2, 3, 24  # learned vectors, layers with fresh ones, width of the tiny text tower
WORDS = ["sushi", "hot dog", "hot pepper", "kiwi", "OK! button", "beach with umbrella", "kiwi fruit"]


@pytest.fixture(scope="module")
def emoji():
    return load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture(scope="module")
def vlm(emoji):
    return tiny(emoji, layers=(1, 4))


def vectors(seed=0, n=N, layers=DEPTH):
    g = torch.Generator().manual_seed(seed)
    return [(0.5 * torch.randn(n, WIDTH, generator=g)).double().requires_grad_() for _ in range(layers)]


def rows_of(vlm, words=WORDS, n=N):
    """The prompts as symbols, learned vectors first."""
    return context_prompts(vlm, tuple(words), n)


def with_vectors(rows, ctx):
    """The same for the oracle: the vectors themselves in place of their symbols."""
    return [[ctx[~s] if s < 0 else s for s in row] for row in rows]


def gradients(features, parameters):
    """Of a sum in which every number has a weight of its own."""
    weights = torch.arange(features.numel(), dtype=features.dtype).cos().view(features.shape)
    return torch.autograd.grad((features * weights).sum(), parameters, retain_graph=True)


def agree(found, expected, parameters, tolerance=1e-12):
    assert error(found, expected) < tolerance
    pairs = zip(gradients(found, parameters), gradients(expected, parameters))
    assert all(error(*pair) < tolerance for pair in pairs)


# --- which towers --------------------------------------------------------------------------------------------------

CUSTOM = {"custom": True}
TOWERS = {  # models, and whether their text tower is CLIP's kind
    "CLIP": ({}, True),
    "CustomTextCLIP": (CUSTOM, True),
    "projection with bias": (CUSTOM | {"text": {"proj_bias": True}}, True),
    "bidirectional": (CUSTOM | {"text": {"no_causal_mask": True}}, False),
    "bidirectional CLIP": ({"text": {"no_causal_mask": True}}, False),
    "read at the last position": (CUSTOM | {"text": {"pool_type": "last"}}, False),
    "CoCa's class token": (CUSTOM | {"text": {"embed_cls": True}}, False),
    "own attention": (CUSTOM | {"text": {"qk_norm": True, "scale_heads": True, "block_type": "custom"}}, False),
}


@pytest.mark.parametrize("kind", TOWERS)
def test_zero_shot_is_the_model_itself(emoji, kind):
    """The fast way where the tower is CLIP's, the model's own code elsewhere: the same features."""
    settings, is_clip = TOWERS[kind]
    vlm = tiny(emoji, layers=(1, 3), **settings)
    assert vlm.has_clip_text == is_clip
    sentences = [f"a photo of a {w}." for w in WORDS]
    assert error(encode_texts(vlm, sentences), vlm.model.encode_text(vlm.tokenizer(sentences))) < 1e-12


# --- both paths against the oracle ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 4])
@pytest.mark.parametrize("encode", [encode_prompts, encode_prompts_plainly])
def test_deep_vectors_equal_the_oracle(vlm, encode, n):
    """``n`` deeper layers, up to one more than there are, which has no place and is ignored."""
    ctx, *deep = learned = vectors(layers=1 + n)
    rows = rows_of(vlm)
    expected = oracle.text_features(vlm.model, with_vectors(rows, ctx), deep)
    used = learned[:4]
    agree(encode(vlm.model, rows, ctx, deep), expected, used)


@pytest.mark.parametrize("wrong", ["positions", "mask", "early", "deep late", "deep positions"])
def test_a_mistake_is_seen(vlm, wrong):
    ctx, *deep = vectors()
    rows = rows_of(vlm)
    found = encode_prompts(vlm.model, rows, ctx, deep)
    assert error(found, oracle.text_features(vlm.model, with_vectors(rows, ctx), deep, wrong)) > 1e-3


def test_the_oracle_is_open_clip(vlm, emoji):
    sentences = [f"a photo of a {w}." for w in WORDS]
    for one in (vlm, tiny(emoji, layers=(1, 3), text={"proj_bias": True}, custom=True, quick_gelu=True)):
        rows = [oracle.sentence(one, s) for s in sentences]
        expected = one.model.encode_text(one.tokenizer(sentences))
        assert error(oracle.text_features(one.model, rows), expected) < 1e-12
        assert error(oracle.text_features(one.model, rows, length=24), expected) < 1e-12  # causal: no matter


@pytest.mark.parametrize("position", ["middle", "front"])
def test_vectors_elsewhere(vlm, position):
    """Deep ones too, at places that differ from name to name."""
    ctx, *deep = learned = vectors(n=3)
    rows = context_prompts(vlm, tuple(WORDS), 3, position)
    expected = oracle.text_features(vlm.model, with_vectors(rows, ctx), deep)
    for encode in (encode_prompts, encode_prompts_plainly):
        agree(encode(vlm.model, rows, ctx, deep), expected, learned)


def test_contexts_of_their_own(vlm):
    """As CoCoOp has for images, and class-specific CoOp for classes."""
    many = torch.randn(3, N, WIDTH, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    names, copies = [WORDS[i] for i in (0, 1, 0, 2, 5)], [0, 0, 1, 2, 2]
    expected = oracle.text_features(vlm.model, [oracle.behind(vlm, many[c], f"{w}.") for w, c in zip(names, copies)])
    rows = with_context(context_prompts(vlm, tuple(names), N), N, copies)
    agree(encode_prompts(vlm.model, rows, many.flatten(0, 1)), expected, [many])


def test_single_precision(emoji):
    ctx = 0.1 * torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    rows = rows_of(emoji, n=4)
    expected = oracle.text_features(oracle.in_double(emoji).model, with_vectors(rows, ctx.double()))
    for encode in (encode_prompts, encode_prompts_plainly):
        assert error(encode(emoji.model, rows, ctx).double(), expected) < 1e-5


def test_any_order_and_any_company(vlm):
    """A feature depends on its own prompt only: not on the order, the others, or their lengths."""
    ctx, *deep = vectors()
    rows = rows_of(vlm)
    together = encode_prompts(vlm.model, rows, ctx, deep)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    assert error(encode_prompts(vlm.model, tuple(rows[i] for i in order), ctx, deep), together[order]) < 1e-12
    alone = torch.cat([encode_prompts(vlm.model, (row,), ctx, deep) for row in rows])
    assert error(alone, together) < 1e-12
    double = encode_prompts(vlm.model, (rows[1], rows[0], rows[1]), ctx, deep)  # the same prompt twice
    assert torch.equal(double[0], double[2])


# --- trees ---------------------------------------------------------------------------------------------------------


def test_a_tree_by_hand():
    """9 begins, 0 ends: "ctx a b", "ctx a", "ctx c b", "ctx a b" again, with ctx = one vector."""
    rows = [[9, ~0, 5, 6, 0], [9, ~0, 5, 0], [9, ~0, 7, 6, 0], [9, ~0, 5, 6, 0]]
    tree = PromptTree(rows)
    # 9 | ~0 | 5 7 | 6 0 6 | 0 0: the two 6 stand behind different words
    assert len(tree.symbol) == len(tree.depth) == len(tree.first_position) == 9 and tree.path.shape == (4, 5)
    assert [tree.symbol[row].tolist() for row in tree.path] == [r + r[-1:] * (5 - len(r)) for r in rows]
    assert tree.path[0].tolist() == tree.path[3].tolist()
    assert len({r[0].item() for r in tree.path}) == len({r[1].item() for r in tree.path}) == 1
    assert tree.path[0, 2] == tree.path[1, 2] != tree.path[2, 2] and tree.path[0, 3] != tree.path[2, 3]
    assert tree.path[1, 3] == tree.path[1, 4] == tree.end[1]  # a short prompt stays on its end
    assert [tree.symbol[e].item() for e in tree.end] == [0] * 4 and len(set(tree.end.tolist())) == 3
    assert tree.slot.tolist() == [tree.path[0, 1].item()] and tree.vector.tolist() == [0]
    assert tree.depth.tolist() == [0, 1, 2, 2, 3, 3, 3, 4, 4]


def test_no_two_nodes_are_one_beginning(vlm):
    """Nodes and distinct beginnings are the same in number, and each stands at its own place in its own prompt."""
    rows = rows_of(vlm, [f"{a} {b}" for a, b in itertools.product(WORDS, WORDS)])
    tree = PromptTree(rows)
    assert len(tree.symbol) == len({tuple(row[: i + 1]) for row in rows for i in range(len(row))})
    assert 2 * len(tree.symbol) < sum(map(len, rows))  # it does share
    flat = tree.path.flatten()
    assert torch.equal(flat[tree.first_position], torch.arange(len(tree.symbol)))
    assert torch.equal(tree.depth, tree.first_position % tree.path.shape[1])
    assert (tree.symbol[tree.slot] == ~tree.vector).all() and (tree.symbol < 0).sum() == len(tree.slot) == N
    for row, path in zip(rows, tree.path):
        assert tree.symbol[path].tolist()[: len(row)] == list(row) and tree.end.tolist().count(path[-1]) == 1


@pytest.mark.parametrize("words", [["sushi"], ["sushi", "sushi roll"], ["a", "b"]])
def test_small_trees(vlm, words):
    """One prompt is a chain; and a name may begin another."""
    ctx, *deep = learned = vectors()
    rows = rows_of(vlm, words)
    agree(
        encode_prompts(vlm.model, rows, ctx, deep),
        oracle.text_features(vlm.model, with_vectors(rows, ctx), deep),
        learned,
    )
    if len(words) == 1:
        assert len(PromptTree(rows).symbol) == len(rows[0])


def test_the_linear_layers_see_each_beginning_once(vlm, monkeypatch):
    """And in the last layer the end tokens alone."""
    rows, seen = rows_of(vlm), []
    blocks = vlm.model.transformer.resblocks
    hooks = [b.mlp.register_forward_pre_hook(lambda module, args: seen.append(len(args[0]))) for b in blocks]
    encode_prompts(vlm.model, rows, vectors()[0])
    for hook in hooks:
        hook.remove()
    assert seen == [len(PromptTree(rows).symbol)] * (len(blocks) - 1) + [len(rows)]


# --- chunks and memory ---------------------------------------------------------------------------------------------

MANY = [f"{a} {b}" for a, b in itertools.product(WORDS, WORDS)]


@pytest.mark.parametrize("tree, kept", [(1, 0), (5, 0), (5, 10_000), (49, 0), (16, 48)])
def test_chunks_change_nothing(vlm, monkeypatch, tree, kept):
    """Several trees, activations kept or computed again: features and gradients of one big tree."""
    ctx, *deep = learned = vectors()
    rows = rows_of(vlm, MANY)
    runs = []
    encode = fast_text.encode_tree
    whole = encode_prompts(vlm.model, rows, ctx, deep)
    monkeypatch.setitem(fast_text.PROMPTS_PER_TREE, "cpu", tree)
    build_trees.cache_clear()
    monkeypatch.setattr(fast_text, "MAX_PROMPTS_IN_MEMORY", kept)
    monkeypatch.setattr(fast_text, "encode_tree", lambda *args: (runs.append(args[1]), encode(*args))[1])
    trees = -(-49 // tree)
    found = encode_prompts(vlm.model, rows, ctx, deep)
    assert len(runs) == trees and max(len(t.end) for t in runs) <= tree
    agree(found, whole, learned)
    assert len(runs) == trees * (2 if kept < 49 else 1)  # computed again for the gradient, or not
    with torch.no_grad():
        assert error(encode_prompts(vlm.model, rows, ctx, deep), whole) < 1e-12
    build_trees.cache_clear()


def test_trees_of_neighbours(vlm, monkeypatch):
    """Each row in one tree; sorted, so that a tree of neighbours has fewer nodes than one of strangers."""
    monkeypatch.setitem(fast_text.PROMPTS_PER_TREE, "cpu", 7)
    build_trees.cache_clear()
    rows = rows_of(vlm, MANY)
    forest = build_trees(rows, torch.device("cpu"))
    assert sorted(r for members, _ in forest for r in members) == list(range(49)) and len(forest) == 7
    strangers = sum(len(PromptTree(rows[i::7]).symbol) for i in range(7))
    assert sum(len(tree.symbol) for _, tree in forest) < strangers


def test_the_worked_example():
    assert doctest.testmod(fast_text) == (0, 2)
