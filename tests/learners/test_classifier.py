"""Classifiers are used elsewhere as they were learned."""

import pytest
import torch
from oracle import moved
from safetensors import safe_open

from kdpl_utils.learners import VPT, CoCoOp, CoOp, MaPLe, PromptKD, PromptSRC
from kdpl_utils.learners.classifier import export_classifier, load_classifier

NAMES = ["sushi", "hot dog", "ice cream"]


@pytest.mark.parametrize("kind", [CoOp, VPT, MaPLe, PromptSRC], ids=lambda k: k.__name__)
def test_exported_classifier(kind, student, pixels, pictures, tmp_path):
    learner = moved(kind(student))
    path = export_classifier(learner, NAMES, tmp_path / "c.safetensors")
    classifier = load_classifier(path, student)
    torch.testing.assert_close(classifier(pixels), learner(pixels, NAMES).detach(), atol=1e-5, rtol=1e-5)
    named = classifier.predict(pictures, k=2)
    assert named == [[(n, pytest.approx(p, abs=1e-5)) for n, p in row] for row in learner.predict(pictures, NAMES, 2)]
    assert [row[0][0] for row in named] == [NAMES[i] for i in learner(pixels, NAMES).argmax(1).tolist()]
    assert all(row[0][1] >= row[1][1] for row in named)


def test_text_features_elsewhere(student, pixels, tmp_path):
    """The formula of the docstring, without this library."""
    learner = moved(CoOp(student))
    path = export_classifier(learner, NAMES, tmp_path / "c.safetensors")
    with safe_open(path, "pt") as file:
        text, scale = file.get_tensor("text"), float(file.metadata()["logit_scale_exp"])
    plain = scale * student.model.encode_image(pixels, normalize=True) @ text.T
    torch.testing.assert_close(plain, learner(pixels, NAMES), atol=1e-5, rtol=1e-5)


def test_a_classifier_that_depends_on_the_image_is_refused(student, other, tmp_path):
    for learner in (CoCoOp(student), PromptKD(student, other)):
        with pytest.raises(ValueError, match="not fixed text features"):
            export_classifier(learner, NAMES, tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


def test_no_pictures_have_no_names(student, tmp_path):
    classifier = load_classifier(export_classifier(CoOp(student), NAMES, tmp_path / "c.safetensors"), student)
    assert classifier.predict([], k=2) == CoOp(student).predict([], NAMES, 2) == []
