# %% [markdown] 08-title (title)
r"""
# 08 · Which teacher? What does a bigger teacher buy, and cost?

About 25 minutes to read and run, no exercise; a minute or two of computing. Needs: [05](05_kdpl.ipynb).
"""

# %% 08-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 08-cold (cold-open)
r"""
## Three teachers, one picture

Three models that could teach. Each looks at the same drawing, and they do not agree.
"""

# %% 08-world (setup)
import statistics
import time
from dataclasses import replace

import pandas as pd

from kdpl_utils import checks, widgets

world = kd.load_world("emoji")
student = kd.load_vlm(*world.student)
teachers = {name.split("-")[-1]: kd.load_vlm(name, weights) for name, weights in world.teachers}
base_names = [world.classnames[c] for c in world.base]
train, test = kd.of_classes(world.train, world.base), kd.of_classes(world.test, world.base)
scale = student.scale  # as published, both distributions take the student's


def answers(vlm, split):
    """(N, C): zero-shot logits of a model, at the student's scale."""
    text = kd.encode_names(vlm, base_names, world.templates)
    return kd.logits(kd.encode_images(vlm, split.images), text, scale.to(vlm.device)).to(student.device)


# %% 08-cold-picture (cold-open)
on_train = {name: answers(vlm, train) for name, vlm in teachers.items()}
apart = kd.kl_bits(on_train["large"], on_train["small"]).cpu()
furthest = int(apart.argmax())
plots.distributions(
    train.images[furthest],
    base_names,
    {name: logits[furthest].softmax(-1).cpu() for name, logits in on_train.items()},
    label=base_names[train.labels[furthest]],
    title="The training picture on which the small and the large teacher are furthest apart",
)

# %% [markdown] 08-objectives (objectives)
r"""
You will be able to **measure** what a teacher knows and what it costs, **choose** one for a budget, **read** a Pareto
front, and **mix** several teachers into one.

Three claims to test, printed at the end by the run, each about H, the harmonic mean of base and novel: *the large
teacher teaches more than the small one*; *the large teacher teaches more than the medium one*; *all three together
teach more than the large one alone.* The control is the cheapest teacher of all: the student itself.
"""

# %% [markdown] 08-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “What the student gains”: the teachers have been measured and timed. Ask
which one each would buy, and keep the answers for the end.
"""

# %% [markdown] 08-knows-why (why)
r"""
## What they know

Same kind of tower, three sizes. They differ in more than size: the hand-drawn sets on which they were pretrained held
both styles of the training pictures for the medium and the large teacher, and one of them for the small. The test style
was seen by none. So two accuracies: on the pictures that will be taught, and on ink by a stranger.
"""

# %% 08-knows-predict (predict)
strangers = checks.predict("strangers", "How many test pictures does the large teacher name rightly?")
strangers

# %% 08-knows-run (run)
models = {"student": student, **teachers}
on_train["student"] = answers(student, train)
on_test = {name: answers(vlm, test) for name, vlm in models.items()}


def knowledge(logits, labels):
    """Top-1 and ECE in per cent."""
    labels = labels.to(logits.device)
    error = kd.expected_calibration_error(logits.softmax(-1), labels)
    return 100 * kd.accuracy(logits, labels), 100 * error


table = {}
for name, vlm in models.items():
    size = sum(p.numel() for p in vlm.model.visual.parameters()) / 1e6
    values = (size, *knowledge(on_train[name], train.labels), *knowledge(on_test[name], test.labels))
    table[name] = [f"{value:.1f}" for value in values]
strangers.measured(100 * kd.accuracy(on_test["large"], test.labels.to(student.device)))
columns = ["image tower, million weights", "training: top-1 %", "training: ECE %", "test: top-1 %", "test: ECE %"]
pd.DataFrame(table, index=columns).T

# %% 08-knows-picture (run)
curves = {}
for name in teachers:
    curves[name] = kd.reliability_curve(on_test[name].softmax(-1), test.labels.to(student.device))
plots.reliability(curves, "Teachers on test pictures")

# %% [markdown] 08-knows-see (see)
r"""
Below the diagonal a teacher is surer than it is right, above it less sure. All three take the student's scale, as
published, so this is the ECE of what the student is taught. Where the training pictures are named far better than the
test, the teacher knows those drawings: fine for teaching them, no sign that it knows ink in general.
"""

# %% [markdown] 08-cost-why (why)
r"""
## What they cost

