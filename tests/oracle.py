"""The prompt learners once more, from the formulas and the weights alone: what the fast code is held against.

Every prompt is written out at full context length, every learned token enters every layer, attention is
softmax(QKᵀ/√d + mask)·V head by head, and no forward pass of open_clip or ``kdpl_utils`` is called. Slow, in any dtype.

``wrong`` names a mistake made on purpose, so that a test can show that the comparison would have seen it.
"""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import open_clip
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn

from kdpl_utils import learners
from kdpl_utils.vlm import VLM

# --- layers --------------------------------------------------------------------------------------------------------


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    if isinstance(layer, nn.Identity):  # models without ln_pre
        return x
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).pow(2).mean(-1, keepdim=True)
    return (x - mean) / (variance + layer.eps).sqrt() * layer.weight + layer.bias


def affine(x: Tensor, layer: nn.Linear) -> Tensor:
    return x @ layer.weight.T + layer.bias


def activation(x: Tensor, kind: nn.Module) -> Tensor:
    if type(kind).__name__ == "QuickGELU":
        return x / (1 + (-1.702 * x).exp())
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attention(x: Tensor, layer: nn.MultiheadAttention, mask: Tensor | float) -> Tensor:
    q, k, v = (x @ layer.in_proj_weight.T + layer.in_proj_bias).chunk(3, dim=-1)
    width, heads = x.shape[-1] // layer.num_heads, []
    for h in range(layer.num_heads):
        one = slice(h * width, (h + 1) * width)
        scores = q[..., one] @ k[..., one].transpose(-1, -2) / math.sqrt(width) + mask
        heads.append(scores.softmax(-1) @ v[..., one])
    return affine(torch.cat(heads, -1), layer.out_proj)


def block(x: Tensor, layer: nn.Module, mask: Tensor | float) -> Tensor:
    """A pre-norm transformer layer, with LayerScale where the model has it."""
    x = x + attention(norm(x, layer.ln_1), layer.attn, mask) * getattr(layer.ls_1, "gamma", 1)
    hidden = activation(affine(norm(x, layer.ln_2), layer.mlp.c_fc), layer.mlp.gelu)
    return x + affine(hidden, layer.mlp.c_proj) * getattr(layer.ls_2, "gamma", 1)


def unit(x: Tensor) -> Tensor:
    return x / x.pow(2).sum(-1, keepdim=True).sqrt()


# --- towers --------------------------------------------------------------------------------------------------------


def text_features(model, rows, deep=(), wrong="", length=None) -> Tensor:
    """(C, D), not normalised. A row is a prompt from start to end: token ids (int) and learned vectors (d).

    ``deep[i]`` (n, d) stands in place of the n learned vectors of every row before layer i + 1. ``length`` cuts the
    context, for the sake of time only.
    """
    tower = getattr(model, "text", model)
    length = length or tower.context_length
    places = [[i for i, s in enumerate(row) if not isinstance(s, int)] for row in rows]
    ids = torch.zeros(len(rows), length, dtype=torch.long)  # padded with token 0
    for c, row in enumerate(rows):
        for i, symbol in enumerate(row):
            ids[c, i] = symbol if isinstance(symbol, int) else 0
    x = tower.token_embedding.weight[ids]
    for c, row in enumerate(rows):
        if places[c]:
            x = x.index_put((torch.tensor(c), torch.tensor(places[c])), torch.stack([row[i] for i in places[c]]))
    positions = tower.positional_embedding[:length]
    x = x + (positions.roll(1, 0) if wrong == "positions" else positions)
    mask = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1)
    if wrong == "mask":
        mask = torch.zeros_like(mask)
    late = 1 if wrong == "deep late" else 0
    for i, layer in enumerate(tower.transformer.resblocks):
        if 0 < i - late <= len(deep):
            vectors = deep[i - 1 - late]
            for c in range(len(rows)):
                fresh = vectors + positions[places[c]] if wrong == "deep positions" else vectors
                x = x.index_put((torch.tensor(c), torch.tensor(places[c])), fresh)
        x = block(x, layer, mask)
    x = norm(x, tower.ln_final)
    early = 1 if wrong == "early" else 0
    x = torch.stack([x[c, len(row) - 1 - early] for c, row in enumerate(rows)])
    projection = tower.text_projection
    return affine(x, projection) if isinstance(projection, nn.Linear) else x if projection is None else x @ projection


