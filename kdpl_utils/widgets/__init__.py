"""Explorers: a few controls, one picture, one line of text. They index what was computed before; no model runs here.

Each explorer is a function of arrays that returns an ``Explorer``; a cell shows it by naming it last.
"""

# ruff: noqa: F401, the names below are what the room offers
from .distributions import calibration_bench, prediction, teacher_student, temperature
from .errors import widget_errors
from .explorer import Explorer
from .learning import class_pick, context_step, price, simplex