Milliseconds a picture: the median of five timed passes over the same pictures, already drawn. The models take turns, so
that a busy moment hits all of them. Preprocessing is included.
"""

# %% 08-cost-predict (predict)
times = checks.predict(
    "times", "How many times as long as the small teacher does the large one look at a picture?", 0, 10, "times"
)
times

# %% 08-cost-run (run)
pictures = [train.images[i] for i in range(64)]


def milliseconds(vlm):
    """The time that a model takes for a picture."""
    start = time.perf_counter()
    kd.encode_images(vlm, pictures).cpu()  # waits for a GPU to finish
    return 1000 * (time.perf_counter() - start) / len(pictures)


passes = {name: [] for name in models}
for _ in range(5):
    for name, vlm in models.items():
        passes[name].append(milliseconds(vlm))
cost = {name: statistics.median(spent) for name, spent in passes.items()}
times.measured(cost["large"] / cost["small"])
print(", ".join(f"{name} {ms:.2f} ms a picture" for name, ms in cost.items()))

# %% [markdown] 08-gain-why (why)
r"""
## What the student gains

KDPL, five seeds of each, with the recipe of lesson 05. *Self* is the student's own zero-shot distribution. *All three*
is the mean of the teachers' probabilities, which is a distribution again; its cost is the sum of theirs.
"""

# %% 08-gain-predict (predict)
best = checks.predict(
    "best", "From which does the student gain most, in H?", options=["small", "medium", "large", "all three"]
)
best

# %% 08-gain-run (run)
features = kd.encode_images(student, train.images)
tests, recipe, seeds = kd.test_features(student, world), kd.Recipe(**world.recipe), range(5)
zero_shot = kd.scores(tests, world, lambda names: kd.encode_names(student, names, world.templates), scale)


def taught_by(name, target):
    """The rows of five students that followed the logits (N, C) of a teacher."""

    def kdpl(prompt, batch):
        return kd.symmetric_kl(target[batch], kd.logits(features[batch], prompt(base_names), scale))

    prompts = [kd.PromptLearner(student) for _ in seeds]
    runs = [kd.learn(prompt, kdpl, train.labels, seed, recipe) for prompt, seed in zip(prompts, seeds)]
    print(f"{name}: {statistics.mean(history.seconds for history in runs):.1f} s a run")
    return [kd.scores(tests, world, prompt, scale) for prompt in prompts]


# %% 08-gain-all (run)
targets = {name: on_train[name] for name in teachers}
targets["all three"] = kd.mix_teachers(list(targets.values()))
targets["self"] = on_train["student"]
rows = {name: taught_by(name, target) for name, target in targets.items()}
mean_h = {name: statistics.mean(row["H"] for row in of_teacher) for name, of_teacher in rows.items()}
best.measured(max([*teachers, "all three"], key=mean_h.get))

# %% 08-gain-picture (run)
by_teacher = {name: [row["H"] for row in of_teacher] for name, of_teacher in rows.items()}
plots.seed_dots(by_teacher, zero_shot["H"], "H of base and novel, top-1 %", "Taught by …, five seeds each")

# %% [markdown] 08-gain-see (see)
r"""
The row *self* is the control: there is nobody to learn from, and nothing new to learn. A teacher is worth something by
as much as its row lies to the right of that one.
"""

# %% 08-price-run (run)
cost["all three"] = sum(cost[name] for name in teachers)
candidates = [*teachers, "all three"]
gains = [[h - zero_shot["H"] for h in by_teacher[name]] for name in candidates]
costs = [cost[name] for name in candidates]
front = kd.pareto_front(costs, [statistics.mean(gain) for gain in gains])
plots.pareto(candidates, costs, gains, front, ylabel="gain of the student in H, points")

# %% [markdown] 08-price-see (see)
r"""
A filled square is on the **Pareto front**: nothing that costs as little gains as much. A hollow one is beaten, by
something that is cheaper and at least as good. The small dots are seeds; where those of two teachers overlap, another
draw of pictures may turn their order.
"""

# %% 08-price (widget)
widgets.price(candidates, costs, gains, ylabel="gain of the student in H, points")

# %% [markdown] 08-price-moves (moves)
r"""
1. Lower the budget step by step: does the best teacher change, and what does the step cost in gain?
2. Lower it until nobody is left: the student on its own.
3. Set the budget between the large teacher and all three: who is best now?

Notice that the budget is paid while learning alone. Afterwards the student answers by itself, at its own cost, whoever
taught it.
"""

# %% [markdown] 08-cache-why (why)
r"""
## Paid once

