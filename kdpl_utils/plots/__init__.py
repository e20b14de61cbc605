"""Arrays in, figure out. No metric is computed here; each figure carries a sentence about its data in ``fig.alt``."""

# ruff: noqa: F401, these names are what the room offers
from .curves import ablation, bars, k_curves, learning_curves, loss_curves, reliability, slopes
from .panels import class_pick, context_step, selected_names, simplex
from .pictures import confident_mistakes, distributions, picture_row, similarity_heatmap, teacher_student, temperature
from .points import forest, gain_vs_teacher, pareto, seed_dots
from .style import METHODS, ROLES, Figure, png
