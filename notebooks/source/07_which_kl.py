# %% [markdown] 07-title (title)
r"""
# 07 · Which KL? Is symmetric better, or is it noise?

About 30 minutes to read and run, 15 for the exercise; one or two minutes of computing. Needs:
[04](04_distillation.ipynb), [06](06_class_agnostic.ipynb).
"""

# %% 07-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 07-cold (cold-open)
r"""
## How far apart are these two?

Two models look at one picture. "How far apart" has two answers here, depending on whose surprise is counted.
"""

# %% 07-world (setup)
from dataclasses import replace

import pandas as pd

from kdpl_utils import checks
from kdpl_utils.evaluate import entropy, kl_bits

world = replace(kd.load_world("emoji"), shifts={})
student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
scale, dictionary = student.scale, world.dictionary
base_names = [world.classnames[c] for c in world.base]
train = kd.of_classes(world.train, world.base)
features = kd.encode_images(student, train.images)  # (N, D)
teacher_features = kd.encode_images(teacher, train.images).to(student.device)
class_text = kd.encode_names(teacher, base_names, world.templates).to(student.device)
teacher_logits = kd.logits(teacher_features, class_text, scale)  # (N, C)
dictionary_text = kd.encode_names(teacher, dictionary, world.templates).to(student.device)
dictionary_logits = kd.logits(teacher_features, dictionary_text, scale)  # (N, thousands)

# %% 07-cold-picture (cold-open)
before = kd.logits(features, kd.encode_names(student, base_names, world.templates), scale)
forward, reverse = kl_bits(teacher_logits, before), kl_bits(before, teacher_logits)
shown = int((forward - reverse).abs().argmax())
plots.distributions(
    train.images[shown],
    base_names,
    {"teacher": teacher_logits[shown].softmax(-1).cpu(), "student before": before[shown].softmax(-1).cpu()},
    label=base_names[train.labels[shown]],
    title=f"Forward KL {forward[shown]:.1f} bits, reverse KL {reverse[shown]:.1f} bits",
)

# %% [markdown] 07-objectives (objectives)
r"""
You will be able to **declare** a comparison before it is run, **choose** a setting on pictures that the verdict does
not use, **compute** an interval over paired seeds, and **say** what an undecided claim means.

Three claims to test: *with class names the symmetric KL ends higher than the better one-sided KL*; *so it does without
class names*; and the control, which has to find nothing: *the symmetric KL against itself with other seeds.*
"""

# %% [markdown] 07-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “The test, once”: everything has been chosen on val. Collect bets before
the test cell is run, and do not run it twice.
"""

# %% [markdown] 07-declare-why (why)
r"""
## Written down before anything runs

With enough comparisons, one of them looks good by luck. So the question, the settings, the measure, the seeds and
which pictures decide are fixed first. This is a **pre-registration**. Nothing below changes it; what was not declared
here is shown, but not claimed.

A weight alpha mixes the directions: 0 is the reverse KL, 1 the forward, and one half the published, symmetric one.
"""

# %% 07-declare-run (run)
declared = {
    "question": "does the symmetric KL end higher than the better one-sided KL?",
    "alpha": {"reverse": 0.0, "symmetric": 0.5, "forward": 1.0},
    "settings": ["known names", "class-agnostic"],
    "measure": "H of base and novel",
    "seeds": range(5),
    "other seeds": range(5, 10),  # of the control
    "chosen on": "world.val, drawn in a style of its own",
    "judged on": "world.test, once",
    "verdict": "95 % interval of Student's t over paired seeds; one that contains 0: no difference seen",
}
for key, value in declared.items():
    print(f"{key:12} {list(value) if isinstance(value, range) else value}")

# %% [markdown] 07-interval-why (why)
r"""
## What a pair is worth

Seed 3 draws the same pictures in the same order for each loss. A hard draw lowers all of them, and that part cancels
in the difference. What is left are $n$ differences, with a mean $\bar d$ and a standard deviation $s$. The interval of
their mean, by **Student's t**, is

$$\bar d \pm t_{n-1} \cdot \frac{s}{\sqrt{n}}$$

where $t_{n-1}$ is a number from a table: the fewer the differences, the larger it is, and the wider the interval. Of
intervals made by this rule, nineteen in twenty hold the true mean.
"""

# %% [markdown] 07-interval-task (task)
r"""
### Exercise: `paired_interval`