The towers are frozen, so a picture's features never change: they can be kept. Without that, every epoch runs student
and teacher over every picture again. One epoch of each, timed; what differs is only where the features come from.
"""

# %% 08-cache-predict (predict)
faster = checks.predict(
    "faster", "How many times faster is an epoch with kept features, with the large teacher?", 1, 50, "times"
)
faster

# %% 08-cache-kept (run)
one_epoch = replace(recipe, epochs=1)


def epoch_seconds(loss):
    """The seconds that one epoch takes."""
    return kd.learn(kd.PromptLearner(student), loss, train.labels, 0, one_epoch).seconds


def kept(prompt, batch):
    return kd.symmetric_kl(on_train["large"][batch], kd.logits(features[batch], prompt(base_names), scale))


# %% 08-cache-again (run)
def looking_again(teacher):
    """The same loss, whose features are computed for every batch; texts are kept."""
    text = kd.encode_names(teacher, base_names, world.templates)

    def loss(prompt, batch):
        images = [train.images[i] for i in batch.tolist()]
        target = kd.logits(kd.encode_images(teacher, images), text, scale.to(teacher.device)).to(student.device)
        return kd.symmetric_kl(target, kd.logits(kd.encode_images(student, images), prompt(base_names), scale))

    return loss


# %% 08-cache-table (run)
with_features = epoch_seconds(kept)
seconds = {name: epoch_seconds(looking_again(teacher)) for name, teacher in teachers.items()}
faster.measured(seconds["large"] / with_features)
table = {}
for name, without in seconds.items():
    filling = (cost[name] + cost["student"]) * len(train) / 1000  # each looks once at every training picture
    values = (filling, recipe.epochs * with_features, recipe.epochs * without)
    table[name] = [f"{value:.1f} s" for value in values]
index = ["looking once", f"{recipe.epochs} epochs, kept", f"{recipe.epochs} epochs, looking again"]
pd.DataFrame(table, index=index).T

# %% [markdown] 08-cache-see (see)
r"""
*Looking once* is computed from the milliseconds above, the epochs from the one that was timed. Kept features make the
teacher's size matter once, for one look at each picture, however many epochs and seeds follow. With random crops, as in
the published recipe, each view has to be looked at; keep a few views, or pay.
"""

# %% 08-results (results)
table = {"zero-shot student": kd.summarise([zero_shot])}
for name, of_teacher in rows.items():
    table[f"taught by {name}"] = kd.summarise(of_teacher)
pd.DataFrame(table).T

# %% 08-signature (signature)
compared = {}
for name in ("small", "medium", "all three"):
    differences = {}
    for column in ("base", "novel", "H", "ECE"):
        large, other = ([row[column] for row in rows[who]] for who in ("large", name))
        differences[column] = kd.paired_interval(large, other)
    compared[name] = differences
plots.forest(compared, title="Against the large teacher's students")

# %% 08-verdict (verdict)
print(kd.claim("large against small teacher, H", by_teacher["small"], by_teacher["large"]))
print(kd.claim("large against medium teacher, H", by_teacher["medium"], by_teacher["large"]))
print(kd.claim("all three against the large teacher, H", by_teacher["large"], by_teacher["all three"]))
checks.summary()

# %% [markdown] 08-suspect-why (try)
r"""
## If the claims fall: a suspect, tested

The larger teachers' lead was measured on test pictures, and of those no student ever hears what a teacher says: it is
taught on the training pictures. Where teachers say the same, they teach the same. If they agree far more often on what
they teach than on the test, that is why the lead does not reach the student.
"""

# %% 08-suspect (try)
for name in ("small", "medium"):
    while_teaching = kd.top1_agreement(on_train[name], on_train["large"])
    on_the_test = kd.top1_agreement(on_test[name], on_test["large"])
    print(f"{name} and large say the same: training pictures {while_teaching:.1%}, test pictures {on_the_test:.1%}")

# %% [markdown] 08-try-why (try)
r"""
## Try it yourself

Another pair of teachers: change the first line and run the cell. Is the mixture better than its better half? With
`kd.load_world("emoji/activities")` in the second code cell the whole lesson runs on other drawings.
"""

# %% 08-try (try)
pair = ["medium", "large"]
rows["pair"] = taught_by(" and ".join(pair), kd.mix_teachers([on_train[name] for name in pair]))
print(kd.claim(f"{' and '.join(pair)} against {pair[-1]}, H", by_teacher[pair[-1]], [row["H"] for row in rows["pair"]]))

# %% [markdown] 08-limits (limits)
r"""
## When it fails

Three teachers are three points: they differ in size, in length of training and in what they saw, and no run here
tells these apart. Accuracy on the training pictures needs labels; without them, compare the teachers' entropies and
where they disagree. The milliseconds are this machine's.
"""

# %% [markdown] 08-recap (recap)
r"""
## Recap

A teacher is bought for what it knows of the training pictures, and paid for with one look at each. Whether a larger
one is worth it stands in the three sentences that the run printed.

1. When does a teacher's cost no longer matter?
2. Why are probabilities averaged in a mixture, and not logits?
3. Why is the student, as its own teacher, the right control?

<details><summary>Answers</summary>

1. Once the features are kept: the student answers alone afterwards, and never pays again.
2. Each teacher's probabilities sum to one, so their mean is a distribution in which all have one vote; logits have no
   common unit, and the one with the largest would outvote the others.
3. It costs nothing and knows nothing new: what is gained from it comes from the training itself, not from a teacher.

</details>
"""

# %% [markdown] 08-next (next)
r"""
Next: [09 · Breaking the teacher](09_breaking_the_teacher.ipynb) gives the teacher faults on purpose. Source: Mistretta et al.,
[KDPL](https://arxiv.org/abs/2407.03056), 2024, whose teacher is a much larger CLIP.
"""
