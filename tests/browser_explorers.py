"""The ten explorers as cells of a notebook, for tests/test_browser.py: real models of the emoji world, few pictures.

Values that only long runs would give (several teachers, alphas, seeds) are random numbers here, and labelled so.
"""

SET_UP = """
import numpy as np, torch
import kdpl_utils as kd
from kdpl_utils import widgets
from kdpl_utils.apps.inspect import inspect_pair

world = kd.load_world("emoji/activities")
student, teacher = (kd.load_vlm(*pair, device="cpu") for pair in (world.student, world.teacher))
names, test = list(world.classnames), world.test.subset(range(0, len(world.test), 16))
images, labels = [test.images[i] for i in range(len(test))], test.labels
features = {"student": kd.encode_images(student, images), "teacher": kd.encode_images(teacher, images)}
text = {"student": kd.encode_names(student, names), "teacher": kd.encode_names(teacher, names)}
logits = {r: kd.logits(features[r], text[r], v.scale) for r, v in (("student", student), ("teacher", teacher))}

# A prompt learned for a moment, watched after each epoch.
prompt, chosen = kd.PromptLearner(student), torch.arange(len(images))
steps = {"text": [], "words": [], "distances": []}
table = student.model.token_embedding.weight


def watch(_=None):
    steps["text"].append(prompt(names).detach())
    distance = torch.cdist(prompt.ctx.detach(), table).topk(5, largest=False)
    steps["words"].append([[student.tokenizer.decode([i]).strip() for i in row] for row in distance.indices.tolist()])
    steps["distances"].append(distance.values.numpy())
    return {}


def loss(batch):
    now = kd.logits(features["student"][batch], prompt(names), student.scale)
    return kd.symmetric_kl(logits["teacher"][batch], now)


watch()
kd.fit(prompt, loss, len(images), kd.Recipe(epochs=6, batch_size=16, lr=0.05), watch, progress=False)
learned = [kd.logits(features["student"], t, student.scale) for t in steps["text"]]
right = [100 * kd.accuracy(x, labels) for x in learned]
runs = np.random.default_rng(0).normal(60, 1, (6, 3, 5))  # made up
"""

CELLS = {
    "teacher_student": 'widgets.teacher_student(images, names, logits["teacher"], learned, labels)',
    "prediction": 'widgets.prediction(images, features["student"], names, text["student"], student.scale, labels)',
    "temperature": """encoded = {t: kd.encode_names(student, names, [t]) for t in ("a photo of a {}.", "{}")}
cosines = {t: features["student"] @ e.T for t, e in encoded.items()}
widgets.temperature(images, names, cosines, labels, student.scale)""",
    "context_step": """curves = {"these pictures": right}
widgets.context_step(
    steps["words"], steps["distances"], torch.stack(steps["text"]), curves, ["a", "photo", "of", "a"]
)""",
    "simplex": "widgets.simplex()",
    "class_pick": """words = kd.encode_names(teacher, world.dictionary)
dictionary = kd.logits(features["teacher"], words, teacher.scale)
widgets.class_pick(images, dictionary, labels, names, world.dictionary)""",
    "ablation": """settings = ("known classes", "class-agnostic")
made_up = {s: {"made up": runs[i : i + 5, i]} for i, s in enumerate(settings)}
widgets.ablation([0, 0.25, 0.5, 0.75, 1], made_up, {"made up": 58.0})""",
    "price": 'widgets.price(["small", "medium", "large"], [1.0, 4.0, 16.0], runs[:3, 0] - 59, "gain (made up)")',
    "calibration_bench": """widgets.calibration_bench(
    {"teacher": logits["teacher"]}, labels, effect={"teacher": runs}, metric="made up", zero_shot=58.0
)""",
    "domain_lens": """def domain(split):
    part = split.subset(range(0, len(split), 60))
    seen = [part.images[i] for i in range(len(part))]
    f, t = kd.encode_images(student, seen), kd.encode_images(teacher, seen)
    roles = {"teacher": kd.logits(t, text["teacher"], teacher.scale)}
    roles |= {"student before": kd.logits(f, text["student"], student.scale)}
    roles |= {"student after": kd.logits(f, steps["text"][-1], student.scale)}
    return seen, part.labels, roles


domains = {"in domain": world.test, **world.shifts}
widgets.domain_lens({name: domain(split) for name, split in domains.items()}, names)""",
    "inspect_pair": "inspect_pair(teacher, student, test, names)",
}
