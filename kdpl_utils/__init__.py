"""KDPL, prompt learning by unsupervised knowledge distillation (arXiv 2407.03056), small enough to read.

Reading order is data flow: ``data`` → ``vlm`` → ``prompts`` → ``distill`` → ``train`` → ``evaluate`` → ``plots``.
"""

from .data import Split, World, base_novel, few_shot, load_world, of_classes, random_crops, world_names
from .distill import forward_kl, reverse_kl, select_classes, symmetric_kl
from .evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    harmonic_mean,
    paired_bootstrap,
    per_class_accuracy,
    reliability_curve,
    selection_recall,
    top1_agreement,
)
from .prompts import PromptLearner, nearest_words
from .protocol import claim, learn, paper_tables, scores, summarise, test_features
from .train import History, Recipe, fit
from .vlm import VLM, default_device, encode_images, encode_names, load_vlm, logits, shipped_models

__version__ = "0.1.0"
__all__ = [name for name in globals() if not name.startswith("_")]
