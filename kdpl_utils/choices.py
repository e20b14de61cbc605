"""The names that commands take, in one place that imports no torch."""

# Learners: the name on the command line → the class in ``learners``. The first five are the paper's.
LEARNERS = {
    "coop": "CoOp",
    "cocoop": "CoCoOp",
    "vpt": "VPT",
    "maple": "MaPLe",
    "promptsrc": "PromptSRC",
    "linear": "LinearProbe",
    "promptkd": "PromptKD",
}
PROMPT_LEARNERS = tuple(LEARNERS)[:5]

# What supervises; the first three are the paper's, the others are controls, but for promptkd's own objective.
MODES = {
    "labels": "cross-entropy of labels",
    "kdpl": "a teacher, without labels",
    "kdpl-ca": "a teacher and a dictionary, without labels or class names",
    "pseudo-labels": "the student's own confident predictions",
    "hard-teacher": "the teacher's top prediction as the label",
    "shuffled-teacher": "the teacher's distributions for other images",
    "uniform-teacher": "all names equally probable",
    "self-teacher": "the student's own distribution before training",
    "random-names": "names drawn at random in place of the teacher's choice",
    "promptkd": "PromptKD's objective, for its own learner",
}
PAPER_MODES = tuple(MODES)[:3]
WITH_DICTIONARY = ("kdpl-ca", "random-names")

TABLES = ("base-to-novel", "domain", "cross-dataset", "few-shot")
