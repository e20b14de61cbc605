"""The text tower: which path a model takes, what a tree holds, and that sharing, chunks and recomputing change nothing.

The paths against the oracle, which writes every prompt out at full length; learners as wholes are in test_learners.
"""

import contextlib
import copy
import doctest
import itertools

import open_clip
import oracle
import pytest
import torch
from oracle import error, tiny
from torch.nn import functional as F

from kdpl_utils.loading import load_vlm
from kdpl_utils.prompts import PromptTexts
from kdpl_utils.towers import text
from kdpl_utils.towers.text import (
    PromptTree,
    build_trees,
    encode_plainly,
    encode_prompts,
    shares_beginnings,
    text_tower,
)
from kdpl_utils.vlm import encode_texts

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
    return PromptTexts(vlm, n).prompts(words)


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


@contextlib.contextmanager
def paths_taken(monkeypatch):
    """Which of the two ways ran, one entry a call."""
    taken, forest, plainly = [], text.encode_forest, text.encode_plainly
    with monkeypatch.context() as patch:
        patch.setattr(text, "encode_forest", lambda *args: (taken.append("tree"), forest(*args))[1])
        patch.setattr(text, "encode_plainly", lambda *args: (taken.append("plain"), plainly(*args))[1])
        yield taken


# --- which path ----------------------------------------------------------------------------------------------------

CUSTOM = {"custom": True}
KINDS = {  # models, and the path that is right for them
    "CLIP": ({}, "tree"),
    "CustomTextCLIP": (CUSTOM, "tree"),
    "projection with bias": (CUSTOM | {"text": {"proj_bias": True}}, "tree"),
    "read at the end token's id": ({"text": {"pool_type": "eos"}}, "tree"),
    "bidirectional": (CUSTOM | {"text": {"no_causal_mask": True}}, "plain"),
    "bidirectional CLIP": ({"text": {"no_causal_mask": True}}, "plain"),
    "bidirectional, padding masked": (CUSTOM | {"text": {"no_causal_mask": True}, "set": "use_pad_mask"}, "plain"),
    "read at the last position": (CUSTOM | {"text": {"pool_type": "last"}}, "plain"),
    "read at the last position, CLIP": ({"text": {"pool_type": "last"}}, "plain"),
    "CoCa's class token": (CUSTOM | {"text": {"embed_cls": True}}, "plain"),
    "CoCa's class token, correct mask": (CUSTOM | {"text": {"embed_cls": True}, "set": "correct_cls_mask"}, "plain"),
    "own attention": (CUSTOM | {"text": {"qk_norm": True, "scale_heads": True, "block_type": "custom"}}, "plain"),
}


def make(emoji, kind):
    settings, path = KINDS[kind]
    settings = {**settings, "text": dict(settings.get("text", {}))}
    if settings["text"].get("pool_type") == "eos":
        settings["text"]["eos_id"] = emoji.tokenizer.eot_token_id
    flag = settings.pop("set", None)
    vlm = tiny(emoji, layers=(1, 3), **settings)
    if flag:  # switches that the tower has and its configuration has not
        setattr(vlm.model.text, flag, True)
    return vlm, path


@pytest.mark.parametrize("kind", KINDS)
def test_which_path_runs(emoji, monkeypatch, kind):
    vlm, path = make(emoji, kind)
    assert shares_beginnings(vlm.model) == (path == "tree")
    with paths_taken(monkeypatch) as taken:
        encode_prompts(vlm.model, rows_of(vlm), vectors()[0])
    assert taken == [path]


