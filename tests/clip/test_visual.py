"""The image tower with learned tokens, against the oracle that computes everything."""

import open_clip
import oracle
import pytest
import torch
from oracle import error, tiny
from torch import nn

from kdpl_utils.clip import visual as vision
from kdpl_utils.clip.visual import check_takes_prompts, encode_image
from kdpl_utils.loading import load_vlm

LAYERS = 4


@pytest.fixture(scope="module")
def emoji():
    return load_vlm("emoji-student-vit", device="cpu")


@pytest.fixture(scope="module", params=["ln_pre", "no ln_pre"])
def model(request, emoji):
    return tiny(emoji, layers=(LAYERS, 1), vision={"no_ln_pre": request.param == "no ln_pre"}).model


@pytest.fixture(scope="module")
def usual(emoji):
    return tiny(emoji, layers=(LAYERS, 1)).model


def inputs(depth, n=3, width=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2, 3, 16, 16, generator=g).double()
    return pixels, [torch.randn(n, width, generator=g).double().requires_grad_() for _ in range(depth)]


def both(model, depth, n=3, wrong=""):
    """Features and gradients of every token, relative errors."""
    pixels, prompts = inputs(depth, n)
    found, expected = encode_image(model, pixels, prompts), oracle.image_features(model, pixels, prompts, wrong)
    weights = torch.arange(found.numel()).double().cos().view(found.shape)
    grads = (torch.autograd.grad((x * weights).sum(), prompts) for x in (found, expected))
    return error(found, expected), [error(*pair) for pair in zip(*grads)]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3, LAYERS])
def test_equals_the_oracle(model, depth, n):
    """Depths at which the tokens flow on behind their layers, and the one where the last layer has fresh ones."""
    features, grads = both(model, depth, n)
    assert features < 1e-12 and len(grads) == depth and max(grads) < 1e-12


@pytest.mark.parametrize("layers", [1, 2])
def test_shallow_towers(emoji, layers):
    """The first layer is the last: its tokens pass ln_pre, and only the class token asks."""
    for depth in range(1, layers + 1):
        features, grads = both(tiny(emoji, layers=(layers, 1)).model, depth)
        assert features < 1e-12 and max(grads) < 1e-12


@pytest.mark.parametrize("depth, wrong", [(1, "after ln_pre"), (3, "after ln_pre"), (3, "deep late"), (2, "kept")])
def test_a_mistake_is_seen(usual, depth, wrong):
    features, grads = both(usual, depth, wrong=wrong)
    assert features > 1e-3 and max(grads) > 1e-3


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tokens_flow_on_behind_the_last_fresh_layer(usual, depth):
    """Dropping them there, or reading a patch instead of the class token, would be seen."""
    assert both(usual, depth, wrong="dropped")[0] > 1e-3 and both(usual, depth, wrong="patch")[0] > 1e-3


def test_without_tokens_it_is_the_model_itself(model, emoji):
    pixels, _ = inputs(0)
    expected = model.encode_image(pixels)
    assert error(oracle.image_features(model, pixels), expected) < 1e-12  # the oracle, held against open_clip
    assert error(encode_image(model, pixels, []), expected) < 1e-12
    pixels = torch.randn(2, 3, 48, 48)
    assert error(encode_image(emoji.model, pixels, []), emoji.model.encode_image(pixels)) < 1e-5


def test_the_oracles_resnet_is_open_clips():
    model = oracle.in_double(load_vlm("emoji-student-rn", device="cpu")).model
    pixels = torch.randn(2, 3, model.visual.image_size, model.visual.image_size).double()
    assert error(oracle.image_features(model, pixels), model.encode_image(pixels)) < 1e-12


def test_single_precision_and_the_order_of_tokens(emoji):
    """No position, so no order."""
    g = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 48, 48, generator=g)
    prompts = [0.5 * torch.randn(4, 128, generator=g) for _ in range(3)]
    found = encode_image(emoji.model, pixels, prompts)
    assert error(found, oracle.image_features(emoji.model, pixels, prompts)) < 1e-5
    assert error(found, encode_image(emoji.model, pixels, [p.flip(0) for p in prompts])) < 1e-5


def test_custom_text_layout(emoji):
    features, grads = both(tiny(emoji, layers=(LAYERS, 1), custom=True).model, 2)
    assert features < 1e-12 and max(grads) < 1e-12


@pytest.mark.parametrize("depth", [1, 2, LAYERS])
def test_nothing_is_computed_that_is_thrown_away(usual, monkeypatch, depth):
    """Positions that the linear layers see: one query in the last layer, and fresh tokens once for all images."""
    pixels, prompts = inputs(depth, n=3)
    seen, layer = [], vision._layer

    def watched(block, x, tokens, queries):
        out = layer(block, x, tokens, queries)
        seen.append((x.shape[1], 0 if tokens is None else len(tokens), queries, out.shape[1]))
        return out

    monkeypatch.setattr(vision, "_layer", watched)
    encode_image(usual, pixels, prompts)
    patches, expected = 5, []  # the class token and 2 × 2 patches
    for i in range(LAYERS):
        last, dead = i + 1 == LAYERS, i + 1 < depth or i + 1 == depth == LAYERS
        images = patches if dead else patches + 3
        expected.append((images, 3 if dead else 0, 1 if last else images, 1 if last else images))
    assert seen == expected


def test_the_model_gets_no_gradient(usual):
    pixels, prompts = inputs(2)
    encode_image(usual, pixels, prompts).sum().backward()
    assert all(p.grad is not None for p in prompts) and all(p.grad is None for p in usual.parameters())


# --- refusals ------------------------------------------------------------------------------------------------------


class OwnLayer(open_clip.transformer.ResidualAttentionBlock):
    """A layer that someone has changed."""


def refused(model, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        check_takes_prompts(model, "some-model", "VPT")
    assert "\n" not in str(error.value) and "ViT-B-32-quickgelu" in str(error.value)


def test_refusals(emoji):
    check_takes_prompts(emoji.model, "emoji", "VPT")  # this one does
    refused(load_vlm("emoji-student-rn", device="cpu").model, "VPT .* some-model is a ModifiedResNet: use CoOp or CoCo")
    for vision_cfg in ({"pool_type": "avg"}, {"attentional_pool": True}):
        refused(tiny(emoji, layers=(2, 1), vision=vision_cfg).model, "read at its class token, and some-model is built")
    changed = tiny(emoji, layers=(2, 1)).model
    changed.visual.transformer.resblocks[1] = OwnLayer(32, 4)
    refused(changed, "standard layers")
    without = tiny(emoji, layers=(2, 1)).model
    without.visual = nn.Identity()
    refused(without, "is a Identity")
