"""Pretrain the emoji world's CLIP models from scratch, as CLIP itself was: pictures against their captions.

    python data/pretrain_emoji.py                      all five, one after the other
    python data/pretrain_emoji.py emoji-teacher-large  one of them
    python data/pretrain_emoji.py --device cuda        on a GPU, in bf16
    python data/pretrain_emoji.py --recalibrate        only set logit_scale of the weights that are there

A run that was stopped goes on where it was: a checkpoint lies in ``data/.cache`` until the model is done, and every
step draws its pictures and captions from (seed, step) alone.  Weights are written to ``data/emoji/models``.

Neither the models nor this script see the styles that the lessons adapt to or test on, except by name.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize
from tqdm import tqdm

from kdpl_utils.support.disk import write_checksums
from kdpl_utils.support.shipped import data_file, data_root
from kdpl_utils.worlds import drawings as emoji

SEED = 0
CALIBRATION_STYLE = "fxemoji"  # seen in no training; sets logit_scale, nothing else


@dataclass(frozen=True)
class Recipe:
    """What one model is pretrained with; the teachers differ in size, pictures and the styles they have seen."""

    styles: tuple[str, ...]
    steps: int
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.05


FEW = ("noto", "twemoji", "openmoji")
MORE = (*FEW, "fluent-emoji-flat")
MOST = (*MORE, "fluent-emoji-high-contrast", "openmoji-black")
RECIPES = {
    "emoji-student-rn": Recipe(FEW, 1000),
    "emoji-student-vit": Recipe(FEW, 1200, lr=1e-3),
    "emoji-teacher-small": Recipe(MORE, 1200),
    "emoji-teacher-medium": Recipe(MOST, 1500),
    "emoji-teacher-large": Recipe(MOST, 2400),
}

# What a caption may say of a picture, besides the name.
STYLE_WORDS = {
    "noto": ("glossy", "shaded"), "twemoji": ("flat", "simple"), "openmoji": ("outlined", "hand-drawn"),
    "openmoji-black": ("black and white", "line"), "fluent-emoji-flat": ("flat", "modern"),
    "fluent-emoji-high-contrast": ("black and white", "bold"),
}  # fmt: skip
NOUNS = ("drawing", "icon", "emoji", "picture", "photo", "sticker")
PLAIN = ("a photo of a {}.", "a photo of a {}.", "a picture of a {}.", "an emoji of a {}.", "an icon of a {}.",
         "a drawing of a {}.", "the {}.", "{}")  # fmt: skip


def caption(rng: random.Random, concept: dict, style: str, scale: float, angle: float, background: str) -> str:
    """One sentence that is true of the picture; half the time just its name in a plain sentence."""
    name = concept["name"]
    if concept["keywords"] and rng.random() < 0.08:
        name = rng.choice(concept["keywords"])
    if rng.random() < 0.5:
        return rng.choice(PLAIN).format(name)
    size = "small" if scale < 0.72 else "large" if scale > 0.88 else ""
    turn = "upright" if abs(angle) < 6 else "tilted left" if angle > 0 else "tilted right"
    said = [w for w in (size, rng.choice(STYLE_WORDS[style])) if w and rng.random() < 0.6] + [rng.choice(NOUNS)]
    article = "an" if said[0][0] in "aeiou" else "a"
    return f"{article} {' '.join(said)} of a {name}{rng.choice(['', '', f', {turn}', f' on {background}'])}."


def vary_colours(sprites: Tensor, g: torch.Generator) -> Tensor:
    """Colours that a hand might have chosen: less saturated, or stronger in one channel.  Shapes stay."""
    n = len(sprites)
    colour, alpha = sprites[:, :3], sprites[:, 3:]
    grey = colour.mean(1, keepdim=True)
    keep = torch.where(torch.rand(n, generator=g) < 0.5, torch.rand(n, generator=g), torch.ones(n))[:, None, None, None]
    gain = 0.75 + 0.5 * torch.rand(n, 3, 1, 1, generator=g)
    return torch.cat([((keep * colour + (1 - keep) * grey) * gain).clamp(0, 1), alpha], dim=1)


class Corpus:
    """Picture-caption pairs of some styles, in batches that hold every concept at most once."""

    def __init__(self, styles: tuple[str, ...], tokenizer):
        self.concepts, self.styles, self.tokenizer = emoji.metadata()["concepts"], styles, tokenizer
        drawn = [set(emoji.metadata()["styles"][s]["drawn"]) for s in styles]
        self.drawn_in = [[k for k, d in enumerate(drawn) if c in d] for c in range(len(self.concepts))]
        self.sprites = [emoji.sprites(s) for s in styles]

    def batch(self, size: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 3, 64, 64), tokens (B, L), concepts (B,): a pure function of the step."""
        seed = SEED * 1_000_003 + step
        rng, g = random.Random(seed), torch.Generator().manual_seed(seed)
        concepts = rng.sample([c for c, d in enumerate(self.drawn_in) if d], size)
        styles = [rng.choice(self.drawn_in[c]) for c in concepts]
        sprites = torch.stack([self.sprites[k][c] for k, c in zip(styles, concepts)]).float() / 255
        views = emoji.sample_views(size, seed)
        pictures = emoji.render(vary_colours(sprites, g), views)
        grounds = list(emoji.BACKGROUNDS)
        captions = [
            caption(rng, self.concepts[c], self.styles[k], views.scale[i].item(), views.angle[i].item(), grounds[views.background[i]])
            for i, (c, k) in enumerate(zip(concepts, styles))
        ]  # fmt: skip
        return pictures, self.tokenizer(captions), torch.tensor(concepts)


