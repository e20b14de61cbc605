# %% [markdown] 09-title (title)
r"""
# 09 · Breaking the teacher: does a badly calibrated teacher teach badly?

About 25 minutes to read and run, 10 for the exercise; a minute or two of computing. Needs:
[02](02_wording.ipynb), [04](04_distillation.ipynb), [05](05_kdpl.ipynb).
"""

# %% 09-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 09-cold (cold-open)
r"""
## One opinion, said in three ways

A picture of which a teacher is not sure, and three ways of saying so: boldly, timidly, and as it is. T is the
temperature that its logits were divided by, as in lesson 02. The order of the names is the same in all three.
"""

# %% 09-world (setup)
from dataclasses import replace

import pandas as pd

from kdpl_utils import checks, widgets

world = kd.load_world("emoji")
student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
base_names = [world.classnames[c] for c in world.base]
train = kd.of_classes(world.train, world.base)
scale = student.scale
labels = train.labels.to(student.device)
features = kd.encode_images(student, train.images)  # (N, D)
teacher_features = kd.encode_images(teacher, train.images).to(student.device)
teacher_text = kd.encode_names(teacher, base_names, world.templates).to(student.device)
teacher_logits = kd.logits(teacher_features, teacher_text, scale)  # (N, C), at the student's scale as published
temperatures = {"T = 1/4": 0.25, "T = 4": 4.0, "teacher": 1.0}

# %% 09-cold-picture (cold-open)
undecided = int(kd.entropy(teacher_logits.softmax(-1)).argmax())
said = {}
for name, temperature in temperatures.items():
    said[name] = (teacher_logits[undecided] / temperature).softmax(-1).cpu()
plots.distributions(
    train.images[undecided],
    base_names,
    said,
    label=base_names[train.labels[undecided]],
    title="The training picture of which the teacher is least sure, at three temperatures",
)

# %% [markdown] 09-objectives (objectives)
r"""
You will be able to **break** a teacher in two ways, in what it says and in how surely, **measure** what its students
inherit, **find** the temperature at which it is honest, and **see** a careless loss die.

Three claims to test, printed at the end by the run: *a surer teacher (T = 1/4) makes students whose ECE is higher*; *a
less sure one (T = 4) makes students whose H is lower*; and the control, whose certainty is left alone and whose answers
are not: *with a fifth of them shuffled, H is lower.*
"""

# %% [markdown] 09-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “What the students inherit”: the teachers are broken, and no student has
been trained. Ask which fault is worse, and keep the answers for the verdict.
"""

# %% [markdown] 09-perturb-why (why)
r"""
## Two ways to break a teacher

Divide its logits by a **temperature**: above one it is less sure, below one surer, and no first answer changes. Or add
**noise** to them, and it is less right. The two are different faults, and only the first is one of calibration.
"""

# %% 09-perturb-predict (predict)
changed = checks.predict("changed", "Of how many training pictures does the temperature 4 change the first answer?")
changed

# %% [markdown] 09-perturb-task (task)
r"""
### Exercise: `perturb`

From logits (N, C) to logits (N, C): add noise whose standard deviation is `noise` times that of all the logits, drawn
by the seed, then divide by the temperature.
"""


# %% 09-perturb (exercise)
def perturb(logits, temperature=1.0, noise=0.0, seed=0):
    """A teacher made less sure, or less right; (N, C) → (N, C) logits."""
    ...


perturb = checks.perturb(perturb)


# %% 09-perturb-solution (solution)
def perturb(logits, temperature=1.0, noise=0.0, seed=0):
    """A teacher made less sure, or less right; (N, C) → (N, C) logits."""
    generator = torch.Generator().manual_seed(seed)
    epsilon = torch.randn(logits.shape, generator=generator).to(logits)
    return (logits + noise * logits.std() * epsilon) / temperature


perturb = checks.perturb(perturb)

# %% [markdown] 09-perturb-instructor (instructor)
r"""
**For the instructor.** Ask why noise on probabilities would be a third fault: rows that do not sum to one are no
distribution, and the KL of one can be below zero.
"""


# %% 09-broken-run (run)
def shuffled(logits, share, seed=0):
    """The logits in which a share of the pictures, drawn by a seed, have one another's rows."""
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    some = order[: round(share * len(logits))].to(logits.device)
    mixed = logits.clone()
    mixed[some] = logits[some.roll(1)]
    return mixed


