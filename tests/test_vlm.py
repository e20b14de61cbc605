"""A frozen CLIP: the ordinary loading path, unit features, logits, and sentences instead of surprises."""

import json
import time

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from kdpl_utils.clip.models import shipped_models, weights_identity
from kdpl_utils.loading import default_device, load_vlm
from kdpl_utils.vlm import VLM, ImageBatches, encode_images, encode_names, logits

NAMES = ["sushi", "hot dog", "OK! button", "man in motorized wheelchair: facing right", "ice_cream"]


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)) for _ in range(5)]


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_load_frozen(name):
    vlm = load_vlm(name, device="cpu")
    assert isinstance(vlm.model, open_clip.CLIP) and not vlm.model.training
    assert not any(p.requires_grad for p in vlm.model.parameters())
    assert 1 < vlm.scale.item() <= 100.01
    assert vlm.tokenizer.vocab_size == vlm.model.vocab_size


def test_features_are_unit_and_what_open_clip_computes(student, pictures):
    features = encode_images(student, pictures, batch_size=2)
    plain = student.model.encode_image(torch.stack([student.preprocess(p) for p in pictures]), normalize=True)
    torch.testing.assert_close(features, plain.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(5))


def test_the_next_batch_is_opened_while_this_one_is_computed(student, pictures, monkeypatch):
    """By the time the first batch of two is looked at, the second one is on its way; order and numbers stay."""
    asked = []

    class Watched(list):
        def __getitem__(self, i):
            asked.append(i)
            return super().__getitem__(i)

    computed, plain = [], student.model.encode_image

    def watch(pixels):
        deadline = time.time() + 10
        while len(asked) < min(len(computed) + 4, 5) and time.time() < deadline:
            time.sleep(0.01)  # the other threads are given time, not trusted to be quick
        computed.extend(pixels)
        assert len(asked) >= min(len(computed) + 2, 5)
        return plain(pixels)

    monkeypatch.setattr(student.model, "encode_image", watch)
    features = encode_images(student, Watched(pictures), batch_size=2)
    monkeypatch.undo()
    torch.testing.assert_close(features, encode_images(student, pictures), atol=1e-6, rtol=0)
    assert sorted(asked) == list(range(5))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(student, pictures, precision):
    """Frozen weights in half precision; features in float32, near those of float32, and the context learns in it."""
    from kdpl_utils.prompts import PromptLearner

    half = load_vlm("emoji-student-vit", device="cpu", precision=precision)
    assert half.dtype is {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    images, names = encode_images(half, pictures), encode_names(half, NAMES)
    assert images.dtype is names.dtype is torch.float32
    assert (images * encode_images(student, pictures)).sum(-1).min() > 0.99
    assert (names * encode_names(student, NAMES)).sum(-1).min() > 0.99
    prompt = PromptLearner(half)
    (prompt(NAMES) * names.flip(0)).sum().backward()
    assert prompt.ctx.dtype is prompt.ctx.grad.dtype is torch.float32 and prompt.ctx.grad.abs().max() > 0


@pytest.mark.parametrize("custom", [False, True], ids=["CLIP", "CustomTextCLIP"])
def test_cut_texts_equal_full_length(student, custom):
    """Full context length through open_clip's own encode_text, one name at a time: the independent way."""
    torch.manual_seed(0)
    model = open_clip.create_model("emoji-student-vit", force_custom_text=custom).eval()
    vlm = VLM(model, student.preprocess, student.tokenizer, "tiny")
    templates = ["a photo of a {}.", "{}"]
    expected = []
    for name in NAMES:
        each = [model.encode_text(vlm.tokenizer(t.format(name.replace("_", " "))), normalize=True) for t in templates]
        expected.append(F.normalize(torch.cat(each).mean(0), dim=0).detach())
    torch.testing.assert_close(encode_names(vlm, NAMES, templates), torch.stack(expected), atol=1e-5, rtol=0)


def test_order_of_names_does_not_matter(student):
    there, back = encode_names(student, NAMES), encode_names(student, NAMES[::-1])
    torch.testing.assert_close(there, back.flip(0), atol=1e-6, rtol=0)


def test_a_text_tower_that_is_not_causal_still_gives_zero_shot(student):
    torch.manual_seed(0)
    model = open_clip.create_model("emoji-student-vit").eval()
    model.attn_mask = None  # as in SigLIP: every token sees every other
    vlm = VLM(model, student.preprocess, student.tokenizer, "bidirectional")
    plain = model.encode_text(vlm.tokenizer([f"a photo of a {n}." for n in NAMES[:3]]), normalize=True).detach()
    torch.testing.assert_close(encode_names(vlm, NAMES[:3]), plain, atol=1e-5, rtol=0)


def test_logits_by_a_loop():
    g = torch.Generator().manual_seed(0)
    images, texts = torch.randn(4, 6, generator=g), torch.randn(3, 6, generator=g)
    looped = [[7.5 * sum(a * b for a, b in zip(i, t)) for t in texts.tolist()] for i in images.tolist()]
    torch.testing.assert_close(logits(images, texts, 7.5), torch.tensor(looped), atol=1e-4, rtol=1e-4)


def test_each_model_sees_its_own_preprocessing(student, pictures):
    teacher = load_vlm("emoji-teacher-small", device="cpu")
    assert student.preprocess(pictures[0]).shape[-1] == 48 and teacher.preprocess(pictures[0]).shape[-1] == 32
    assert encode_images(teacher, pictures).shape[0] == 5
    grey = VLM(student.model, lambda p: torch.zeros(3, 48, 48), student.tokenizer, "other mean and std")
    assert (encode_images(grey, pictures) - encode_images(student, pictures)).abs().max() > 1e-3


def test_weights_from_a_file(tmp_path, student, pictures):
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(3)
    made = open_clip.create_model("emoji-student-vit").eval()
    save_file(made.state_dict(), path)
    loaded = load_vlm("emoji-student-vit", str(path), device="cpu")
    expected = made.encode_image(torch.stack([loaded.preprocess(p) for p in pictures]), normalize=True)
    torch.testing.assert_close(encode_images(loaded, pictures), expected.detach(), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="does not hold weights of emoji-teacher-large"):
        load_vlm("emoji-teacher-large", str(path), device="cpu")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("ViT-B-33",), "no model 'ViT-B-33'.*emoji-student-rn.*ViT-B-32"),
        (("RN50-quickgelu",), "needs weights: give one of openai"),
        (("ViT-B-32", "nonsense"), "has no weights 'nonsense': give one of .*laion2b_s34b_b79k"),
        (("ViT-B-32", "openai"), r"QuickGELU.*load_vlm\('ViT-B-32-quickgelu', 'openai'\)"),
        (("ViT-B-32-quickgelu", "laion2b_s34b_b79k"), r"QuickGELU.*load_vlm\('ViT-B-32', 'laion2b_s34b_b79k'\)"),
    ],
)
def test_wrong_names_say_what_to_type(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_vlm(*arguments, device="cpu")


def test_no_network_says_what_to_fetch_and_where_to_put_it(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Failed to download weights for tag 'openai': no route")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", fail)
    with pytest.raises(
        FileNotFoundError, match=r"Fetch https?://.*ViT-L-14.pt.*load_vlm\('ViT-L-14-quickgelu', '/path"
    ):
        load_vlm("ViT-L-14-quickgelu", "openai", device="cpu")


def test_a_name_longer_than_the_context(student):
    with pytest.raises(ValueError, match="tokens, and emoji-student-vit reads at most 38: shorten"):
        encode_names(student, ["sushi", "very " * 40 + "long"])


@pytest.mark.parametrize("cuda, mps, device", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_default_device_is_the_fastest_that_there_is(cuda, mps, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == device


def test_pictures_come_as_objects_paths_pairs_and_columns(student, pictures, tmp_path):
    """A pandas column is taken in the order in which it stands, not by its labels."""
    pandas = pytest.importorskip("pandas")
    expected = encode_images(student, pictures)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, picture in zip(paths, pictures):
        picture.save(path)
    column = pandas.Series(map(str, paths)).iloc[[3, 0, 4]]
    for given, rows in ((paths, range(5)), ([(p, 0) for p in pictures], range(5)), (column, [3, 0, 4])):
        torch.testing.assert_close(encode_images(student, given), expected[list(rows)], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="images is one path"):
        encode_images(student, str(paths[0]))


def test_batches_of_pictures(student, pictures):
    """By indices, a slice, or all in order; what is kept is not opened again."""
    opened = []

    class Watched(list):
        def __getitem__(self, i):
            opened.append(i)
            return super().__getitem__(i)

    batches = ImageBatches(student, Watched(pictures), keep=True)
    first = batches[torch.tensor([3, 1])]
    assert torch.equal(first, torch.stack([student.preprocess(pictures[i]) for i in (3, 1)]))
    assert torch.equal(batches[1:4], torch.stack([student.preprocess(p) for p in pictures[1:4]]))
    assert torch.equal(torch.cat(list(batches.in_order(2))), batches[:]) and sorted(opened) == list(range(5))


def test_features_that_are_not_finite_are_said(student, pictures, monkeypatch):
    monkeypatch.setattr(student.model, "encode_image", lambda pixels: torch.full((len(pixels), 8), torch.nan))
    with pytest.raises(ValueError, match="not finite, first for image 0: load it with precision='fp32'"):
        encode_images(student, pictures)


def test_a_folder_of_a_model(tmp_path, student):
    """``local-dir:`` loads it as it loads a hub's, and any file in it tells it from others."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {"model_cfg": open_clip.get_model_config("emoji-student-vit"), "preprocess_cfg": {"size": 48}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(student.model.state_dict(), folder / "open_clip_pytorch_model.bin")
    loaded = load_vlm(f"local-dir:{folder}", device="cpu")
    assert torch.equal(loaded.model.visual.proj, student.model.visual.proj)
    before = weights_identity(f"local-dir:{folder}", None)
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"other weights")
    assert weights_identity(f"local-dir:{folder}", None) != before == loaded.weights


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("emoji-student-rn", "openai"), "comes with its weights, and 'openai' is not a file"),
        (("local-dir:/nowhere",), "holds no open_clip_config.json"),
        (("emoji-student-rn", None, "cpu", "float16"), "choose 'fp32', 'bf16' or 'fp16'"),
    ],
)
def test_wrong_arguments_are_not_blamed_on_the_network(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_vlm(*arguments)


def test_a_mask_of_pictures_is_a_mask(student, pictures):
    batches = ImageBatches(student, pictures)
    mask = torch.tensor([False, False, True, False, True])
    assert torch.equal(batches[mask], batches[[2, 4]]) and torch.equal(batches[[-1]], batches[[4]])
