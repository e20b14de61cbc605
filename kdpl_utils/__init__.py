"""KDPL, prompt learning by unsupervised knowledge distillation (arXiv 2407.03056), small enough to read.

The files beside this one are the whole method. Read them in this order:

1. ``vlm``: a frozen CLIP turns pictures and names into unit vectors, and these into logits.
2. ``loading``: ``load_vlm`` reads the weights, and says in a sentence why it cannot.
3. ``prompts``: learned vectors take the place of "a photo of a", and the gradient reaches them alone (CoOp).
4. ``distill``: the losses between teacher and student, and the choice of names for a batch. These lines make KDPL.
5. ``supervision``: labels, a teacher, a dictionary, or a control of these become the loss of a training step.
6. ``train``: one loop, ``fit``, serves every loss and every learner.
7. ``evaluate``: accuracy, calibration, agreement, and intervals for differences.
8. ``shots``: a seed draws the few pictures that are learned from.
9. ``protocol``: train on those, test on base and novel names and on shifts, and say what the numbers support.

The folders hold the rest:

* ``learners``: one file for each published method; how they are saved, and how published checkpoints are read.
* ``towers``: both towers of CLIP, opened for learned vectors.
* ``worlds``: where pictures, names and splits come from; the shipped world is ``emoji.py``.
* ``experiments``: the paper's runs, which can be killed and go on.
* ``plots``: the figures of the lessons.
* ``widgets``: the explorers of the lessons.
* ``checks``: what says of a learner's answer which mistake it makes.
* ``apps``: what a shell or a notebook calls.
* ``support``: disk, threads, shipped files.

A file imports only from its own room and from rooms below it (``tests/test_structure.py``).
"""

from .distill import forward_kl, mix_teachers, reverse_kl, select_classes, symmetric_kl
from .evaluate import (
    accuracy,
    entropy,
    expected_calibration_error,
    harmonic_mean,
    kl_bits,
    paired_bootstrap,
    paired_interval,
    pareto_front,
    per_class_accuracy,
    perturb,
    reliability_curve,
    selection_recall,
    top1_agreement,
)
from .learners import VPT, CoCoOp, CoOp, Learner, LinearProbe, MaPLe, PromptKD, PromptSRC
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
from .supervision import (
    from_both,
    from_dictionary,
    from_hard_teacher,
    from_labels,
    from_pseudo_labels,
    from_random_names,
    from_shuffled_teacher,
    from_teacher,
    from_uniform_teacher,
)
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