def image_features(model, pixels, prompts=(), wrong="") -> Tensor:
    """(N, D), not normalised. ``prompts[i]`` (n, d) stands behind the patches in layer i."""
    tower = model.visual
    if hasattr(tower, "layer4"):
        return resnet_features(tower, pixels)
    d, _, size, _ = tower.conv1.weight.shape
    patches = pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = patches @ tower.conv1.weight.reshape(d, -1).T
    x = torch.cat([tower.class_embedding.expand(len(x), 1, d), x], dim=1) + tower.positional_embedding
    many = lambda tokens: tokens.expand(len(x), -1, -1)  # noqa: E731
    if len(prompts) and wrong != "after ln_pre":
        x = torch.cat([x, many(prompts[0])], dim=1)
    x = norm(x, tower.ln_pre)
    if len(prompts) and wrong == "after ln_pre":
        x = torch.cat([x, many(prompts[0])], dim=1)
    late = 1 if wrong == "deep late" else 0
    for i, layer in enumerate(tower.transformer.resblocks):
        if 0 < i - late < len(prompts):
            kept = x if wrong == "kept" else x[:, : -len(prompts[0])]
            x = torch.cat([kept, many(prompts[i - late])], dim=1)
        elif i == len(prompts) > 0 and wrong == "dropped":
            x = x[:, : -len(prompts[0])]
        x = block(x, layer, 0.0)
    return norm(x[:, 1 if wrong == "patch" else 0], tower.ln_post) @ tower.proj


def resnet_features(tower, pixels) -> Tensor:
    """CLIP's ResNet: three stem convolutions, average pools in place of strides, and attention in place of a mean."""

    def convolution(x, conv, bn):
        x = nn.functional.conv2d(x, conv.weight, None, conv.stride, conv.padding)
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return x * scale[:, None, None] + (bn.bias - bn.running_mean * scale)[:, None, None]

    def halved(x):
        return x.unflatten(-1, (-1, 2)).mean(-1).unflatten(-2, (-1, 2)).mean(-2)

    x = pixels
    for i in "123":
        x = convolution(x, getattr(tower, f"conv{i}"), getattr(tower, f"bn{i}")).clamp(min=0)
    x = halved(x)
    for stage in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        for j, layer in enumerate(stage):
            stride = j == 0 and stage is not tower.layer1
            y = convolution(x, layer.conv1, layer.bn1).clamp(min=0)
            y = convolution(y, layer.conv2, layer.bn2).clamp(min=0)
            y = convolution(halved(y) if stride else y, layer.conv3, layer.bn3)
            if j == 0:
                x = convolution(halved(x) if stride else x, layer.downsample[1], layer.downsample[2])
            x = (x + y).clamp(min=0)
    pool = tower.attnpool
    x = x.flatten(2).transpose(1, 2)  # (N, H·W, d)
    x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + pool.positional_embedding
    q, k, v = affine(x[:, :1], pool.q_proj), affine(x, pool.k_proj), affine(x, pool.v_proj)
    width, heads = x.shape[-1] // pool.num_heads, []
    for h in range(pool.num_heads):
        one = slice(h * width, (h + 1) * width)
        heads.append((q[..., one] @ k[..., one].transpose(1, 2) / math.sqrt(width)).softmax(-1) @ v[..., one])
    return affine(torch.cat(heads, -1)[:, 0], pool.c_proj)


# --- learners ------------------------------------------------------------------------------------------------------


def sentence(vlm, text: str) -> list[int]:
    """A sentence as a row."""
    return behind(vlm, [], text)


def behind(vlm, ctx, text: str) -> list:
    """Start token, learned vectors, a text, end token."""
    return [vlm.tokenizer.sot_token_id, *ctx, *vlm.tokenizer.encode(text), vlm.tokenizer.eot_token_id]


def named(name: str) -> str:
    return name.replace("_", " ")


