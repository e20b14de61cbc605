"""Models of real size and from folders, with random weights, through the path that published weights take."""

import json

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import kdpl_utils as kd

NAMES = ["Siamese", "american pit bull terrier", "Highway or Road", "OK!"]


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_step_zero_of_a_real_model_is_zero_shot(name, tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    file = tmp_path / "weights.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}, file)
    del model
    vlm = kd.load_vlm(name, str(file), device="cpu")
    plain = vlm.model.encode_text(vlm.tokenizer([f"a photo of a {n}." for n in NAMES]), normalize=True)
    prompt = kd.PromptLearner(vlm, ctx_init="a photo of a")
    assert prompt.ctx.numel() == 2048
    torch.testing.assert_close(prompt(NAMES), plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(kd.encode_names(vlm, NAMES), plain, atol=1e-5, rtol=0)
    prompt(NAMES).sum().backward()
    assert prompt.ctx.grad.isfinite().all() and prompt.ctx.grad.abs().max() > 0


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