targets = {
    "T = 1/4": perturb(teacher_logits, 0.25),
    "T = 4": perturb(teacher_logits, 4.0),
    "a fifth shuffled": shuffled(teacher_logits, 0.2),
    "teacher": teacher_logits,
}
first_answers = {name: logits.argmax(-1) for name, logits in targets.items()}
changed.measured(100 * (first_answers["T = 4"] != first_answers["teacher"]).double().mean())

# %% [markdown] 09-honest-why (why)
r"""
## Which of them is honest?

ECE is the mean gap between how sure a model says it is and how often it is right. Labels judge that here; no student
sees them.
"""

# %% 09-honest-predict (predict)
honest = checks.predict(
    "honest", "Which of the four has the lowest ECE on the training pictures?", options=list(targets)
)
honest

# %% 09-honest-run (run)
table, errors = {}, {}
for name, logits in targets.items():
    probs = logits.softmax(-1)
    errors[name] = 100 * kd.expected_calibration_error(probs, labels)
    right, nats = 100 * kd.accuracy(logits, labels), kd.entropy(probs).mean()
    table[name] = [f"{right:.1f}", f"{errors[name]:.1f}", f"{100 * probs.amax(-1).mean():.1f}", f"{nats:.2f}"]
honest.measured(min(targets, key=errors.get))
pd.DataFrame(table, index=["top-1 %", "ECE %", "mean confidence %", "entropy, nats"]).T

# %% 09-honest-picture (run)
curves = {name: kd.reliability_curve(logits.softmax(-1), labels) for name, logits in targets.items()}
plots.reliability(curves, "Four teachers on the training pictures")

# %% [markdown] 09-honest-see (see)
r"""
Above the diagonal a teacher is right more often than it says, below it less often. The temperature moves points to the
left and right and leaves the share of right answers alone; shuffling lowers them. Is the teacher as it is the honest
one? It takes the student's scale, as published, and nobody has asked whether that scale suits it.
"""

# %% 09-bench (widget)
widgets.calibration_bench({"large": teacher_logits}, labels)

# %% [markdown] 09-bench-moves (moves)
r"""
1. Move the temperature from its left end to its right end: where is the ECE lowest, and what does the entropy do?
2. Set the temperature back to one and raise the noise to its right end: what happens to the share of right answers?
3. Leave the noise there, and look for the temperature at which the teacher is honest again.

Notice that the third move leads to another temperature than the first: a teacher that knows less has to be less sure.
"""

# %% [markdown] 09-train-why (why)
r"""
## What the students inherit

KDPL with each of the four, five seeds, the recipe of lesson 05. The students are judged as they are, at their own
scale, on test pictures: top-1 of base and novel, their H, and the ECE.
"""

# %% 09-train-predict (predict)
best = checks.predict("best", "Whose students reach the highest mean H?", options=list(targets))
best

# %% 09-train-run (run)
recipe = kd.Recipe(**world.recipe)
seeds, prompts = range(5), {}
tests = kd.test_features(student, world)
zero_shot = kd.scores(tests, world, lambda names: kd.encode_names(student, names, world.templates), scale)


def taught_by(name, loss):
    """The rows of five students that learned with a loss(prompt, batch)."""
    prompts[name] = [kd.PromptLearner(student) for _ in seeds]
    for prompt, seed in zip(prompts[name], seeds):
        kd.learn(prompt, loss, train.labels, seed, recipe)
    return [kd.scores(tests, world, prompt, scale) for prompt in prompts[name]]


