"""KDPL, prompt learning by unsupervised knowledge distillation (arXiv 2407.03056), small enough to read.

Reading order is data flow: ``data`` → ``vlm`` → ``prompts`` → ``distill`` → ``train`` → ``evaluate`` → ``plots``.
"""

from .checkpoints import export_classifier, import_checkpoint, load_classifier, load_learner, save_learner
from .data import (
    Split,
    World,
    base_novel,
    coop_few_shot,
    few_shot,
    folder_world,
    load_world,
    of_classes,
    random_crops,
    random_subset,
    world_names,
)
from .dictionaries import dictionary_report
from .distill import forward_kl, mix_teachers, reverse_kl, select_classes, symmetric_kl
from .evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    harmonic_mean,
    kl_bits,
    paired_bootstrap,
    pareto_front,
    per_class_accuracy,
    perturb,
    reliability_curve,
    selection_recall,
    top1_agreement,
)
from .learners import VPT, CoCoOp, CoOp, Learner, MaPLe, PromptKD, PromptSRC
from .prompts import PromptLearner, nearest_words
from .protocol import (
    adapt,
    claim,
    classifier_scores,
    from_both,
    from_dictionary,
    from_labels,
    from_teacher,
    learn,
    paper_tables,
    scores,
    summarise,
    test_features,
    test_pixels,
)
from .streams import Shards
from .train import History, Recipe, fit
from .vlm import VLM, Pixels, default_device, encode_images, encode_names, load_vlm, logits, shipped_models

__version__ = "0.2.0"


def __getattr__(name: str):
    """``inspect_pair``: matplotlib and ipywidgets take a second, so they are imported when it is asked for."""
    if name == "inspect_pair":
        from .inspection import inspect_pair

        return inspect_pair
    raise AttributeError(f"module 'kdpl_utils' has no attribute {name!r}")
