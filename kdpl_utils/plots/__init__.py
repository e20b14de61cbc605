"""Arrays in, figure out.  No metric is computed here; each figure carries a sentence about its data in ``fig.alt``.

``pictures`` are figures of images and their distributions, ``curves`` of many runs and settings, ``points`` of
what has a name each, ``lessons`` the panels that the explorers of ``kdpl_utils.widgets`` redraw.
"""

from .curves import (
    ablation,
    bars,
    context_words,
    entropy_histogram,
    forest,
    k_curves,
    learning_curves,
    loss_curves,
    reliability,
    seed_dots,
    slopes,
)
from .lessons import calibration_bench, class_pick, context_step, domain_lens, prediction, price, simplex, temperature
from .pictures import (
    confident_mistakes,
    distributions,
    picture_row,
    selected_names,
    similarity_heatmap,
    teacher_student,
)
from .points import gain_vs_teacher, pareto
from .style import METHODS, ROLES, Figure, png

__all__ = [
    "Figure",
    "METHODS",
    "ROLES",
    "ablation",
    "bars",
    "calibration_bench",
    "class_pick",
    "confident_mistakes",
    "context_step",
    "context_words",
    "distributions",
    "domain_lens",
    "entropy_histogram",
    "forest",
    "gain_vs_teacher",
    "k_curves",
    "learning_curves",
    "loss_curves",
    "pareto",
    "picture_row",
    "png",
    "prediction",
    "price",
    "reliability",
    "seed_dots",
    "selected_names",
    "similarity_heatmap",
    "simplex",
    "slopes",
    "teacher_student",
    "temperature",
]
