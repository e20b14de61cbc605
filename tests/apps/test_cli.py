"""The command line: what is typed is understood, and what goes wrong is one sentence."""

import io
import sys

import pytest

from kdpl_utils.apps import adapt
from kdpl_utils.apps.cli import main, parser


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ViT-B-32-quickgelu/openai", ("ViT-B-32-quickgelu", "openai")),
        ("RN50//weights/of/mine.pt", ("RN50", "/weights/of/mine.pt")),
        ("emoji-student-vit", ("emoji-student-vit", None)),
        ("local-dir:/models/mine", ("local-dir:/models/mine", None)),
        ("hf-hub:owner/model", ("hf-hub:owner/model", None)),
    ],
)
def test_models(typed, meant):
    assert parser().parse_args(["adapt", "f", "--out", "o", "--student", typed]).student == meant


@pytest.mark.parametrize("error", [OSError("The disk is full."), FloatingPointError("The loss is not finite.")])
def test_what_goes_wrong_is_a_sentence(error, monkeypatch, capsys):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(adapt, "adapt_folder", fails)
    assert main(["adapt", "folder", "--out", "out"]) == 2
    assert capsys.readouterr().err == f"kdpl adapt: {error}\n"


def test_a_stream_that_cannot_change_its_errors_is_written_to(monkeypatch):
    """As IDLE's and pytest's own are: a text in memory."""
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert printed.getvalue().startswith("usage: kdpl")
