"""KDPL, prompt learning by unsupervised knowledge distillation (arXiv 2407.03056), small enough to read.

The files beside this one are the method, in reading order: ``vlm``, ``loading``, ``prompts``, ``distill``, ``train``,
``evaluate``, ``shots``, ``supervision``, ``protocol``. The folders hold the rest: ``learners`` (one file a method),
``towers`` (both towers, opened), ``worlds`` (pictures and names), ``experiments`` (the paper's runs), ``plots``,
``widgets``, ``apps`` (what is called from a shell) and ``support``.
"""

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
from .learners.classifier import export_classifier, load_classifier
from .learners.published import import_checkpoint
from .learners.saving import load_learner, save_learner
from .loading import default_device, load_vlm, shipped_models
from .prompts import PromptLearner, nearest_words
from .protocol import (
    adapt,
    claim,
    classifier_scores,
    learn,
    paper_tables,
    scores,
    summarise,
    test_features,
    test_pixels,
)
from .shots import coop_few_shot, few_shot, random_subset
from .supervision import from_both, from_dictionary, from_labels, from_teacher
from .support.version import __version__
from .train import History, Recipe, fit
from .vlm import VLM, Pixels, encode_images, encode_names, logits
from .worlds.dictionaries import dictionary_report
from .worlds.load import load_world, world_names
from .worlds.photo_worlds import folder_world
from .worlds.shards import Shards
from .worlds.world import Split, World, base_novel, of_classes, random_crops


def __getattr__(name: str):
    """``inspect_pair``: matplotlib and ipywidgets take a second, so they are imported when it is asked for."""
    if name == "inspect_pair":
        from .apps.inspect import inspect_pair

        return inspect_pair
    raise AttributeError(f"module 'kdpl_utils' has no attribute {name!r}")
