# %% [markdown] 05-title (title)
r"""
# 05 · KDPL: can we train the prompt without a single label?

About 35 minutes to read and run, 15 for the exercise; a minute or two of computing. Needs: [03](03_coop.ipynb),
[04](04_distillation.ipynb).
"""

# %% 05-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 05-cold (cold-open)
r"""
## Nobody told either of them

A drawing in ink. The smaller model has only ever seen colour; the larger one has seen ink as well. Nobody says what
the picture shows.
"""

# %% 05-world (setup)
import pandas as pd
from torch.nn import functional as F

from kdpl_utils import checks, widgets
from kdpl_utils.evaluate import kl_bits

world = kd.load_world("emoji")
student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
base_names = [world.classnames[c] for c in world.base]
train = kd.of_classes(world.train, world.base)
labels = train.labels.to(student.device)
scale = student.scale  # as published, both distributions take the student's
features = kd.encode_images(student, train.images)  # (N, D)
zero_shot_text = kd.encode_names(student, base_names, world.templates)
student_before = kd.logits(features, zero_shot_text, scale)  # (N, C)
teacher_features = kd.encode_images(teacher, train.images).to(student.device)
teacher_text = kd.encode_names(teacher, base_names, world.templates).to(student.device)
teacher_logits = kd.logits(teacher_features, teacher_text, scale)  # (N, C)

# %% 05-cold-picture (cold-open)
apart = kl_bits(teacher_logits, student_before).cpu()
furthest = int(apart.argmax())
plots.distributions(
    train.images[furthest],
    base_names,
    {
        "teacher": teacher_logits[furthest].softmax(-1).cpu(),
        "student before": student_before[furthest].softmax(-1).cpu(),
    },
    label=base_names[train.labels[furthest]],
    title="The training picture on which the two are furthest apart",
)

# %% [markdown] 05-objectives (objectives)
r"""
You will be able to **write** the one line that turns CoOp into KDPL, **compare** the two over five seeds, **test**
whether the teacher's knowledge is what does it, and **read** from a distribution where the student followed.

Three claims to test, printed at the end by the run: *KDPL, without a label, lifts the base classes above zero-shot*;
*it costs the novel classes less than labels do*; *a teacher whose answers belong to other pictures does not do it.*
The last is the control of the first.
"""

# %% [markdown] 05-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Is it the teacher's knowledge?”: CoOp and KDPL have been compared on
five seeds. Let everybody write down what a shuffled teacher would do before going on.
"""

# %% [markdown] 05-teacher-why (why)
r"""
## The teacher looks once

Both models are frozen, so each looks at a training picture once, and its features are kept. The **teacher** is the
larger model with the words "a photo of a"; it learns nothing here. How good it is on these pictures bounds what it
can hand on.
"""

# %% 05-teacher-predict (predict)
knows = checks.predict("teacher", "How many of the training pictures does the teacher name rightly, unasked?")
knows

# %% 05-teacher-run (run)
knows.measured(100 * kd.accuracy(teacher_logits, labels))
print(f"the student names {kd.accuracy(student_before, labels):.1%} of them rightly, before anything is learned")
agreement = kd.top1_agreement(teacher_logits, student_before)
print(f"both give the same first answer for {agreement:.1%}")

# %% [markdown] 05-line-why (why)
r"""
## The one line

CoOp compares the student's distribution with a label. KDPL compares it with the teacher's distribution, by the
symmetric KL of lesson 04:

$$\mathcal{L} = \tfrac12 \mathrm{KL}(p_T \,\|\, p_S) + \tfrac12 \mathrm{KL}(p_S \,\|\, p_T)$$

Everything else stays: the frozen towers, the four context vectors, the optimiser, the pictures. A loss takes the prompt
that is being trained and the indices of a batch, and gives a number.
"""


# %% 05-coop (run)
def coop(prompt, batch):
    """The cross-entropy of the labels of a batch of indices (B,)."""
    return F.cross_entropy(kd.logits(features[batch], prompt(base_names), scale), labels[batch])


# %% [markdown] 05-kdpl-task (task)
r"""
### Exercise: `kdpl`

Write KDPL's loss beside CoOp's. `teacher_logits` is (N, C), for the same pictures and the same names in the same order.
"""


# %% 05-kdpl (exercise)
def kdpl(prompt, batch):
    """The loss of a batch of indices (B,), without labels."""
    ...


kdpl = checks.kdpl(kdpl)


# %% 05-kdpl-solution (solution)
def kdpl(prompt, batch):
    """The loss of a batch of indices (B,), without labels."""
    return kd.symmetric_kl(teacher_logits[batch], kd.logits(features[batch], prompt(base_names), scale))


kdpl = checks.kdpl(kdpl)

# %% [markdown] 05-kdpl-instructor (instructor)
r"""
**For the instructor.** Ask where labels still enter: `kd.learn` draws the same number of pictures from each class, as
the paper does, and for that it looks at labels. `kdpl adapt` on a folder without labels draws from all pictures.
"""

# %% [markdown] 05-train-why (why)
r"""
## Five seeds of each