def similarities(vlm, image, text) -> SimpleNamespace:
    return SimpleNamespace(image=image, text=text, logits=vlm.model.logit_scale.exp() * image @ text.T, own=0.0)


@torch.no_grad()
def photo_of(vlm, names, wrong="", length=None) -> Tensor:
    """The frozen features of "a photo of a name."."""
    rows = [sentence(vlm, f"a photo of a {named(n)}.") for n in names]
    return unit(text_features(vlm.model, rows, (), wrong, length))


def zero_shot(vlm, pixels, names) -> SimpleNamespace:
    return similarities(vlm, unit(image_features(vlm.model, pixels)), photo_of(vlm, names))


def coop(learner, pixels, names, wrong="", length=None):
    vlm, ctx = learner.vlm, learner.prompt.ctx
    text = unit(text_features(vlm.model, [behind(vlm, ctx, f"{named(n)}.") for n in names], (), wrong, length))
    with torch.no_grad():
        image = unit(image_features(vlm.model, pixels))
    return similarities(vlm, image, text)


def cocoop(learner, pixels, names, wrong="", length=None):
    """One pass of the text tower for each image."""
    vlm, net = learner.vlm, learner.meta_net
    with torch.no_grad():
        image = image_features(vlm.model, pixels)
        image = image if wrong == "raw image" else unit(image)
    rows = []
    for feature in image:
        shift = affine(affine(feature, net.linear1).clamp(min=0), net.linear2)
        ctx = learner.ctx + shift
        if wrong == "first vector":  # the shift belongs to each vector, not to the first
            ctx = torch.cat([ctx[:1], learner.ctx[1:]])
        prompts = [behind(vlm, ctx, f"{named(n)}.") for n in names]
        text = unit(text_features(vlm.model, prompts, (), wrong, length))
        rows.append((text, vlm.model.logit_scale.exp() * text @ unit(feature)))
    text, logits = (torch.stack(t) for t in zip(*rows))
    return SimpleNamespace(image=unit(image), text=text, logits=logits, own=0.0)


def vpt(learner, pixels, names, wrong="", length=None):
    image = unit(image_features(learner.vlm.model, pixels, list(learner.visual), wrong))
    return similarities(learner.vlm, image, photo_of(learner.vlm, names, wrong, length))


def maple(learner, pixels, names, wrong="", length=None):
    """Learned vectors in place of the first words of "a photo of a"; the other words stay."""
    vlm, ctx, deep = learner.vlm, learner.ctx, list(learner.deep)
    kept = [] if wrong == "words" else "a photo of a".split()[len(ctx) :]
    rows = [behind(vlm, ctx, " ".join([*kept, f"{named(n)}."])) for n in names]
    text = unit(text_features(vlm.model, rows, deep, wrong, length))
    tokens = [affine(ctx, learner.proj)] + [affine(c, proj) for c, proj in zip(deep, learner.deep_proj)]
    return similarities(vlm, unit(image_features(vlm.model, pixels, tokens, wrong)), text)


TEMPLATES = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES[:60]]


@torch.no_grad()
def reference(vlm, names, wrong="", length=None) -> Tensor:
    """PromptSRC's frozen text features: 60 sentences, averaged before they are made unit."""
    rows = []
    for name in names:
        t = text_features(vlm.model, [sentence(vlm, s.format(named(name))) for s in TEMPLATES], (), "", length)
        rows.append((unit(t) if wrong == "unit mean" else t).mean(0))
    return unit(torch.stack(rows))


def promptsrc(learner, pixels, names, wrong="", length=None, t0=None):
    vlm = learner.vlm
    rows = [behind(vlm, learner.ctx, f"{named(n)}.") for n in names]
    t = unit(text_features(vlm.model, rows, list(learner.deep), wrong, length))
    i = unit(image_features(vlm.model, pixels, list(learner.visual), wrong))
    with torch.no_grad():
        t0 = reference(vlm, names, wrong, length) if t0 is None else t0
        i0 = unit(image_features(vlm.model, pixels))
    seen, frozen = similarities(vlm, i, t), similarities(vlm, i0, t0)
    log_p, log_p0 = log_softmax(seen.logits), log_softmax(frozen.logits)
    kl = (log_p0.exp() * (log_p0 - log_p)).sum()
    seen.own = 25 * (t - t0).abs().mean() + 10 * (i - i0).abs().mean()
    seen.own = seen.own + kl / (len(pixels) if wrong == "batch mean" else log_p.numel())
    return seen


