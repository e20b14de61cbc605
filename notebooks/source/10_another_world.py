# %% [markdown] 10-title (title)
r"""
# 10 · Another world: what if there is no gap, or the teacher hardly knows the domain?

About 25 minutes to read and run, 10 for the exercise; about two minutes of computing. Needs:
[05](05_kdpl.ipynb), [06](06_class_agnostic.ipynb).
"""

# %% 10-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 10-cold (cold-open)
r"""
## The same thing twice

The same class once in ink and once in colour, and what the student says of both. It was pretrained on colour.
"""

# %% 10-world (setup)
import pandas as pd

from kdpl_utils import checks
from kdpl_utils.worlds.emoji import GROUPS

worlds = {}
for group in GROUPS:
    for kind in ("emoji", "emoji-colour"):
        worlds[f"{kind}/{group}"] = kd.load_world(f"{kind}/{group}")
first = worlds["emoji/food-drink"]
student, teacher = kd.load_vlm(*first.student), kd.load_vlm(*first.teacher)
scale = student.scale

# %% 10-cold-picture (cold-open)
names = [first.classnames[c] for c in first.base]
text = kd.encode_names(student, names, first.templates)
pair = [kd.of_classes(worlds[f"{kind}/food-drink"].test, first.base).images[0] for kind in ("emoji", "emoji-colour")]
answers = kd.logits(kd.encode_images(student, pair), text, scale).softmax(-1).cpu()
said = [names[i] for i in answers.argmax(-1)]
plots.picture_row(pair, [f"student says: {name}" for name in said], f"{names[0]}: ink and colour")

# %% [markdown] 10-objectives (objectives)
r"""
You will be able to **predict** from two zero-shot accuracies whether distillation can pay, **measure** the gap between
teacher and student over twelve data sets, and **find** the names that a dictionary lacks.

The claim to test: *the further the teacher is ahead of the student, the more KDPL gains; where it is not ahead,
nothing is gained.* Control: the same classes in colour, where the student is at home.
"""

# %% [markdown] 10-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Words that are missing”: gain has been set against gap. What follows is
about dictionaries and needs lesson 06.
"""

# %% [markdown] 10-gap-why (why)
r"""
## The gap

Before anything is learned: how many pictures of base classes does each name rightly? The **gap** is the teacher's
share minus the student's. Twelve data sets: six groups of drawings, each in ink and in colour.
"""

# %% 10-gap-predict (predict)
guess = checks.predict(
    "gap", "In how many of the six colour worlds is the teacher ahead by ten points or more?", 0, 6, "", step=1
)
guess


# %% 10-gap-run (run)
def base_features(vlm, world, split):
    """Unit features (N, D) of the pictures of base classes, and their labels (N,)."""
    part = kd.of_classes(split, world.base)
    return kd.encode_images(vlm, part.images), part.labels.to(vlm.device)


def share_right(vlm, world, features, labels):
    """Zero-shot top-1 among base names, in per cent."""
    base_names = [world.classnames[c] for c in world.base]
    text = kd.encode_names(vlm, base_names, world.templates)
    return 100 * kd.accuracy(kd.logits(features, text, vlm.scale), labels)


rows, tests = {}, {}
for name, world in worlds.items():
    tests[name] = base_features(student, world, world.test)
    rows[name] = {
        "student": share_right(student, world, *tests[name]),
        "teacher": share_right(teacher, world, *base_features(teacher, world, world.test)),
    }

# %% 10-gap-table (run)
gaps = {name: row["teacher"] - row["student"] for name, row in rows.items()}
guess.measured(sum(gap >= 10 for name, gap in gaps.items() if name.startswith("emoji-colour")))
pd.DataFrame(rows).T.assign(gap=pd.Series(gaps)).round(1)

# %% [markdown] 10-learn-why (why)
r"""
## What is gained

