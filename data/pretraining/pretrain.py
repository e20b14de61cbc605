"""Pretrain the emoji world's CLIP models from scratch, in two phases.

    python data/build_emoji.py                               once: renders the teachers' icons into data/.cache
    python data/pretraining/pretrain.py                      all five models, one after the other
    python data/pretraining/pretrain.py emoji-teacher-large  one of them
    python data/pretraining/pretrain.py --threads 1          one core each, to run two of them side by side
    python data/pretraining/pretrain.py --longer 4           four times the steps, on a faster machine

Phase 1, the image tower: classify the concept of a picture.  The classifier is a scaffold and is thrown away.  The ViT
student also learns the finished ResNet student's image features, as in DeiT (arXiv 2012.12877): alone it hardly learns
ink from so small a corpus.
Phase 2, the text tower, on the locked image features (LiT, arXiv 2111.07991): pictures against captions, as in CLIP.

Every step draws its pictures and captions from (seed, step) alone, and a checkpoint is written to ``data/.cache`` (or
``--work``) every 45 seconds.  A run that was stopped continues from there and ends with the same weights.  They are
written in half precision to ``data/emoji/models`` (or ``--out``), with the new checksums.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import PatchDropout
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from kdpl_utils.support.disk import atomic_write, digest, write_checksums
from kdpl_utils.support.shipped import data_file, data_root
from kdpl_utils.worlds.emoji import PRETRAINING_STYLES

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from captions import WRONG_PICTURE, Seen, filtered_caption, raw_caption  # noqa: E402
from corpus import Corpus  # noqa: E402
from icons import FILE as ICONS_FILE  # noqa: E402
from icons import load_icons  # noqa: E402
from muon import Muon  # noqa: E402

SEED = 0


@dataclass(frozen=True)
class Recipe:
    """What one model is pretrained with.

    Attributes:
        captions: "raw" or "filtered" (``captions.py``).
        ink_share: share of the pictures of drawings that are copies or tracings.
        icon_share: share of each batch of phase 1 that are icons.
        image_steps, image_batch: steps of phase 1, and pictures of a step.
        text_steps, text_batch: steps of phase 2, and captions of a step.
        distractors, other_icons: captions of a step that name people or symbols, and icons that are not an emoji.
        lr, text_lr: of AdamW in phases 1 and 2 (vectors, embeddings, attention pool, classifier).
        muon_lr: of Muon in both phases (convolutions and linear layers).
        label_smoothing: of the classifier of phase 1.
        patch_dropout: share of the patches that a vision transformer does not see in the first nine tenths of phase 1:
            half of them cost half the time and teach nearly as well (FLIP, arXiv 2212.00794).
        patch_classifier: whether a second scaffold classifies the mean of a vision transformer's patches in phase 1;
            otherwise the patches learn only through the class token, and slowly.
        learns_from: the finished model whose image features are a second target of phase 1, or "".
        feature_weight: of that target's loss, 1 − cosine.
        views: of every drawing in phase 2.
        noise: standard deviation of what is added to each locked feature of length 1, in every dimension.
    """

    captions: str
    ink_share: float
    image_steps: int
    text_steps: int
    icon_share: float = 0.0
    image_batch: int = 128
    text_batch: int = 192
    distractors: int = 24
    other_icons: int = 0
    lr: float = 2e-3
    muon_lr: float = 0.02
    text_lr: float = 3e-3
    label_smoothing: float = 0.1
    patch_dropout: float = 0.0
    patch_classifier: bool = False
    learns_from: str = ""
    feature_weight: float = 8.0
    views: int = 6
    noise: float = 0.02


# A student's corpus is colour; its ink is what any corpus of colour holds, copies and tracings.
STUDENT = Recipe("raw", ink_share=0.3, image_steps=6500, text_steps=2400)
# A teacher has seen icons of 152 sets as well.
TEACHER = Recipe(
    "filtered", ink_share=0.4, icon_share=0.4, image_steps=6000, image_batch=160, text_steps=1800,
    distractors=16, other_icons=32,
)  # fmt: skip
RECIPES = {
    "emoji-student-rn": STUDENT,
    "emoji-student-vit": replace(
        STUDENT, image_steps=4000, text_steps=2400, lr=1e-3,
        patch_dropout=0.5, patch_classifier=True, learns_from="emoji-student-rn",
    ),
    "emoji-teacher-small": replace(TEACHER, image_steps=4500),
    "emoji-teacher-medium": TEACHER,
    "emoji-teacher-large": replace(TEACHER, image_steps=8000),
}  # fmt: skip
CHECKPOINT_SECONDS = 45


def config(embed_dim: int, text_width: int, vision: dict) -> dict:
    """An open_clip configuration; the text towers differ in width alone."""
    text = {"context_length": 40, "vocab_size": 3072, "width": text_width, "heads": text_width // 32, "layers": 3}
    return {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}


def resnet(layers: list[int], width: int) -> dict:
    return {"image_size": 32, "layers": layers, "width": width, "head_width": 64}


# Fixed positions in two dimensions: a small corpus does not teach a transformer which patches are neighbours.
VIT = {
    "image_size": 48,
    "layers": 6,
    "width": 128,
    "head_width": 32,
    "patch_size": 8,
    "pos_embed_type": "sin_cos_2d",
}
CONFIGS = {
    "emoji-student-rn": config(128, 128, resnet([1, 1, 1, 1], 16)),
    "emoji-student-vit": config(128, 128, VIT),
    "emoji-teacher-small": config(128, 128, resnet([1, 1, 1, 1], 20)),
    "emoji-teacher-medium": config(160, 160, resnet([1, 1, 1, 1], 24)),
    "emoji-teacher-large": config(192, 160, resnet([1, 2, 2, 1], 32)),
}
# Not matrices in Muon's sense: tables of vectors, and an attention pool that sees one place or a few.
NOT_FOR_MUON = ("token_embedding", "positional_embedding", "attnpool")
PATCH_KERNEL = 8  # convolutions of this size and more embed patches: a table of vectors too
SCAFFOLD_LR = 2e-3  # of the classifiers of phase 1, for every tower


def pretrain(
    name: str, device: str, work: Path, out: Path, longer: float = 1.0, log: Callable[[str], object] = print
) -> None:
    """Both phases of one model, from wherever an earlier run was stopped.

    Args:
        name: a key of ``RECIPES``.
        out: folder of the finished weights and configurations.
        work: folder of checkpoints, in a folder of their own for each model, recipe and seed, so that a run goes on
            from its own state only; that folder is removed when the weights are written.
        longer: factor on the numbers of steps.
    """
    recipe = RECIPES[name]
    recipe = replace(
        recipe, image_steps=round(recipe.image_steps * longer), text_steps=round(recipe.text_steps * longer)
    )
    torch.manual_seed(SEED)
    icons = load_icons(work / ICONS_FILE) if recipe.icon_share else None
    state = work / f"{name}-{digest(recipe, CONFIGS[name], SEED, *([icons.names] if icons else []))}"
    state.mkdir(parents=True, exist_ok=True)
    configuration = json.dumps(CONFIGS[name], indent=2) + "\n"
    atomic_write(state / f"{name}.json", lambda part: part.write_text(configuration))
    open_clip.add_model_config(state / f"{name}.json")
    model = open_clip.create_model(name).to(device, memory_format=torch.channels_last)
    corpus = Corpus(PRETRAINING_STYLES, image_size(model), recipe.ink_share, SEED, icons, recipe.icon_share)
    image_tower = state / "image.safetensors"
    if not image_tower.exists():
        example = finished_model(recipe.learns_from, out, device) if recipe.learns_from else None
        train_image_tower(model, recipe, corpus, example, device, state / "image.checkpoint", name)
        visual = {key: value.contiguous().cpu() for key, value in model.visual.state_dict().items()}
        atomic_write(image_tower, lambda part: save_file(visual, part))
    model.visual.load_state_dict(load_file(image_tower))
    model.visual.eval().requires_grad_(False)
    features, shown = locked_features(model, recipe, corpus, device, state, name)
    train_text_tower(model, recipe, corpus, features, shown, device, state / "text.checkpoint", name)
    log(f"{name}: logit_scale {model.logit_scale.exp().item():.1f} as learned")
    atomic_write(out / f"{name}.json", lambda part: part.write_text(configuration))
    save(model, name, recipe, out)
    if (out.parent / "checksums.json").exists():
        write_checksums(out.parent)  # else the suite would refuse the new weights
    shutil.rmtree(state)


def finished_model(name: str, out: Path, device: str):
    """Load the model ``name`` from the folder of finished weights.

    Raises:
        SystemExit: it is not there yet.
    """
    weights = out / f"{name}.safetensors"
    if not weights.exists():
        sys.exit(f"{weights} is missing: pretrain {name} first.")
    open_clip.add_model_config(out / f"{name}.json")
    model = open_clip.create_model(name)
    model.load_state_dict(load_file(weights))
    return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def image_size(model) -> int:
    size = model.visual.image_size
    return size if isinstance(size, int) else size[0]


def normalise(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) in 0..1 with CLIP's mean and standard deviation."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD, device=pictures.device)[:, None, None]
    return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


def train_image_tower(model, recipe: Recipe, corpus: Corpus, example, device: str, checkpoint: Path, name: str) -> None:
    """Phase 1: classify the concept of a picture by a linear classifier on the raw image features.

    Args:
        example: a finished model whose image features are a second target, or None.
    """
    classifiers = nn.ModuleDict({"picture": nn.Linear(model.text_projection.shape[1], corpus.n_classes)})
    if recipe.patch_classifier:
        classifiers["patches"] = nn.Linear(model.visual.conv1.out_channels, corpus.n_classes)
        model.visual.output_tokens = True
    classifiers.to(device)
    optimizers = [
        *split_optimizers([*model.visual.named_parameters()], recipe.lr, recipe.muon_lr, weight_decay=0.05),
        torch.optim.AdamW(classifiers.parameters(), lr=SCAFFOLD_LR, betas=(0.9, 0.98), weight_decay=0.05),
    ]
    every_patch = model.visual.patch_dropout if recipe.patch_dropout else None

    def step_loss(step: int) -> tuple[Tensor, str]:
        if recipe.patch_dropout:
            is_late = step >= 0.9 * recipe.image_steps
            model.visual.patch_dropout = every_patch if is_late else PatchDropout(recipe.patch_dropout)
            torch.manual_seed(corpus.step_seed(step))  # which patches are dropped depends on the step alone
        pictures, concepts = corpus.training_batch(recipe.image_batch, step)
        pictures, concepts = pictures.to(device), concepts.to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            feature = model.visual(normalise(pictures))
            loss = 0.0
            if recipe.patch_classifier:
                feature, patches = feature
                by_patches = classifiers["patches"](patches.mean(dim=1))
                loss = F.cross_entropy(by_patches, concepts, label_smoothing=recipe.label_smoothing)
            if example is not None:
                cosine = F.cosine_similarity(feature, seen_by(example, pictures)).mean()
                loss = loss + recipe.feature_weight * (1 - cosine)
            predicted = classifiers["picture"](feature)
            loss = loss + F.cross_entropy(predicted, concepts, label_smoothing=recipe.label_smoothing)
        hit = (predicted.argmax(dim=1) == concepts).float().mean().item()
        return loss, f"loss {loss.item():.2f}, correct {hit:.0%}"

    model.visual.train()
    modules = {"visual": model.visual, "classifiers": classifiers}
    run_steps(step_loss, modules, optimizers, recipe.image_steps, checkpoint, f"{name}, image tower")
    model.visual.output_tokens = False


@torch.no_grad()
def seen_by(example, pictures: Tensor) -> Tensor:
    """Return a finished model's image features (B, D) of pictures of any size."""
    size = image_size(example)
    if pictures.shape[-1] != size:
        pictures = F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)
    return example.encode_image(normalise(pictures))


