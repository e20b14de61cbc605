"""KDPL, prompt learning by unsupervised knowledge distillation (arXiv 2407.03056), small enough to read.

The files beside this one are the whole method. Read them in this order:

1. ``vlm``: a frozen CLIP turns pictures and names into unit vectors, and these into logits.
2. ``prompts``: learned vectors take the place of "a photo of a" (CoOp).
3. ``distill``: the losses between teacher and student, and the choice of names for a batch. These lines make KDPL.
4. ``supervision``: labels, a teacher or a dictionary become a loss, ``loss(learner, batch)``.
5. ``train``: one loop, ``fit``, serves every loss and every learner.
6. ``evaluate`` and ``protocol``: which pictures are learned from, and the numbers a method is judged by.

The folders hold the rest: ``learners`` (one file for each published method), ``clip`` (tokens and both towers),
``worlds`` (pictures, names, splits), ``experiments`` (the paper's runs), ``apps`` (commands), ``plots``, ``widgets``
and ``checks`` (lessons), ``support`` (files, pictures).
"""

from importlib import import_module

# Where each public name lives. Names are imported when first used, so that ``kdpl --help`` need not wait for torch.
_HOME = {
    "vlm": "VLM ImageBatches encode_images encode_names encode_texts logits",
    "loading": "default_device load_vlm",
    "prompts": "PromptLearner",
    "clip.models": "shipped_models",
    "clip.vectors": "nearest_words",
    "distill": "forward_kl mix_teachers reverse_kl select_classes symmetric_kl",
    "supervision": "from_both from_dictionary from_labels from_teacher",
    "train": "History Recipe fit",
    "evaluate": "accuracy entropy expected_calibration_error harmonic_mean kl_bits per_class_accuracy perturb "
    "reliability_curve selection_recall top1_agreement",
    "protocol": "classifier_scores few_shot learn paper_tables scores summarise test_features test_images",
    "learners": "CoCoOp CoOp Learner LinearProbe MaPLe PromptKD PromptSRC VPT",
    "experiments.shots": "coop_few_shot random_subset",
    "learners.classifier": "export_classifier load_classifier",
    "learners.published": "import_checkpoint",
    "learners.saving": "load_learner save_learner",
    "worlds.load": "load_world world_names",
    "worlds.folders": "folder_world",
    "worlds.world": "Split World base_novel of_classes random_crops",
    "worlds.dictionaries": "dictionary_report",
    "apps.inspect": "inspect_pair",
    "support.statistics": "claim paired_bootstrap paired_interval pareto_front",
    "support.version": "__version__",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}
_ROOMS = ("apps", "checks", "clip", "experiments", "learners", "plots", "support", "widgets", "worlds")
__all__ = [*_MODULE_OF]


def __getattr__(name: str):
    if name in _MODULE_OF:
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in (*_ROOMS, *_HOME):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'kdpl_utils' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