@pytest.mark.parametrize("kind", KINDS)
def test_either_path_is_the_model_itself(emoji, kind):
    """Learned vectors that are the embeddings of words give what the model gives for the words."""
    vlm, _ = make(emoji, kind)
    words = vlm.tokenizer.encode("a photo")
    ctx = text_tower(vlm.model).token_embedding.weight[torch.tensor(words)]
    expected = vlm.model.encode_text(vlm.tokenizer([f"a photo {w}." for w in WORDS]))
    assert len(words) == N
    assert error(encode_prompts(vlm.model, rows_of(vlm), ctx), expected) < 1e-12
    assert error(encode_texts(vlm, [f"a photo {w}." for w in WORDS]), expected) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_has_a_gradient(emoji, kind):
    vlm, _ = make(emoji, kind)
    ctx, *deep = learned = vectors(layers=2)
    grads = gradients(encode_prompts(vlm.model, rows_of(vlm), ctx, deep), learned)
    assert all(g.abs().max() > 1e-6 for g in grads)
    assert not text_tower(vlm.model).token_embedding._forward_hooks  # nothing left behind
    assert not any(b._forward_pre_hooks for b in text_tower(vlm.model).transformer.resblocks)


def test_a_layer_of_ones_own_takes_the_plain_path(emoji):
    class Own(open_clip.transformer.ResidualAttentionBlock):
        pass

    model = tiny(emoji, layers=(1, 2)).model
    assert shares_beginnings(model)
    model.transformer.resblocks[1] = Own(WIDTH, 3)
    assert not shares_beginnings(model)


# --- both paths against the oracle ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 4])
@pytest.mark.parametrize("encode", [encode_prompts, encode_plainly])
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
    rows = PromptTexts(vlm, 3, position).prompts(WORDS)
    expected = oracle.text_features(vlm.model, with_vectors(rows, ctx), deep)
    for encode in (encode_prompts, encode_plainly):
        agree(encode(vlm.model, rows, ctx, deep), expected, learned)