KDPL on each data set, two seeds, the recipe of lesson 05 with four pictures a class, so that twelve fit into minutes.
Nothing else changes from one to the next.
"""

# %% 10-learn-predict (predict)
sign = checks.predict(
    "colour", "In colour, KDPL's gain on base classes is, on average …", options=["above 0", "below 0"]
)
sign


# %% 10-learn-pictures (run)
def pictures_to_learn(name):
    """Labels (N,), the student's features (N, D) and the teacher's logits (N, C) of eight pictures a base class."""
    world = worlds[name]
    train = kd.of_classes(world.train, world.base)
    train = train.subset(kd.few_shot(train.labels, 8, seed=0))  # a seed draws four of these eight
    base_names = [world.classnames[c] for c in world.base]
    seen = kd.encode_images(teacher, train.images).to(scale.device)
    teacher_text = kd.encode_names(teacher, base_names, world.templates).to(scale.device)
    return train.labels, kd.encode_images(student, train.images), kd.logits(seen, teacher_text, scale)


taught = {name: pictures_to_learn(name) for name in worlds}


# %% 10-learn-run (run)
def gains(name, seeds=2):
    """KDPL's gain over zero-shot on base test pictures, a number for each seed."""
    world = worlds[name]
    train_labels, features, target = taught[name]
    base_names = [world.classnames[c] for c in world.base]

    def kdpl(prompt, batch):
        return kd.symmetric_kl(target[batch], kd.logits(features[batch], prompt(base_names), scale))

    recipe = kd.Recipe(**world.recipe)
    test, labels = tests[name]
    prompts = [kd.PromptLearner(student) for _ in range(seeds)]
    for seed, prompt in enumerate(prompts):
        kd.learn(prompt, kdpl, train_labels, seed, recipe, shots=4)
    after = [100 * kd.accuracy(kd.logits(test, prompt(base_names), scale), labels) for prompt in prompts]
    return [value - rows[name]["student"] for value in after]


# %% 10-learn-all (run)
gained = {name: gains(name) for name in worlds}
in_colour = [gain for name, row in gained.items() if name.startswith("emoji-colour") for gain in row]
sign.measured("above 0" if sum(in_colour) > 0 else "below 0")

# %% 10-learn-picture (run)
kinds = {name: "in colour" if name.startswith("emoji-colour") else "in ink" for name in worlds}
groups = {name: name.split("/")[1] for name in worlds}
x = "teacher − student before, zero-shot, points"
plots.gain_vs_teacher(gaps, gained, x, kinds, groups)

# %% [markdown] 10-learn-see (see)
r"""
Each diamond is a data set, the small dots its seeds. A line from lower left to upper right would be the claim. How near
the twelve come to such a line, their **rank correlation** says: one if the data set with the larger gap always has the larger
gain, zero if the two orders have nothing to do with each other, below zero if they are rather opposite.
"""

# %% [markdown] 10-nearest-why (why)
r"""
## Words that are missing

Class-agnostic learning needs the domain's words. If a name is not in the dictionary, the best that can be picked is
the nearest that is there: nearest for the text tower, by cosine.
"""

# %% [markdown] 10-nearest-task (task)
r"""
### Exercise: `nearest_names`

From text features of queries (Q, D) and of a dictionary (V, D), of any length, to the indices (Q, k) of the k nearest
names by cosine.
"""


# %% 10-nearest (exercise)
def nearest_names(query, dictionary, k):
    """The k nearest names of each query; (Q, D), (V, D) → (Q, k) indices."""
    ...


nearest_names = checks.nearest_names(nearest_names)


# %% 10-nearest-solution (solution)
def nearest_names(query, dictionary, k):
    """The k nearest names of each query; (Q, D), (V, D) → (Q, k) indices."""
    query = torch.nn.functional.normalize(query, dim=-1)
    dictionary = torch.nn.functional.normalize(dictionary, dim=-1)
    return (query @ dictionary.T).topk(k).indices


nearest_names = checks.nearest_names(nearest_names)

# %% 10-nearest-predict (predict)
near = checks.predict(
    "near", "With the true names taken out, how near is the nearest other name on average?", 0, 1, "cosine"
)
near

# %% 10-nearest-run (run)
others = [name for name in first.dictionary if name not in set(first.classnames)]
base_names = [first.classnames[c] for c in first.base]
query, among = (kd.encode_names(teacher, asked, first.templates) for asked in (base_names, others))
nearest = nearest_names(query, among, 3)
near.measured((query @ among.T).amax(-1).mean())
table = {name: [others[i] for i in row] for name, row in zip(base_names[:10], nearest[:10].tolist())}
pd.DataFrame(table, index=["nearest", "second", "third"]).T

