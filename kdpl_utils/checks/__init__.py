"""Checks of the lessons' exercises, predictions before a measurement, and what an instructor gets of both.

``checks.forward_kl(answer)`` returns the answer if it is right; if not, it says which mistake was made and returns the
library's version, so that a lesson always runs to its end. ``checks.forward_kl.hint()`` and ``.hint(2)`` help.
"""

from .distilling import forward_kl, kdpl, mended
from .engine import Exercise
from .helping import Help, help_of
from .judging import nearest_names, paired_interval, perturb
from .museum import EXHIBITS, bug_museum, exhibit
from .museum import HELP as HELP_IN_THE_MUSEUM
from .picking import select_classes, selection_recall
from .prediction import predict
from .report import export, summary
from .seeing import encode_names, expected_calibration_error, harmonic_mean, logits, splice_context

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        logits,
        encode_names,
        expected_calibration_error,
        splice_context,
        harmonic_mean,
        forward_kl,
        mended,
        kdpl,
        select_classes,
        selection_recall,
        paired_interval,
        perturb,
        nearest_names,
    )
}


def help_for(name: str) -> Help:
    """What stands folded under an exercise, or under the museum, by its name."""
    return HELP_IN_THE_MUSEUM if name == "bug_museum" else help_of(EXERCISES[name])


__all__ = ["EXERCISES", "EXHIBITS", "bug_museum", "exhibit", "export", "help_for", "predict", "summary", *EXERCISES]