@torch.no_grad()
def locked_features(
    model, recipe: Recipe, corpus: Corpus, device: str, state: Path, name: str
) -> tuple[Tensor, list[tuple[dict, Seen]]]:
    """Return unit features (N, D) of views of every drawing and icon, and N pairs of a concept and how it is shown.

    The features of each style are kept in a file of their own, so that a stopped run repeats one style at most.
    """
    features, shown = [], []
    for style in tqdm([*corpus.styles, *(["icons"] if recipe.icon_share else [])], desc=f"{name}, features"):
        kept = state / f"features.{style}.safetensors"
        is_drawn = style in corpus.styles
        pictures, concepts, seen = corpus.plain_views(style, recipe.views) if is_drawn else corpus.icon_views()
        if not kept.exists():
            chunks = [model.encode_image(normalise(chunk.to(device))).float().cpu() for chunk in pictures.split(256)]
            unit = F.normalize(torch.cat(chunks), dim=-1)
            atomic_write(kept, lambda part, unit=unit: save_file({"features": unit}, part))
        features.append(load_file(kept)["features"])
        shown += zip(concepts, seen)
    return torch.cat(features).to(device), shown


def train_text_tower(
    model, recipe: Recipe, corpus: Corpus, features: Tensor, shown: list, device: str, checkpoint: Path, name: str
) -> None:
    """Phase 2: CLIP's contrastive loss of captions against locked image features."""
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(data_file("bpe.txt.gz")))
    rows_of_name: dict[str, list[int]] = {}
    for row, (concept, _) in enumerate(shown):
        rows_of_name.setdefault(concept["name"], []).append(row)
    names = [corpus.concepts[c]["name"] for c in corpus.classes]
    distractors = [corpus.concepts[c]["name"] for c in corpus.distractors]
    n_names = recipe.text_batch - recipe.distractors - recipe.other_icons
    in_phase = [(key, p) for key, p in model.named_parameters() if not key.startswith("visual")]
    in_tower = [(key, p) for key, p in in_phase if key != "logit_scale"]
    optimizers = [
        *split_optimizers(in_tower, recipe.text_lr, recipe.muon_lr, weight_decay=0.01),
        torch.optim.AdamW([model.logit_scale], lr=recipe.text_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    which = torch.arange(recipe.text_batch, device=device)

    def step_loss(step: int) -> tuple[Tensor, str]:
        seed = corpus.step_seed(20_000_000 + step)  # far from the steps of phase 1
        rng = random.Random(seed)
        chosen = rng.sample(names, n_names) + rng.sample(distractors, recipe.distractors)
        chosen += rng.sample(corpus.other_names, recipe.other_icons)
        rows = [rng.choice(rows_of_name[name]) for name in chosen]
        captions = [write_caption(rng, recipe, corpus, *shown[row]) for row in rows]
        noise = torch.randn(len(rows), features.shape[1], generator=torch.Generator().manual_seed(seed))
        image = F.normalize(features[rows] + recipe.noise * noise.to(device), dim=-1)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            text = F.normalize(encode_tokens(model, tokenizer(captions).to(device)), dim=-1)
            logits = model.logit_scale.exp() * image @ text.T
            loss = (F.cross_entropy(logits, which) + F.cross_entropy(logits.T, which)) / 2
        hit = (logits.argmax(dim=1) == which).float().mean().item()
        return loss, f"loss {loss.item():.2f}, correct in batch {hit:.0%}, scale {model.logit_scale.exp().item():.0f}"

    @torch.no_grad()
    def bound_scale() -> None:
        model.logit_scale.clamp_(0, math.log(100))  # CLIP's own bound

    run_steps(
        step_loss, {"model": model}, optimizers, recipe.text_steps, checkpoint, f"{name}, text tower", bound_scale
    )


def write_caption(rng: random.Random, recipe: Recipe, corpus: Corpus, concept: dict, seen: Seen) -> str:
    """Write a caption by the recipe; some raw ones name another concept, never another domain."""
    if recipe.captions == "filtered":
        return filtered_caption(rng, concept, seen)
    if rng.random() < WRONG_PICTURE:
        concept = corpus.concepts[rng.choice(corpus.classes)]
    return raw_caption(rng, concept, seen)


def encode_tokens(model, tokens: Tensor) -> Tensor:
    """(N, D) text features, cut after the longest caption: with a causal mask nothing behind an end token matters."""
    ends = tokens.argmax(dim=1)  # the end token has the largest id
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(x[torch.arange(len(x), device=x.device), ends]) @ model.text_projection


def split_optimizers(named: list[tuple[str, nn.Parameter]], lr: float, muon_lr: float, weight_decay: float) -> list:
    """Muon for the hidden matrices and convolutions, AdamW for all else; vectors do not decay."""
    for_muon, matrices, vectors = [], [], []
    for key, parameter in named:
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif any(part in key for part in NOT_FOR_MUON) or key == "text_projection":
            matrices.append(parameter)
        elif parameter.ndim == 4 and parameter.shape[-1] >= PATCH_KERNEL:
            matrices.append(parameter)
        else:
            for_muon.append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [Muon(for_muon, lr=muon_lr), torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))]