def test_contexts_of_their_own(vlm):
    """As CoCoOp has for images, and class-specific CoOp for classes."""
    many = torch.randn(3, N, WIDTH, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    names, copies = [WORDS[i] for i in (0, 1, 0, 2, 5)], [0, 0, 1, 2, 2]
    expected = oracle.text_features(vlm.model, [oracle.behind(vlm, many[c], f"{w}.") for w, c in zip(names, copies)])
    agree(PromptTexts(vlm, N).encode(names, many, copies=copies), F.normalize(expected, dim=-1), [many])


def test_single_precision(emoji):
    ctx = 0.1 * torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    rows = rows_of(emoji, n=4)
    expected = oracle.text_features(oracle.in_double(emoji).model, with_vectors(rows, ctx.double()))
    for encode in (encode_prompts, encode_plainly):
        assert error(encode(emoji.model, rows, ctx).double(), expected) < 1e-5


def test_any_order_and_any_company(vlm):
    """A feature depends on its own prompt only: not on the order, the others, or their lengths."""
    ctx, *deep = vectors()
    rows = rows_of(vlm)
    together = encode_prompts(vlm.model, rows, ctx, deep)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    assert error(encode_prompts(vlm.model, [rows[i] for i in order], ctx, deep), together[order]) < 1e-12
    alone = torch.cat([encode_prompts(vlm.model, [row], ctx, deep) for row in rows])
    assert error(alone, together) < 1e-12
    double = encode_prompts(vlm.model, [rows[1], rows[0], rows[1]], ctx, deep)  # the same prompt twice
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
        assert tree.symbol[path].tolist()[: len(row)] == row and tree.end.tolist().count(path[-1]) == 1


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
    rows, runs, encode = rows_of(vlm, MANY), [], text._encode_tree
    assert len(rows) == 49 < text.PROMPTS_PER_TREE_CPU
    whole = encode_prompts(vlm.model, rows, ctx, deep)
    monkeypatch.setattr(text, "PROMPTS_PER_TREE_CPU", tree)
    monkeypatch.setattr(text, "MAX_PROMPTS_IN_MEMORY", kept)
    monkeypatch.setattr(text, "_encode_tree", lambda *args: (runs.append(args[1]), encode(*args))[1])
    trees = -(-49 // tree)
    found = encode_prompts(vlm.model, rows, ctx, deep)
    assert len(runs) == trees and max(len(t.end) for t in runs) <= tree
    agree(found, whole, learned)
    assert len(runs) == trees * (2 if kept < 49 else 1)  # computed again for the gradient, or not
    assert error(encode_plainly(vlm.model, rows, ctx, deep), whole) < 1e-12
    with torch.no_grad():
        assert error(encode_prompts(vlm.model, rows, ctx, deep), whole) < 1e-12


def test_chunks_of_the_plain_path(emoji, monkeypatch):
    vlm, _ = make(emoji, "bidirectional")
    ctx, *deep = learned = vectors()
    rows = rows_of(vlm, MANY[:9])
    whole = encode_prompts(vlm.model, rows, ctx, deep)
    monkeypatch.setattr(text, "PROMPTS_PER_TREE_CPU", 4)
    with paths_taken(monkeypatch) as taken:
        agree(encode_prompts(vlm.model, rows, ctx, deep), whole, learned)
    assert taken == ["plain"] * 3


def test_trees_of_neighbours(vlm, monkeypatch):
    """Each row in one tree; sorted, so that a tree of neighbours has fewer nodes than one of strangers."""
    monkeypatch.setattr(text, "PROMPTS_PER_TREE_CPU", 7)
    rows = rows_of(vlm, MANY)
    forest = build_trees(vlm.model, rows)
    assert sorted(r for members, _ in forest for r in members) == list(range(49)) and len(forest) == 7
    strangers = sum(len(PromptTree(rows[i::7]).symbol) for i in range(7))
    assert sum(len(tree.symbol) for _, tree in forest) < strangers


def test_a_gpu_gets_fewer_and_larger_trees(vlm, monkeypatch):
    """By the device alone: one that holds no numbers serves as well."""
    monkeypatch.setattr(text, "PROMPTS_PER_TREE_CPU", 7)
    elsewhere = copy.deepcopy(vlm.model).to("meta")
    ((members, tree),) = build_trees(elsewhere, rows_of(vlm, MANY))
    assert len(members) == 49 and tree.path.device.type == "meta"


def held_for_gradient(run):
    """Bytes of the distinct tensors that autograd keeps until the gradient is due."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = run()
    assert features.requires_grad
    return sum(size for size, _ in kept.values())


def test_memory_is_bounded(vlm, monkeypatch):
    """With trees computed again, what is held does not grow with the names, but for their features."""
    ctx, *deep = vectors()
    few, many = (rows_of(vlm, [f"{w} {i}" for i in range(n) for w in WORDS]) for n in (4, 40))
    monkeypatch.setattr(text, "PROMPTS_PER_TREE_CPU", 14)
    weights = sum(p.nbytes for p in vlm.model.parameters())

    def held(rows):
        return held_for_gradient(lambda: encode_prompts(vlm.model, rows, ctx, deep))

    monkeypatch.setattr(text, "MAX_PROMPTS_IN_MEMORY", 10_000)
    kept = [held(few), held(many)]
    monkeypatch.setattr(text, "MAX_PROMPTS_IN_MEMORY", 0)
    again = [held(few), held(many)]
    assert kept[1] - kept[0] > 5 * (kept[0] - weights) > 0  # ten times the names
    assert again[1] < 0.02 * kept[1] and again[0] < 0.2 * kept[0]


def test_trees_are_remembered_and_forgotten(emoji, monkeypatch):
    """Building a tree takes time: the same names again do not, and no more than a few lists are kept."""
    from kdpl_utils import prompts

    planted, grow = [], prompts.build_trees
    monkeypatch.setattr(prompts, "build_trees", lambda model, rows: (planted.append(len(rows)), grow(model, rows))[1])
    texts = PromptTexts(emoji, N)
    ctx = torch.randn(N, 128)
    for _ in range(3):
        texts.encode(WORDS, ctx)
    assert planted == [len(WORDS)]
    for i in range(20):
        texts.encode([f"sushi {i}"], ctx)
    assert len(texts._forests) == prompts.MAX_CACHED_FORESTS
    first = texts.encode(WORDS, ctx)
    assert planted.count(len(WORDS)) == 2 and torch.equal(first, PromptTexts(emoji, N).encode(WORDS, ctx))


def test_the_worked_example():
    assert doctest.testmod(text).failed == 0 and doctest.testmod(text).attempted == 3
