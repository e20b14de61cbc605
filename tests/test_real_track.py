"""Real-size models, randomly initialised and saved to a file, through the path that published weights take."""

import gc
import json

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

import kdpl_utils as kd

NAMES = ["Siamese", "american pit bull terrier", "Highway or Road", "OK!"]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """name → VLM loaded from a half-precision file of random weights, as ``load_vlm(name, path)``."""
    folder, loaded = tmp_path_factory.mktemp("weights"), {}

    def load(name):
        if name not in loaded:
            torch.manual_seed(0)
            model, path = open_clip.create_model(name), folder / f"{name}.safetensors"
            save_file({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, path)
            del model
            gc.collect()
            loaded[name] = kd.load_vlm(name, str(path), device="cpu")
            path.unlink()
        return loaded[name]

    return load


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_step_zero_equals_zero_shot_and_77_tokens_equal_cut_ones(real, name):
    vlm = real(name)
    plain = vlm.model.encode_text(vlm.tokenizer([f"a photo of a {n}." for n in NAMES]), normalize=True)
    prompt = kd.PromptLearner(vlm, ctx_init="a photo of a")
    assert prompt.ctx.numel() == 2048
    torch.testing.assert_close(prompt(NAMES), plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(kd.encode_names(vlm, NAMES), plain, atol=1e-5, rtol=0)
    prompt(NAMES).sum().backward()
    assert prompt.ctx.grad.isfinite().all() and prompt.ctx.grad.abs().max() > 0


def test_kdpl_steps_with_a_large_teacher(real):
    """ViT-L/14 teaches ViT-B/32 on four pictures, with and without class names: everything but the data is real."""
    student, teacher = real("ViT-B-32-quickgelu"), real("ViT-L-14-quickgelu")
    images = [Image.effect_noise((240, 200), 20 + 60 * i).convert("RGB") for i in range(4)]
    features, teacher_features = kd.encode_images(student, images), kd.encode_images(teacher, images)
    assert features.shape == (4, 512) and teacher_features.shape == (4, 768)
    dictionary = [*NAMES, "River", "beagle"]
    teacher_all = kd.logits(teacher_features, kd.encode_names(teacher, dictionary), student.scale)

    def kdpl_ca(prompt, batch):
        chosen = kd.select_classes(teacher_all[batch], k=3)
        names = [dictionary[i] for i in chosen]
        return kd.symmetric_kl(teacher_all[batch][:, chosen], kd.logits(features[batch], prompt(names), student.scale))

    prompt = kd.PromptLearner(student)
    start = prompt.ctx.detach().clone()
    history = kd.fit(prompt, lambda b: kdpl_ca(prompt, b), 4, kd.Recipe(epochs=2, batch_size=4), progress=False)
    assert len(history.loss) == 2 and history.loss[0] > 0
    assert (prompt.ctx - start).abs().max() > 0
    assert F.cosine_similarity(prompt.ctx, start, dim=-1).min() > 0.5


# --- where weights come from -----------------------------------------------------------------------------------------

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.2, 0.3]  # not CLIP's: the file's own must be used


def write_tiny(folder) -> open_clip.CLIP:
    """A model's folder as open_clip puts it on a hub: configuration with preprocessing, and weights."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY).eval()
    folder.mkdir(parents=True)
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def check(vlm: kd.VLM, model: open_clip.CLIP) -> None:
    image = Image.new("RGB", (40, 40), (128, 128, 128))
    grey = (128 / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(vlm.preprocess(image), grey[:, None, None].expand(3, 32, 32))
    plain = model.encode_image(vlm.preprocess(image)[None], normalize=True).detach()
    torch.testing.assert_close(kd.encode_images(vlm, [image]), plain, atol=1e-5, rtol=0)
    assert kd.PromptLearner(vlm)(NAMES).shape == (len(NAMES), 32)


def test_a_folder_with_configuration_and_weights(tmp_path):
    model = write_tiny(tmp_path / "mine")
    check(kd.load_vlm(f"local-dir:{tmp_path / 'mine'}", device="cpu"), model)


def test_the_hubs_cache(tmp_path, monkeypatch):
    """As huggingface_hub lays it out; what is there is loaded without a network."""
    commit, repository = "0123456789abcdef0123456789abcdef01234567", tmp_path / "models--someone--tiny"
    model = write_tiny(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check(kd.load_vlm("hf-hub:someone/tiny", device="cpu"), model)
