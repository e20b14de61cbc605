"""Real-size models, randomly initialised and saved to a file, through the path that published weights take."""

import gc

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