From the scores of two methods on the same n seeds, (n,) and (n,), to the mean of after − before and the ends of its
interval by the formula above. After `from scipy import stats`, its $t_{n-1}$ is `stats.t.ppf(0.975, n - 1)`. A standard
deviation of $n$ differences divides by $n-1$.
"""


# %% 07-interval (exercise)
def paired_interval(before, after):
    """Scores (n,), (n,) of the same seeds → (mean, low, high) of after − before."""
    ...


paired_interval = checks.paired_interval(paired_interval)


# %% 07-interval-solution (solution)
def paired_interval(before, after):
    """Scores (n,), (n,) of the same seeds → (mean, low, high) of after − before."""
    from scipy import stats

    difference = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    n = len(difference)
    mean = difference.mean().item()
    half_width = stats.t.ppf(0.975, n - 1) * difference.std().item() / n**0.5
    return mean, mean - half_width, mean + half_width


paired_interval = checks.paired_interval(paired_interval)

# %% [markdown] 07-interval-instructor (instructor)
r"""
**For the instructor.** Ask what the interval is *of*: other draws of shots from these pictures. It says nothing of
other classes, other styles, other models. Ask, too, what would happen to it with a hundred seeds.
"""

# %% [markdown] 07-train-why (why)
r"""
## Every run, looked at on val

Three weights, two settings, five seeds each, and the control. Class-agnostic, the teacher picks as many names for a
batch as there are classes, as in lesson 06. Until the last section only `world.val` is looked at.
"""

# %% 07-train-predict (predict)
spread = checks.predict(
    "spread", "With one loss, how far apart are the best and the worst of five seeds, in H on val?", 0, 20, "points"
)
spread


# %% 07-train-losses (run)
def known_names(prompt, batch, alpha):
    return kd.symmetric_kl(teacher_logits[batch], kd.logits(features[batch], prompt(base_names), scale), alpha)


def class_agnostic(prompt, batch, alpha):
    picked = kd.select_classes(dictionary_logits[batch], len(base_names))
    names = [dictionary[i] for i in picked.tolist()]
    return kd.symmetric_kl(dictionary_logits[batch][:, picked], kd.logits(features[batch], prompt(names), scale), alpha)


# %% 07-train-all (run)
loss_of = {"known names": known_names, "class-agnostic": class_agnostic}
recipe = kd.Recipe(**world.recipe)


def train_all(setting, alpha, seeds):
    """A prompt for each seed."""
    learned = [kd.PromptLearner(student) for _ in seeds]
    for prompt, seed in zip(learned, seeds):
        kd.learn(prompt, lambda prompt, batch: loss_of[setting](prompt, batch, alpha), train.labels, seed, recipe)
    return learned


# %% 07-train-run (run)
prompts = {}
for setting in declared["settings"]:
    for name, alpha in declared["alpha"].items():
        prompts[setting, name] = train_all(setting, alpha, declared["seeds"])
prompts["known names", "other seeds"] = train_all("known names", 0.5, declared["other seeds"])

# %% 07-train-val (run)
val_world = replace(world, test=world.val)
val_features = kd.test_features(student, val_world)
on_val = {
    run: [kd.scores(val_features, val_world, prompt, scale)["H"] for prompt in learned]
    for run, learned in prompts.items()
}
symmetric_on_val = on_val["known names", "symmetric"]
spread.measured(max(symmetric_on_val) - min(symmetric_on_val))

# %% 07-train-picture (run)
by_alpha = {
    setting: [on_val[setting, name] for name in declared["alpha"]] for setting in declared["settings"]
}  # setting → (alphas, seeds)
plots.ablation(
    list(declared["alpha"].values()), by_alpha, ylabel="H on val, top-1 %", title="Every seed at every weight"
)

# %% [markdown] 07-train-see (see)
r"""
A thin line is one seed. Where the lines run side by side, the draw of pictures matters more than the loss, and pairing
pays; where they cross, the losses differ from seed to seed.
"""

# %% [markdown] 07-shape-why (why)
r"""
## What each direction teaches

The forward KL punishes a student that gives little to a name the teacher holds possible: it spreads. The reverse one
punishes what the student gives to names that the teacher excludes: it may settle on one. Is that to be seen in the
student's **entropy**?
"""

# %% 07-shape-predict (predict)
sure = checks.predict(
    "surer", "Which student is surer of its answers in the end?", options=["reverse", "forward", "no difference seen"]
)
sure

# %% 07-shape-run (run)
val_base = val_features.base[0]


def mean_entropy(prompt):
    """In nats, over the base pictures of val."""
    with torch.no_grad():
        return entropy(kd.logits(val_base, prompt(base_names), scale).softmax(-1)).mean().item()


entropies = {name: [mean_entropy(p) for p in prompts["known names", name]] for name in declared["alpha"]}
difference, low, high = paired_interval(entropies["reverse"], entropies["forward"])
sure.measured("reverse" if low > 0 else "forward" if high < 0 else "no difference seen")
for name, values in entropies.items():
    print(f"{name}: {sum(values) / len(values):.2f} nats")
print(f"forward − reverse: {difference:+.2f} [{low:+.2f}, {high:+.2f}] nats")

# %% [markdown] 07-choose-why (why)
r"""
## The opponent is chosen on val