# %% 09-train-all (run)
def kdpl(target):
    """KDPL's loss with the logits (N, C) of a teacher."""
    return lambda prompt, batch: kd.symmetric_kl(target[batch], kd.logits(features[batch], prompt(base_names), scale))


rows = {name: taught_by(name, kdpl(target)) for name, target in targets.items()}


# %% 09-train-picture (run)
def column_of(of_teacher, column):
    return [row[column] for row in of_teacher]


mean_h = {name: sum(column_of(of_teacher, "H")) / len(seeds) for name, of_teacher in rows.items()}
best.measured(max(mean_h, key=mean_h.get))
plots.seed_dots(
    {name: column_of(of_teacher, "ECE") for name, of_teacher in rows.items()},
    zero_shot["ECE"],
    "ECE of the student on test pictures, %",
    "Taught by …, five seeds each",
)

# %% [markdown] 09-train-see (see)
r"""
Compare with the ECE of the teachers above: is it inherited? And look at both measures before you praise a student: one
that knows nothing and says so is calibrated, and useless. H stands in the table and the figure below.
"""

# %% [markdown] 09-half-why (why)
r"""
## Where a careless loss dies

In float16 a surer teacher is a more dangerous one: more of its probabilities round to zero, and the logarithm of zero
is not finite. `naive_kl` is the formula as one types it, from lesson 04; beside it is the library's, which takes
`log_softmax` in float32. Both get logits in float16, for one epoch.
"""

# %% 09-half-predict (predict)
dead = checks.predict("dead", "For how many pictures is the naive KL of the surest teacher not finite in float16?")
dead


# %% 09-half-run (run)
def naive_kl(teacher_logits, student_logits):
    """The formula as it stands."""
    t, s = teacher_logits.softmax(-1), student_logits.softmax(-1)
    return (t * (t.log() - s.log())).sum(-1).mean()


def steps_survived(loss, target):
    """How many steps of one epoch a loss gets through on logits in float16."""
    seen = []

    def in_half(prompt, batch):
        seen.append(batch)
        return loss(target[batch].half(), kd.logits(features[batch], prompt(base_names), scale).half())

    try:
        kd.learn(kd.PromptLearner(student), in_half, train.labels, 0, replace(recipe, epochs=1))
    except FloatingPointError:  # kd.fit stops in front of a step that is not finite
        return len(seen) - 1
    return len(seen)


# %% 09-half-table (run)
before = kd.logits(features, kd.encode_names(student, base_names, world.templates), scale)
table = {}
for name, target in targets.items():
    pairs = zip(target.half().split(1), before.half().split(1))
    broken = [not naive_kl(t, s).isfinite() for t, s in pairs]
    share = 100 * sum(broken) / len(broken)
    survived = [steps_survived(loss, target) for loss in (naive_kl, kd.forward_kl)]
    table[name] = [f"{share:.1f}", *survived]
dead.measured(float(table["T = 1/4"][0]))
pd.DataFrame(table, index=["not finite, % of pictures", "naive: steps survived", "careful: steps survived"]).T

# %% [markdown] 09-half-see (see)
r"""
One picture in a batch is enough. What the mean hides, the count shows: the loop that stops says at which step, and one
that does not stop would go on with a prompt full of NaN.
"""

# %% 09-results (results)
table = {"zero-shot student": kd.summarise([zero_shot])}
for name, of_teacher in rows.items():
    table[f"taught by {name}"] = kd.summarise(of_teacher)
pd.DataFrame(table).T

# %% 09-signature (signature)
compared = {}
for name in ("T = 1/4", "T = 4", "a fifth shuffled"):
    compared[name] = {
        column: kd.paired_interval(column_of(rows["teacher"], column), column_of(rows[name], column))
        for column in ("base", "novel", "H", "ECE")
    }
plots.forest(compared, title="Against the teacher as it is")