def promptkd(learner, pixels, names, wrong="", length=None):
    """Student features through two layers and a norm between them, on the teacher's text features."""
    teacher = learner.teacher
    image = image_features(learner.vlm.model, pixels, list(learner.visual), wrong)
    hidden = norm(affine(image, learner.project[0]), learner.project[1])
    image = unit(affine(hidden.clamp(min=0), learner.project[3]))
    text = photo_of(teacher, names, "", length).to(image.dtype)
    return similarities(learner.vlm, image, text)


ORACLES = {
    learners.CoOp: coop,
    learners.CoCoOp: cocoop,
    learners.VPT: vpt,
    learners.MaPLe: maple,
    learners.PromptSRC: promptsrc,
    learners.PromptKD: promptkd,
}

# --- losses --------------------------------------------------------------------------------------------------------


def log_softmax(z: Tensor) -> Tensor:
    z = z - z.detach().amax(-1, keepdim=True)
    return z - z.exp().sum(-1, keepdim=True).log()


def cross_entropy(z: Tensor, labels: Tensor) -> Tensor:
    return -sum(log_softmax(z)[b, label] for b, label in enumerate(labels.tolist())) / len(labels)


def distillation(teacher: Tensor, z: Tensor) -> Tensor:
    """½ KL(teacher‖student) + ½ KL(student‖teacher), a mean over images."""
    t, s = log_softmax(teacher), log_softmax(z)
    return (0.5 * t.exp() * (t - s) + 0.5 * s.exp() * (s - t)).sum() / len(z)


def most_probable(teacher: Tensor, k: int) -> list[int]:
    """The k classes of highest probability, averaged over the batch."""
    mean = log_softmax(teacher).exp().mean(0).tolist()
    return sorted(range(len(mean)), key=lambda c: -mean[c])[:k]


# --- models and comparisons ----------------------------------------------------------------------------------------


def enliven(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights with something to say: biases and scales that matter, tokens and positions that differ."""
    generator = torch.Generator().manual_seed(seed)
    noise = lambda p: torch.randn(p.shape, generator=generator).to(p)  # noqa: E731
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("token_embedding.weight", "positional_embedding", "class_embedding", "cls_emb")):
                p.copy_(0.4 * noise(p))
            elif p.ndim == 1:  # norms, biases, LayerScale
                p.add_(0.1 * noise(p))
            elif p.ndim >= 2:
                p.add_(0.3 * p.std() * noise(p))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_((0.8 + 0.1 * noise(module.weight)).abs())
                module.running_mean.copy_(0.1 * noise(module.running_mean))
                module.running_var.copy_(1 + 0.3 * torch.rand(module.running_var.shape, generator=generator))
    return model.eval().requires_grad_(False)


def tiny(like: VLM, layers=(12, 12), custom=False, vision=(), text=(), **other) -> VLM:
    """A random model of two narrow towers, with the tokenizer of another; in float64."""
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 8, "layers": layers[0]} | dict(vision)
    text = {"context_length": 40, "vocab_size": 3072, "width": 24, "heads": 3, "layers": layers[1]} | dict(text)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = enliven(kind(64, vision, text, **other))
    return VLM(model.double(), like.preprocess, like.tokenizer, "tiny")


def in_double(vlm: VLM) -> VLM:
    return VLM(copy.deepcopy(vlm.model).double(), vlm.preprocess, vlm.tokenizer, vlm.name, vlm.pretrained)


def moved(learner, seed=1, by=0.1):
    """Away from its start, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(by * torch.randn(p.shape, generator=generator).to(p))
    return learner


def error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest number expected."""
    assert got.shape == expected.shape and expected.abs().max() > 0, "nothing to compare"
    return ((got - expected).abs().max() / expected.abs().max()).item()