# %% [markdown] 10-nearest-see (see)
r"""
Some of these are other words for the same thing and would do; some only sound alike. The second kind is what a student
would be taught if the true names were missing.
"""

# %% 10-signature (signature)
mean_gain = {name: sum(row) / len(row) for name, row in gained.items()}
pairs = pd.DataFrame({"gap": gaps, "gain": mean_gain})
pairs["world"] = ["colour" if name.startswith("emoji-colour") else "ink" for name in pairs.index]
pairs.groupby("world")[["gap", "gain"]].mean().round(1)

# %% 10-verdict (verdict)
correlation = pairs["gap"].corr(pairs["gain"], method="spearman")
print(f"rank correlation of gap and gain over {len(pairs)} data sets: {correlation:+.2f}")
for kind, part in (("ink", pairs[pairs.world == "ink"]), ("colour", pairs[pairs.world == "colour"])):
    gain, low, high = kd.paired_interval([0.0] * len(part), part["gain"].tolist())
    word = "gained" if low > 0 else "lost" if high < 0 else "no difference seen"
    print(f"{kind}: {gain:+.1f} [{low:+.1f}, {high:+.1f}] points over {len(part)} groups: {word}")
checks.summary()

# %% [markdown] 10-suspect-why (try)
r"""
## If the claim falls: a suspect, tested

A rank correlation near one would be the claim; near zero or below, it falls. A suspect: the gap was measured on test
pictures, and the teacher teaches others, in styles that it may know better or worse. What counts may be how far it is
ahead on the pictures that it *teaches*. Those labels are there, too, so the suspect can be asked: a higher correlation
than before convicts it, a lower one acquits it.
"""

# %% 10-suspect (try)
where_taught = {}
for name, (train_labels, features, target) in taught.items():
    text = kd.encode_names(student, [worlds[name].classnames[c] for c in worlds[name].base], worlds[name].templates)
    before = kd.accuracy(kd.logits(features, text, scale), train_labels)
    where_taught[name] = 100 * (kd.accuracy(target, train_labels) - before)
pairs["gap where taught"] = pd.Series(where_taught)
for gap in ("gap", "gap where taught"):
    print(f"rank correlation of {gap} and gain: {pairs[gap].corr(pairs['gain'], method='spearman'):+.2f}")
pairs.groupby("world")[["gap", "gap where taught", "gain"]].mean().round(1)

# %% [markdown] 10-try-why (try)
r"""
## Try it yourself

Another teacher (`first.teachers` lists them), other groups: on which data sets would you still distil?
"""

# %% 10-try (try)
mine = kd.load_vlm(*first.teachers[0])
for name in ("emoji/activities", "emoji-colour/activities"):
    ahead = share_right(mine, worlds[name], *base_features(mine, worlds[name], worlds[name].test))
    ahead -= rows[name]["student"]
    print(f"{name}: {mine.name} is {ahead:+.1f} points ahead")

# %% [markdown] 10-limits (limits)
r"""
## When it fails

A gap can only be measured with labels, or guessed: a student that is unsure where its teacher is sure is a sign of one,
no proof. Twelve data sets of one kind of drawings say nothing about photographs; the mechanism is what carries over.
"""

# %% [markdown] 10-recap (recap)
r"""
## Recap

What can be gained is bounded by what the teacher is ahead. Where the student is at home, distillation has little to
give; where the teacher guesses, it has nothing to give.

1. Why can a larger teacher be useless for a domain?
2. Which sign of a gap needs no label?
3. Why is a missing word worse for class-agnostic learning than a missing picture?

<details><summary>Answers</summary>

1. If it knows the domain no better than the student, its distribution holds nothing that the student lacks.
2. The student's entropy is high where the teacher's is low, and their first answers differ.
3. A missing picture is one example less; with a missing word every picture of the class is taught a wrong name.

</details>
"""

# %% [markdown] 10-next (next)
r"""
Next: [11 · Your own images](11_your_images.ipynb). Source: Mistretta et al.,
[KDPL](https://arxiv.org/abs/2407.03056), 2024, its domain-generalisation and cross-dataset tables.
"""