# %% 09-verdict (verdict)
as_it_is = rows["teacher"]
for what, name, column in (
    ("T = 1/4 against the teacher as it is, ECE", "T = 1/4", "ECE"),
    ("T = 4 against the teacher as it is, H", "T = 4", "H"),
    ("control, a fifth shuffled against none, H", "a fifth shuffled", "H"),
):
    print(kd.claim(what, column_of(as_it_is, column), column_of(rows[name], column)))
checks.summary()

# %% [markdown] 09-suspect-why (try)
r"""
## Diagnosis, and a suspect

A flat teacher asks for a flat student. The student is read at its own scale, so it can be flat in one way only: by
making all names alike. How alike, the cosine between two names tells.

If that is it, and not the flatness as such, then it must help to read the student at the temperature, too. That is
Hinton's way: both logits are divided, and the loss is multiplied by the temperature's square, which keeps its steps as
long as they were.
"""


# %% 09-suspect (try)
def both_divided(prompt, batch, temperature=4.0):
    z = kd.logits(features[batch], prompt(base_names), scale)
    return temperature**2 * kd.symmetric_kl(teacher_logits[batch] / temperature, z / temperature)


rows["T = 4 on both sides"] = taught_by("T = 4 on both sides", both_divided)
for name in ("teacher", "T = 4", "T = 4 on both sides"):
    with torch.no_grad():
        names = [prompt(base_names) for prompt in prompts[name]]
    alike = torch.stack([(text @ text.T)[0, 1:].mean() for text in names]).mean()
    print(f"{name}: cosine {alike:.2f} between {base_names[0]} and another name, on average")
for column in ("H", "ECE"):
    what = f"T = 4 on both sides against the teacher as it is, {column}"
    print(kd.claim(what, column_of(as_it_is, column), column_of(rows["T = 4 on both sides"], column)))

# %% [markdown] 09-try-why (try)
r"""
## Try it yourself

Wrong answers contradict one another, and a handful of vectors cannot learn each by heart: so they may cancel, up to a
point. Your temperature, your noise, your share of shuffled rows: how much of a teacher can be broken before its
students are no better than none?
"""

# %% 09-try (try)
mine = shuffled(perturb(teacher_logits, temperature=1.0, noise=0.0), share=0.6)
print(f"this teacher names {kd.accuracy(mine, labels):.1%} of the training pictures rightly")
my_students = taught_by("mine", kdpl(mine))
print(kd.claim("taught by it against zero-shot, base", zero_shot["base"], column_of(my_students, "base")))

# %% [markdown] 09-limits (limits)
r"""
## When it fails

The temperature that makes a teacher honest was found with labels; without them one can only compare it with other
models. One recipe serves all teachers, and a bolder teacher has larger gradients, so step size and certainty are not
told apart here. Faults of real teachers come together: a model far from home is wrong and sure at once.
"""

# %% [markdown] 09-recap (recap)
r"""
## Recap

A teacher hands on two things, an order of the names and a certainty. Whether a wrong certainty harms, and whether it
harms more than wrong answers, stands in the three sentences that the run printed.

1. Why does a temperature leave the teacher's accuracy as it is?
2. Why is the shuffled teacher the control, and not another temperature?
3. Why does the naive loss die sooner with a surer teacher?

<details><summary>Answers</summary>

1. All logits are divided by one number above zero, so that the largest stays the largest.
2. Its confidences are the same numbers as before, only given to other pictures: its answers are broken and its
   certainty is not.
3. The surer the teacher, the more of its probabilities are too small for float16 and become zero, whose logarithm is
   not finite.

</details>
"""

# %% [markdown] 09-next (next)
r"""
Next: [10 · Another world](10_another_world.ipynb) asks what happens if there is no gap. Sources: Guo et al.,
[On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599), 2017; Hinton et al.,
[Distilling the Knowledge in a Neural Network](https://arxiv.org/abs/1503.02531), 2015.
"""