A seed draws 16 pictures a class and their order; every method gets the same ones. The recipe was chosen by labels on
`world.val`, an ink style of its own, before KDPL ran.
"""

# %% 05-train-predict (predict)
guess = checks.predict(
    "labels", "Which gains more on the classes that were learned, labels or the teacher?", options=["labels", "teacher"]
)
guess

# %% 05-train-run (run)
recipe, seeds = kd.Recipe(**world.recipe), range(5)
tests = kd.test_features(student, world)
prompts, rows, texts = {}, {}, []


def compare(method, loss, on_epoch=None):
    """Five runs of a loss(prompt, batch), and their rows of the results table."""
    prompts[method] = [kd.PromptLearner(student) for _ in seeds]
    pairs = zip(prompts[method], seeds)
    runs = [kd.learn(prompt, loss, labels, seed, recipe, on_epoch=on_epoch) for prompt, seed in pairs]
    rows[method] = [kd.scores(tests, world, prompt, scale) for prompt in prompts[method]]
    print(f"{method}: {sum(history.seconds for history in runs) / len(runs):.1f} s a run")


# %% 05-train-both (run)
def watch(prompt):
    """What the names look like after each epoch."""
    texts.append(prompt(base_names).detach())
    return {}


compare("CoOp", coop)
compare("KDPL", kdpl, watch)
mean_base = {method: sum(row["base"] for row in rows[method]) / len(seeds) for method in rows}
guess.measured("labels" if mean_base["CoOp"] > mean_base["KDPL"] else "teacher")

# %% [markdown] 05-move-why (why)
r"""
## Watch a distribution move

Teacher, student before and student after on one training picture, those first on which the two differed most.
"""

# %% 05-move (widget)
students = [student_before, *(kd.logits(features, text, scale) for text in texts[: recipe.epochs])]
widgets.teacher_student(train.images, base_names, teacher_logits, students, labels)

# %% [markdown] 05-move-moves (moves)
r"""
1. Take the first picture and move the training epoch from 0 to its end.
2. Choose the order `KL rose most`: whom did the training make worse?
3. Raise the temperature: which names appear that you did not see before?

Notice that four vectors serve all pictures: where one distribution moves towards the teacher, another may have to move
away.
"""

# %% 05-move-run (run)
for what, logits in {"before": student_before, "after": students[-1]}.items():
    bits, same = kl_bits(teacher_logits, logits).mean(), kd.top1_agreement(teacher_logits, logits)
    print(f"{what}: mean KL from the teacher {bits:.2f} bits, same first answer for {same:.1%}")

# %% [markdown] 05-control-why (why)
r"""
## Is it the teacher's knowledge?

Three teachers that should not help. *Shuffled*: each picture gets another picture's distribution. *Uniform*: the
teacher knows nothing. *Self*: the student's own zero-shot distribution. A method that gains from any of them gains
from something else than knowledge. And one that knows less than it could say: *first answer* keeps the teacher's top
name alone.
"""

# %% 05-control-predict (predict)
harm = checks.predict(
    "shuffled", "A teacher whose answers belong to other pictures makes the student …", options=["better", "worse"]
)
harm

# %% 05-control-run (run)
order = torch.randperm(len(teacher_logits), generator=torch.Generator().manual_seed(0))
targets = {
    "shuffled": teacher_logits[order.to(teacher_logits.device)],
    "uniform": torch.zeros_like(teacher_logits),
    "self": student_before,
}


def towards(target):
    """KDPL's loss with other logits (N, C) in the teacher's place."""
    return lambda prompt, batch: kd.symmetric_kl(target[batch], kd.logits(features[batch], prompt(base_names), scale))


for name, target in targets.items():
    compare(name, towards(target))


# %% 05-control-first (run)
def first_answer(prompt, batch):
    """The cross-entropy of the teacher's first answer in place of the label."""
    return F.cross_entropy(kd.logits(features[batch], prompt(base_names), scale), teacher_logits[batch].argmax(-1))


compare("first answer", first_answer)

# %% 05-control-picture (run)
zero_shot = kd.scores(tests, world, lambda names: kd.encode_names(student, names, world.templates), scale)
shuffled_h = sum(row["H"] for row in rows["shuffled"]) / len(seeds)
harm.measured("better" if shuffled_h > zero_shot["H"] else "worse")
by_method = {method: [row["H"] for row in of_method] for method, of_method in rows.items()}
plots.seed_dots(by_method, zero_shot["H"], "H of base and novel, top-1 %", "Five seeds each")

# %% [markdown] 05-control-see (see)
r"""
The dashed line is the student before. Whatever stands right of it gained, whatever stands left was harmed. Compare
*first answer* with KDPL: the difference between them is what the other bars of the teacher's distribution are worth
here.
"""

