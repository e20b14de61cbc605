"""Checks of the lessons' exercises, predictions before a measurement, and what an instructor gets of both.

``checks.forward_kl(answer)`` returns the answer if it is right; if not, it says which mistake was made and returns the
library's version, so that a lesson always runs to its end. ``checks.forward_kl.hint()`` helps.
"""

# ruff: noqa: F401  (what is imported is what lessons call)
from .engine import EXERCISES, Exercise
from .lesson01 import encode_names, logits
from .lesson02 import expected_calibration_error
from .lesson03 import harmonic_mean, splice_context
from .lesson04 import forward_kl, mended
from .lesson05 import kdpl
from .lesson06 import select_classes, selection_recall
from .lesson07 import paired_interval
from .lesson09 import perturb
from .lesson10 import nearest_names
from .museum import EXHIBITS, bug_museum, exhibit
from .prediction import predict
from .report import export, summary