def run_steps(
    step_loss: Callable[[int], tuple[Tensor, str]],
    modules: dict[str, nn.Module],
    optimizers: list[torch.optim.Optimizer],
    n_steps: int,
    checkpoint: Path,
    title: str,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train with a warm-up of 5 % and a cosine schedule, from the last checkpoint on.

    Args:
        step_loss: the loss of a step, and what the progress bar says; a function of the step alone.
        modules, optimizers: everything that changes.
    """
    step = restore(checkpoint, modules, optimizers)
    peak_lrs = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    saved = time.monotonic()
    bar = tqdm(range(step, n_steps), initial=step, total=n_steps, desc=title, unit="step", mininterval=30)
    for step in bar:
        warmup = min(1.0, (step + 1) / (0.05 * n_steps))
        factor = warmup * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        for optimizer, lrs in zip(optimizers, peak_lrs):
            for group, lr in zip(optimizer.param_groups, lrs):
                group["lr"] = lr * factor
        loss, says = step_loss(step)
        if not loss.isfinite():
            raise FloatingPointError(f"{title}: the loss of step {step} is {loss.item()}; its checkpoint is kept.")
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        after_step()
        if step % 20 == 0:
            bar.set_postfix_str(says)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            keep(checkpoint, modules, optimizers, peak_lrs, step + 1)
            saved = time.monotonic()


def keep(checkpoint: Path, modules: dict, optimizers: list, peak_lrs: list, step: int) -> None:
    state = {
        "step": step,
        "modules": {key: module.state_dict() for key, module in modules.items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "peak_lrs": peak_lrs,
    }
    atomic_write(checkpoint, lambda part: torch.save(state, part))


def restore(checkpoint: Path, modules: dict, optimizers: list) -> int:
    """Put everything back as it was kept; the step to go on with, 0 without a checkpoint."""
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    for key, module in modules.items():
        module.load_state_dict(state["modules"][key])
    for optimizer, kept, lrs in zip(optimizers, state["optimizers"], state["peak_lrs"]):
        optimizer.load_state_dict(kept)
        for group, lr in zip(optimizer.param_groups, lrs):  # the schedule multiplies the peak, not the last value
            group["lr"] = lr
    return state["step"]


def save(model, name: str, recipe: Recipe, out: Path) -> None:
    state = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in model.state_dict().items()}
    about = {"styles": PRETRAINING_STYLES, **asdict(recipe)}
    metadata = {"model": name, "seed": str(SEED), "recipe": str(about)}
    atomic_write(out / f"{name}.safetensors", lambda part: save_file(state, part, metadata=metadata))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", help=f"which of {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--work", type=Path, default=None, help="folder of the checkpoints (default: data/.cache)")
    parser.add_argument("--out", type=Path, default=None, help="folder of the weights")
    parser.add_argument("--longer", type=float, default=1.0, help="factor on the numbers of steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU; two models at once: 1 each")
    arguments = parser.parse_args()
    unknown = set(arguments.models) - set(RECIPES)
    if unknown:
        parser.error(f"no recipe for {', '.join(sorted(unknown))}: choose from {', '.join(RECIPES)}")
    if arguments.longer <= 0:
        parser.error(f"--longer is a factor on the numbers of steps: {arguments.longer} is not above 0")
    torch.set_num_threads(arguments.threads)
    work = arguments.work or data_root() / ".cache"
    out = arguments.out or data_root() / "emoji" / "models"
    for name in arguments.models or RECIPES:
        pretrain(name, arguments.device, work, out, arguments.longer)


if __name__ == "__main__":
    main()