def normalise(model, pictures: Tensor) -> Tensor:
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    pictures = pictures if pictures.shape[-1] == size else resize(pictures, [size, size], antialias=True)
    mean, std = (
        torch.tensor(v, device=pictures.device)[:, None, None]
        for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


def encode_tokens(model, tokens: Tensor) -> Tensor:
    """(N, D) text features, cut after the longest caption: with a causal mask nothing behind an end token matters."""
    ends = tokens.argmax(dim=1)  # the end token has the largest id
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(x[torch.arange(len(x), device=x.device), ends]) @ model.text_projection


def pretrain(name: str, device: str, log=print) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(SEED)
    model = open_clip.create_model(name).to(device, memory_format=torch.channels_last)
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(data_file("bpe.txt.gz")))
    corpus = Corpus(recipe.styles, tokenizer)
    # A classifier over all concepts beside the contrastive loss: as many negatives as there are names, at no cost.
    # It is a scaffold and not part of the model.
    head = nn.Linear(model.text_projection.shape[1], len(corpus.concepts)).to(device)
    learned = [*model.parameters(), *head.parameters()]
    decay = [p for p in learned if p.ndim >= 2]
    rest = [p for p in learned if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=recipe.lr, betas=(0.9, 0.98),
    )  # fmt: skip
    checkpoint = data_root() / ".cache" / f"{name}.ckpt"
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"]), head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    model.train()
    saved = time.monotonic()
    bar = tqdm(range(step, recipe.steps), initial=step, total=recipe.steps, desc=name, unit="step", mininterval=5)
    for step in bar:
        warmup = min(1.0, (step + 1) / (0.05 * recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        pictures, tokens, concepts = (t.to(device) for t in corpus.batch(recipe.batch_size, step))
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            features = model.encode_image(normalise(model, pictures))
            image, text = F.normalize(features, dim=-1), F.normalize(encode_tokens(model, tokens), dim=-1)
            logits = model.logit_scale.exp() * image @ text.T
            which = torch.arange(len(logits), device=device)
            contrastive = (F.cross_entropy(logits, which) + F.cross_entropy(logits.T, which)) / 2
            loss = contrastive + 0.5 * F.cross_entropy(head(features), concepts)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))  # CLIP's own bound
        if step % 20 == 0:
            hit = (logits.argmax(1) == which).float().mean().item()
            bar.set_postfix_str(
                f"loss {contrastive.item():.2f}, in batch {hit:.0%}, scale {model.logit_scale.exp().item():.0f}"
            )
        if time.monotonic() - saved > 60:
            state = {
                "model": model.state_dict(),
                "head": head.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            part = checkpoint.with_suffix(".part")
            torch.save(state, part)
            part.replace(checkpoint)
            saved = time.monotonic()
    learned_scale = model.logit_scale.exp().item()
    model.half().float()  # as it will be saved
    scale = calibrate(model, tokenizer, device)
    log(f"{name}: logit_scale {learned_scale:.1f} as learned, {scale:.1f} after calibration on {CALIBRATION_STYLE}")
    save(model, name)
    checkpoint.unlink(missing_ok=True)


@torch.no_grad()
def calibrate(model, tokenizer, device: str) -> float:
    """Set ``logit_scale`` so that mean confidence equals accuracy within each group, on a style of its own.

    A small CLIP trained for minutes is over-confident on hands that it has not seen; one number mends that.  Those hands
    may draw in colour or in black, so the calibration style is shown as it is and in grey.
    """
    model.eval()
    meta = emoji.metadata()
    names = tokenizer([f"a photo of a {c['name']}." for c in meta["concepts"]]).to(device)
    text = F.normalize(torch.cat([encode_tokens(model, t) for t in names.split(256)]), dim=-1)
    cosines = []
    for group in sorted({c["group"] for c in meta["concepts"]}):
        members = [i for i, c in enumerate(meta["concepts"]) if c["group"] == group]
        drawn = [i for i in meta["styles"][CALIBRATION_STYLE]["drawn"] if meta["concepts"][i]["group"] == group]
        rows = torch.tensor(drawn * 2)
        sprites = emoji.sprites(CALIBRATION_STYLE)[rows].float() / 255
        grey = sprites[:, :3].mean(1, keepdim=True).expand(-1, 3, -1, -1)
        inks = (sprites[:, :3], grey)
        for seed, ink in enumerate(inks):
            pictures = emoji.render(torch.cat([ink, sprites[:, 3:]], dim=1), emoji.sample_views(len(rows), seed)).to(
                device
            )
            image = torch.cat([model.encode_image(normalise(model, p)) for p in pictures.split(256)])
            labels = torch.tensor([members.index(i) for i in rows.tolist()], device=device)
            cosines.append((F.normalize(image, dim=-1) @ text[members].T, labels))
    accuracy = sum((c.argmax(1) == y).float().mean() for c, y in cosines) / len(cosines)
    low, high = 1.0, 100.0
    for _ in range(40):  # mean confidence grows with the scale, so bisection finds the one that matches
        middle = (low + high) / 2
        confidence = sum((middle * c).softmax(1).amax(1).mean() for c, _ in cosines) / len(cosines)
        low, high = (middle, high) if confidence < accuracy else (low, middle)
    model.logit_scale.fill_(math.log(low))
    return low


def recalibrate(name: str, device: str, log=print) -> None:
    """Set ``logit_scale`` of published weights anew; changes nothing where they were made by this script."""
    model = open_clip.create_model(name, pretrained=str(data_file(f"models/{name}.safetensors"))).to(device)
    before = model.logit_scale.exp().item()
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(data_file("bpe.txt.gz")))
    log(f"{name}: logit_scale {before:.2f} before, {calibrate(model, tokenizer, device):.2f} after")
    save(model, name)


def save(model, name: str) -> None:
    folder = data_root() / "emoji"
    state = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in model.state_dict().items()}
    path = folder / "models" / f"{name}.safetensors"
    part = path.with_suffix(".part")
    save_file(state, part, metadata={"model": name, "seed": str(SEED), "recipe": str(RECIPES[name])})
    part.replace(path)
    write_checksums(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help=f"which of {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--recalibrate", action="store_true", help="keep the weights, set only logit_scale")
    arguments = parser.parse_args()
    unknown = set(arguments.models) - set(RECIPES)
    if unknown:
        parser.error(f"no recipe for {', '.join(sorted(unknown))}: choose from {', '.join(RECIPES)}")
    open_clip.add_model_config(Path(data_root() / "emoji" / "models"))
    (data_root() / ".cache").mkdir(exist_ok=True)
    for name in arguments.models or RECIPES:
        (recalibrate if arguments.recalibrate else pretrain)(name, arguments.device)


if __name__ == "__main__":
    main()