# %% 05-results (results)
teacher_row = kd.scores(
    kd.test_features(teacher, world),
    world,
    lambda names: kd.encode_names(teacher, names, world.templates),
    teacher.scale,
)
table = {
    "zero-shot student": {"labels": "no", **kd.summarise([zero_shot])},
    "zero-shot teacher": {"labels": "no", **kd.summarise([teacher_row])},
    "CoOp": {"labels": "16 a class", **kd.summarise(rows["CoOp"])},
}
for method in ("KDPL", "first answer", "shuffled", "uniform", "self"):
    table[method] = {"labels": "no", **kd.summarise(rows[method])}
pd.DataFrame(table).T


# %% 05-signature (signature)
def against_zero_shot(method):
    """Every column's difference over seeds, with its interval."""
    differences = {}
    for column in zero_shot:
        after = [row[column] for row in rows[method]]
        differences[column] = kd.paired_interval([zero_shot[column]] * len(after), after)
    return differences


compared = {method: against_zero_shot(method) for method in ("CoOp", "KDPL", "first answer")}
plots.forest(compared, title="Against zero-shot")

# %% 05-verdict (verdict)
values = {method: {c: [row[c] for row in rows[method]] for c in ("base", "novel", "H")} for method in rows}
print(kd.claim("KDPL against zero-shot, base", zero_shot["base"], values["KDPL"]["base"]))
print(kd.claim("KDPL against CoOp, novel", values["CoOp"]["novel"], values["KDPL"]["novel"]))
print(kd.claim("KDPL against the shuffled teacher, H", values["shuffled"]["H"], values["KDPL"]["H"]))
checks.summary()

# %% [markdown] 05-suspect-why (try)
r"""
## If the second claim falls: a suspect, tested

Where novel classes pay and KDPL pays no less than labels do, a suspect: their names never stood in the loss. A label
could not put them there, a teacher can, since nobody has to know which picture shows what. So the teacher speaks about
all names, base and novel, of the same pictures of base classes. If the suspect is right, the novel classes pay less.
"""

# %% 05-suspect (try)
all_text = kd.encode_names(teacher, world.classnames, world.templates).to(student.device)
about_all = kd.logits(teacher_features, all_text, scale)  # (N, all names)


def all_names(prompt, batch):
    """KDPL's loss over base and novel names."""
    return kd.symmetric_kl(about_all[batch], kd.logits(features[batch], prompt(world.classnames), scale))


compare("all names", all_names)
for column in ("base", "novel"):
    after = [row[column] for row in rows["all names"]]
    print(kd.claim(f"all names against base names, {column}", values["KDPL"][column], after))

# %% [markdown] 05-paper (try)
r"""
## What the paper reports

Real CLIP (ViT-B/32), 16-shot ImageNet and its shifts, three seeds. **Paper, not run here.**
"""

# %% 05-paper-table (try)
paper = kd.paper_tables()["domain_generalization"]
pd.DataFrame(paper["ViT-B/32"], index=paper["columns"]).T.loc[["CLIP zero-shot", "CoOp", "CoOp+KDPL", "CoOp+KDPL-CA"]]

# %% [markdown] 05-try-why (try)
r"""
## Try it yourself

Another group of the world, another teacher, another loss: change one line and run the cell. Worlds are listed by
`kd.world_names()`; `world.teachers` has three sizes.
"""

# %% 05-try (try)
mine = kd.load_world("emoji/activities")
my_train = kd.of_classes(mine.train, mine.base)
my_names = [mine.classnames[c] for c in mine.base]
my_teacher = kd.load_vlm(*mine.teachers[-1])
answers = kd.logits(
    kd.encode_images(my_teacher, my_train.images), kd.encode_names(my_teacher, my_names, mine.templates), scale
)
print(f"{my_teacher.name} names {kd.accuracy(answers, my_train.labels):.1%} of {mine.name}'s training pictures rightly")

# %% [markdown] 05-limits (limits)
r"""
## When it fails

The student is pulled towards the teacher, right or wrong: where the teacher errs, so will the student. Where the
student knows the domain already, there is no gap and little to gain; lesson 10 measures that. Five seeds say how much
the draw of pictures matters, not how much other classes or other drawings would.
"""

# %% [markdown] 05-recap (recap)
r"""
## Recap

The labels can be left out, for the price of running a larger model once over the pictures. What that gains and costs
on this world stands in the three sentences that the run printed.

1. Which line of CoOp changes?
2. Where do labels still enter, and how would you remove them?
3. Why can the learned context be tested on names that it never saw?

<details><summary>Answers</summary>

1. The loss: the symmetric KL to the teacher's distribution in place of the cross-entropy of the label.
2. They draw the same number of pictures from each class. Draw from all pictures instead, as `kdpl adapt` does.
3. The prompt takes the names as an argument; only the context in front of them was learned.

</details>
"""

# %% [markdown] 05-next (next)
r"""
Next: [06 · Class-agnostic](06_class_agnostic.ipynb) leaves out the class names, too. Source: Mistretta et al.,
[Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge
Distillation](https://arxiv.org/abs/2407.03056), 2024.
"""