The symmetric KL has to beat the better of the two one-sided ones. Which one that is, val decides, and the test has no
say: whoever picks the opponent on the test picks its luck, too.
"""

# %% 07-choose-predict (predict)
chosen = checks.predict(
    "chosen",
    "With class names, which weight has the highest mean H on val?",
    options=["reverse", "symmetric", "forward"],
)
chosen

# %% 07-choose-run (run)
mean_on_val = {run: sum(values) / len(values) for run, values in on_val.items()}
opponent = {}
for setting in declared["settings"]:
    opponent[setting] = max(("reverse", "forward"), key=lambda name: mean_on_val[setting, name])
    print(f"{setting}: the better one-sided KL on val is the {opponent[setting]} one")
chosen.measured(max(declared["alpha"], key=lambda name: mean_on_val["known names", name]))

# %% [markdown] 07-test-why (why)
r"""
## The test, once

Now every prompt names the test pictures. This cell is the only one that looks at them.
"""

# %% 07-results (results)
tests = kd.test_features(student, world)
on_test = {run: [kd.scores(tests, world, prompt, scale) for prompt in learned] for run, learned in prompts.items()}
zero_shot = kd.scores(tests, world, lambda names: kd.encode_names(student, names, world.templates), scale)
table = {"zero-shot student": kd.summarise([zero_shot])}
for (setting, name), rows in on_test.items():
    table[f"{setting}, {name}"] = kd.summarise(rows)
pd.DataFrame(table).T.drop(columns=["base shifted", "novel shifted"])


# %% 07-signature (signature)
def against_symmetric(name):
    """Each setting's and column's paired difference of a loss from the symmetric one."""
    pairs = {}
    for setting in declared["settings"]:
        for column in ("base", "novel", "H"):
            symmetric = [row[column] for row in on_test[setting, "symmetric"]]
            pairs[f"{setting}, {column}"] = paired_interval(symmetric, [row[column] for row in on_test[setting, name]])
    return pairs


compared = {name: against_symmetric(name) for name in ("reverse", "forward")}
plots.forest(compared, title="One-sided against symmetric, on the test")

# %% 07-verdict (verdict)
h = {run: [row["H"] for row in rows] for run, rows in on_test.items()}
for setting in declared["settings"]:
    what = f"symmetric against {opponent[setting]}, {setting}, H"
    print(kd.claim(what, h[setting, opponent[setting]], h[setting, "symmetric"]))
print(
    kd.claim(
        "control, symmetric against its other seeds, H", h["known names", "other seeds"], h["known names", "symmetric"]
    )
)
checks.summary()

# %% [markdown] 07-undecided-why (try)
r"""
## If a claim falls, or nothing is seen

*Lower* refutes the claim for these pictures and models, and says so as firmly as *higher* would. *No difference seen*
is not "they are equal": it bounds the difference by the ends of the interval. A suspect is that five seeds are few.
With the spread that was measured, how many would a difference of one point have needed?
"""

# %% 07-undecided (try)
for setting in declared["settings"]:
    difference, low, high = paired_interval(h[setting, opponent[setting]], h[setting, "symmetric"])
    half_width = (high - low) / 2
    # An interval shrinks with the root of the number of seeds; for many seeds the quantile is a little smaller yet.
    needed = max(2, round(len(declared["seeds"]) * half_width**2))
    print(f"{setting}: five seeds see what is beyond ±{half_width:.1f} points; for ±1 point about {needed} seeds")

# %% [markdown] 07-try-why (try)
r"""
## Try it yourself

Any other weight between zero and one: change it, and look at val, not at the test. What you find here was not declared, so it is an idea
for the next pre-registration and no result.
"""

# %% 07-try (try)
my_alpha = 0.75
mine = [
    kd.scores(val_features, val_world, p, scale)["H"] for p in train_all("known names", my_alpha, declared["seeds"])
]
print(kd.claim(f"alpha {my_alpha} against symmetric, H on val", on_val["known names", "symmetric"], mine))

# %% [markdown] 07-limits (limits)
r"""
## When it fails

One recipe serves all three losses, and it was chosen for labels: a loss with larger gradients takes larger steps, which
here cannot be told from being the better loss. The interval speaks of draws of pictures; other classes, another gap
between teacher and student, or a teacher that is surer of itself may turn the order.
"""

# %% [markdown] 07-recap (recap)
r"""
## Recap

Whether symmetric is better here stands in the first two sentences that the run printed, and how large chance alone can
look in the third. What made them worth reading was fixed before: measure, seeds, and pictures that decide.

1. Why is the difference taken within a seed?
2. Why does val choose the opponent, and not the test?
3. What does "no difference seen" leave possible?

<details><summary>Answers</summary>

1. Both losses saw the same pictures in the same order: what a lucky draw adds to both cancels.
2. The best of several on the test is partly the luckiest on the test, and the comparison would count that luck.
3. Every difference inside the interval, 0 among them, and small ones of either sign.

</details>
"""

# %% [markdown] 07-next (next)
r"""
Next: [08 · Which teacher?](08_which_teacher.ipynb). Source: Mistretta et al.,
[KDPL](https://arxiv.org/abs/2407.03056), 2024, its ablation of the loss.
"""
