"""The explorers as cells of a notebook, for tests/test_browser.py: real models of the emoji world, few pictures.

Values that only long runs would give (teachers' gains) are random numbers here, and labelled so.
"""

SET_UP = """
import numpy as np, torch
import kdpl_utils as kd
from kdpl_utils import widgets

world = kd.load_world("emoji/activities")
student, teacher = (kd.load_vlm(*pair, device="cpu") for pair in (world.student, world.teacher))
names, test = list(world.classnames), world.test.subset(range(0, len(world.test), 16))
images, labels = [test.images[i] for i in range(len(test))], test.labels
features = {"student": kd.encode_images(student, images), "teacher": kd.encode_images(teacher, images)}
text = {"student": kd.encode_names(student, names), "teacher": kd.encode_names(teacher, names)}
logits = {r: kd.logits(features[r], text[r], v.scale) for r, v in (("student", student), ("teacher", teacher))}

# A prompt learned for a moment, watched after each epoch.
prompt, steps = kd.PromptLearner(student), []


def watch(prompt):
    steps.append(prompt(names).detach())
    return {}


def loss(prompt, batch):
    now = kd.logits(features["student"][batch], prompt(names), student.scale)
    return kd.symmetric_kl(logits["teacher"][batch], now)


watch(prompt)
kd.fit(prompt, loss, len(images), kd.Recipe(epochs=6, batch_size=16, lr=0.05), watch, progress=False)
learned = [kd.logits(features["student"], t, student.scale) for t in steps]
right = [100 * kd.accuracy(x, labels) for x in learned]
"""

CELLS = {
    "teacher_student": 'widgets.teacher_student(images, names, logits["teacher"], learned, labels)',
    "prediction": 'widgets.prediction(images, features["student"], names, text["student"], student.scale, labels)',
    "temperature": """encoded = {t: kd.encode_names(student, names, [t]) for t in ("a photo of a {}.", "{}")}
cosines = {t: features["student"] @ e.T for t, e in encoded.items()}
widgets.temperature(images, names, cosines, labels, student.scale)""",
    "context_step": """words = [[[f"made up {v}{k}" for k in range(5)] for v in "abcd"]] * 7
distances = np.linspace(1, 2, 5) + np.arange(7)[:, None, None] * np.ones((4, 1))
widgets.context_step(words, distances, torch.stack(steps), {"these pictures": right}, list("abcd"))""",
    "simplex": "widgets.simplex()",
    "class_pick": """words = kd.encode_names(teacher, world.dictionary)
dictionary = kd.logits(features["teacher"], words, teacher.scale)
widgets.class_pick(images, dictionary, labels, names, world.dictionary)""",
    "price": """gains = np.random.default_rng(0).normal(1, 1, (3, 5))
widgets.price(["small", "medium", "large"], [1.0, 4.0, 16.0], gains, "gain (made up)")""",
    "calibration_bench": "widgets.calibration_bench(logits, labels)",
    "inspect_pair": "kd.inspect_pair(teacher, student, test, names)",
}
