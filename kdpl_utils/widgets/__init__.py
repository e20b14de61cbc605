"""Explorers: a few controls, one picture, one line of text.  They index what was computed before; no model runs here.

Each explorer is a function of arrays that returns an ``Explorer``; a notebook shows it by naming it last in a cell.
``inspect_pair`` (in ``apps/inspect.py``) makes the arrays of the signature explorer from any two models.
"""

from .distributions import calibration_bench, prediction, teacher_student, temperature
from .errors import widget_errors
from .explorer import Explorer
from .learning import ablation, class_pick, context_step, domain_lens, price, simplex

__all__ = [
    "Explorer",
    "ablation",
    "calibration_bench",
    "class_pick",
    "context_step",
    "domain_lens",
    "prediction",
    "price",
    "simplex",
    "teacher_student",
    "temperature",
    "widget_errors",
]
