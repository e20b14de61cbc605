# %% [markdown] 04-title (title)
r"""
# 04 · Distillation: what does a teacher's distribution say that a label cannot?

About 45 minutes to read and run, 35 for the exercises; about a minute of computing. Needs: [03](03_coop.ipynb).
"""

# %% 04-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 04-cold (cold-open)
r"""
## Before any word about it

One training picture, and what two models say of it. The larger one will be the *teacher*, the smaller one the
*student*. A label would be one name and nothing else.
"""

# %% 04-world (setup)
from torch.nn import functional as F

from kdpl_utils import checks, widgets

world = kd.load_world("emoji")
student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
train, test = (kd.of_classes(split, world.base) for split in (world.train, world.test))
names = [world.classnames[c] for c in world.base]
features = kd.encode_images(student, train.images)  # (N, D)
texts = kd.encode_names(student, names)  # (C, D)
seen = kd.encode_images(teacher, train.images).to(features.device)
teacher_texts = kd.encode_names(teacher, names, world.templates).to(features.device)
scale = student.scale
teacher_logits = kd.logits(seen, teacher_texts, scale)  # (N, C)
student_logits = kd.logits(features, texts, scale)

# %% 04-cold-picture (cold-open)
p_teacher, p_student = teacher_logits.softmax(-1).cpu(), student_logits.softmax(-1).cpu()
right = p_teacher.argmax(-1) == train.labels
undecided = (kd.entropy(p_teacher) * right).argmax().item()
plots.distributions(
    train.images[undecided],
    names,
    {"teacher": p_teacher[undecided], "student before": p_student[undecided]},
    label=names[train.labels[undecided]],
    title="Of those that the teacher names rightly, the picture of which it is least sure",
)

# %% [markdown] 04-objectives (objectives)
r"""
You will be able to **write** the loss that pulls one distribution towards another, **tell** its two directions apart,
**derive** its gradient, **say** where it dies in half precision, and **name** four published bugs from their curves.

The claim to test: *from the same few pictures a student learns more from the teacher's whole distribution than from
the teacher's first answer alone.* Its control: the true labels. The verdict at the end is printed by the run.

Both distributions use the student's scale here, as published; lesson 09 asks whether that matters.
"""

# %% [markdown] 04-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Its gradient is a difference”: this ends a ten-minute primer on the KL.
A second stop is in front of the museum, which is a good start for an hour of its own.
"""

# %% [markdown] 04-other-why (why)
r"""
## What is in the other bars

A label puts everything on one name. A teacher spreads it: which other names are thinkable, and how much. Before you
measure how much that is, guess.
"""

# %% 04-other-predict (predict)
spread = checks.predict("spread", "How much does the teacher give to other names than its first, on average?")
spread

# %% 04-other-run (run)
rest = 1 - p_teacher.amax(-1)
spread.measured(100 * rest.mean())
print(f"half of the pictures have more than {rest.median():.1%}, one in ten more than {rest.quantile(0.9):.1%}")

# %% [markdown] 04-other-see (see)
r"""
The mean and the median tell whether many pictures carry a little or a few carry a lot. What a label cannot say is in
those bars.
"""

# %% [markdown] 04-kl-why (why)
r"""
## One number between two distributions

The **KL** divergence of a student $s$ from a teacher $t$ is zero where both agree and grows as they part:

$$\mathrm{KL}(t \,\|\, s) = \sum_c t_c \left(\log t_c - \log s_c\right)$$

With the natural logarithm it is in nats; divided by $\log 2$ it is in **bits**, the unit of the figures. One bit is a
factor of two: averaged over the names as the teacher weighs them, the student gives a name half of what the teacher
gives it.
"""

# %% [markdown] 04-kl-task (task)
r"""
### Exercise: `forward_kl`

From teacher's and student's logits, both `(B, C)`, to the mean KL over the pictures, in nats. It has to stay finite
where a probability rounds to zero.
"""


# %% 04-kl (exercise)
def forward_kl(teacher_logits, student_logits):
    """Mean over pictures of KL(t‖s); (B, C), (B, C) → a number."""
    ...


forward_kl = checks.forward_kl(forward_kl)


# %% 04-kl-solution (solution)
def forward_kl(teacher_logits, student_logits):
    """Mean over pictures of KL(t‖s); (B, C), (B, C) → a number."""
    log_t = teacher_logits.log_softmax(-1)
    log_s = student_logits.log_softmax(-1)
    return (log_t.exp() * (log_t - log_s)).sum(-1).mean()


forward_kl = checks.forward_kl(forward_kl)

# %% [markdown] 04-kl-instructor (instructor)
r"""
**For the instructor.** The commonest wrong answer is right on moderate logits and NaN on extreme ones. Ask which of
the two factors is infinite, and why the other one does not save it.
"""

# %% 04-kl-run (run)
print(f"student from teacher: {forward_kl(teacher_logits, student_logits) / torch.tensor(2).log():.2f} bits")
print(f"teacher from itself:  {forward_kl(teacher_logits, teacher_logits).abs():.2f} bits")

# %% [markdown] 04-direction-why (why)
r"""
## Two directions

**Forward KL**, $\mathrm{KL}(t\,\|\,s)$, punishes a student that gives little where the teacher gives much. **Reverse
KL**, $\mathrm{KL}(s\,\|\,t)$, punishes a student that gives much where the teacher gives little. A student that can
match the teacher exactly does so under both. One that cannot has to choose what to miss.

Let a teacher be torn between two names far apart, and let the student be one bump: it may choose its centre and its
width, and nothing else.
"""

# %% 04-direction-predict (predict)
which = checks.predict("directions", "Which KL settles on one of the two names?", options=["forward", "reverse"])
which

# %% 04-direction-run (run)
from kdpl_utils.evaluate import kl_bits

place = torch.arange(15.0)
torn = torch.stack([-((place - 3) ** 2), -((place - 10) ** 2) - 0.2]).logsumexp(0)  # logits of two peaks
centres, widths = torch.linspace(0, 14, 57), torch.linspace(0.5, 6, 45)
distance = (place - centres[:, None, None]) / widths[:, None]
bumps = -0.5 * distance.square().flatten(0, 1)  # logits of every bump, one a row
teacher_rows = torn.expand_as(bumps)
best = {"forward": kl_bits(teacher_rows, bumps).argmin(), "reverse": kl_bits(bumps, teacher_rows).argmin()}
best = {direction: bumps[i].softmax(-1) for direction, i in best.items()}
narrow = min(best, key=lambda direction: kd.entropy(best[direction][None]).item())

# %% 04-direction-picture (run)
which.measured(narrow)
rows = {"teacher": torn.softmax(-1), **best}
plots.bars(list("ABCDEFGHIJKLMNO"), rows, "A teacher torn between two names, and the bump nearest to it by each KL")

# %% [markdown] 04-direction-see (see)
r"""
Look at the valley between the two names. One bump covers both names and pays with probability for names in between;
the other keeps to one name and forgets the second. **Symmetric KL** is the mean of both directions, and KDPL's loss.
"""

# %% 04-simplex (widget)
widgets.simplex(["red panda", "fox", "teapot"], teacher=(2.0, 1.0), student=(-2.0, 0.5))

# %% [markdown] 04-simplex-moves (moves)
r"""
Three names, so that every distribution is one point of the triangle. Three moves to make:

1. Put the teacher on one name (first slider to its right end) and compare the three losses.
2. Raise the temperature: what do all arrows do?
3. Set `shades show` to reverse, then to forward: near which edge does each get dark?

Notice that the arrows of the three losses differ in length and direction, and that all end at the teacher's point if
you follow them long enough.
"""

# %% [markdown] 04-gradient-why (why)
r"""
## Its gradient is a difference

The forward KL's gradient with respect to the student's logits is, for every picture,

$$\frac{\partial\, \mathrm{KL}(t \,\|\, s)}{\partial z_c} = s_c - t_c$$

Each name is pushed down by what the student gives it and pulled up by what the teacher gives it. Put a label in the
teacher's place, all of $t$ on one name, and this is the gradient of the cross-entropy. A formula on paper is a claim;
autograd can check it.
"""

# %% 04-gradient-predict (predict)
gap = checks.predict(
    "gradient", "How far apart are formula and autograd?", options=["rounding", "some per cent", "a factor"]
)
gap

# %% 04-gradient-run (run)
z = student_logits.clone().requires_grad_()
kd.forward_kl(teacher_logits, z).backward()
formula = (student_logits.softmax(-1) - teacher_logits.softmax(-1)) / len(z)  # a mean over N pictures
relative = ((z.grad - formula).norm() / formula.norm()).item()
gap.measured("rounding" if relative < 1e-4 else "some per cent" if relative < 0.5 else "a factor")
print(f"relative difference: {relative:.0e}")

# %% [markdown] 04-half-why (why)
r"""
## In half precision

On a GPU logits often come in float16, whose smallest positive number is far above float32's. A softmax then rounds
small probabilities to zero, and the logarithm of zero is not finite. How small they get, the scale decides: that of
these two models is modest, OpenAI's learned one hundred. `naive_kl` is how the formula looks if one types it;
`kd.forward_kl` takes `log_softmax`, in float32.
"""

# %% 04-half-predict (predict)
broken = checks.predict(
    "float16", "At CLIP's own scale, for what share of the pictures is the naive KL not finite in float16?"
)
broken


# %% 04-half-run (run)
def naive_kl(teacher_logits, student_logits):
    """The formula as it stands, for each picture."""
    t, s = teacher_logits.softmax(-1), student_logits.softmax(-1)
    return (t * (t.log() - s.log())).sum(-1)


def careful_kl(teacher_logits, student_logits):
    return torch.stack([kd.forward_kl(t[None], s[None]) for t, s in zip(teacher_logits, student_logits)])


def share_not_finite(loss, dtype, wanted_scale):
    """Of the pictures, with logits of a scale and a precision."""
    factor = wanted_scale / scale
    values = loss((factor * teacher_logits).to(dtype), (factor * student_logits).to(dtype))
    return 1 - values.isfinite().float().mean().item()


# %% 04-half-table (run)
broken.measured(100 * share_not_finite(naive_kl, torch.float16, 100))
for wanted_scale in (scale.item(), 100):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        naive, careful = (share_not_finite(loss, dtype, wanted_scale) for loss in (naive_kl, careful_kl))
        print(f"scale {wanted_scale:3.0f}, {str(dtype):14} not finite: naive {naive:6.1%}, careful {careful:.1%}")

# %% [markdown] 04-half-see (see)
r"""
One picture that is not finite is enough: the mean over its batch is not finite either, and after the step neither is
the student. `kd.fit` stops in front of that step and says so.
"""

# %% [markdown] 04-museum-why (why)
r"""
## The bug museum

Four mistakes that were really published in distillation code. In each room a student is trained with one of them, on
the pictures above. The student is one matrix that starts at the text features. A solid line shows the loss as the
training loop reports it, the other the true KL from the teacher, which the loop did not look at.
"""

# %% 04-museum-run (run)
rooms = {}
for letter, loss in checks.EXHIBITS.items():
    reported, true = checks.exhibit(loss, features, texts, teacher_logits, scale)
    rooms[letter] = {"reported loss": reported, "true KL": true}
before = kd.forward_kl(teacher_logits, student_logits).item()
plots.loss_curves(rooms, "nats", start=before)

# %% [markdown] 04-museum-task (task)
r"""
### Exercise: name the bugs

Write the name of its bug in place of each `None`: `"roles swapped"`, `"teacher compared with itself"`,
`"batches in another order"` or `"softmax for log-softmax"`.

Ask of each room: can a KL look like this? Does the student move at all? Towards whom?
"""

# %% 04-museum (exercise)
checks.bug_museum({"A": None, "B": None, "C": None, "D": None})

# %% 04-museum-solution (solution)
checks.bug_museum(
    {
        "A": "batches in another order",
        "B": "roles swapped",
        "C": "softmax for log-softmax",
        "D": "teacher compared with itself",
    }
)

# %% [markdown] 04-mended-task (task)
r"""
### Exercise: `mended`

The loop hands over the teacher's logits of *all* pictures, the student's of a batch, and the batch's indices. Write
the forward KL with none of the four mistakes. The teacher is to stay as it is, so no gradient may reach its logits.
"""


# %% 04-mended (exercise)
def mended(teacher_logits, student_logits, batch):
    """KL(t‖s) of a batch; (N, C), (B, C), (B,) → a number."""
    ...


mended = checks.mended(mended)


# %% 04-mended-solution (solution)
def mended(teacher_logits, student_logits, batch):
    """KL(t‖s) of a batch; (N, C), (B, C), (B,) → a number."""
    return kd.forward_kl(teacher_logits[batch], student_logits)


mended = checks.mended(mended)

# %% 04-mended-run (run)
reported, true = checks.exhibit(mended, features, texts, teacher_logits, scale)
rooms["mended"] = {"reported loss": reported, "true KL": true}
plots.loss_curves(rooms, "nats", start=before)

# %% [markdown] 04-claim-why (why)
r"""
## The claim

Five seeds draw four pictures a class. From the same pictures a student matrix learns three times: from the labels,
from the teacher's first answers, from the teacher's distributions. Recipe and start are the same, and the judges are
test pictures that nobody learned from.
"""


# %% 04-claim-run (run)
class Matrix(torch.nn.Module):
    """A student that is one matrix, from the text features on."""

    def __init__(self):
        super().__init__()
        self.rows = torch.nn.Parameter(texts.clone())

    def forward(self, features):
        return kd.logits(features, self.rows, scale)


labels = train.labels.to(features.device)
first_answers = teacher_logits.argmax(-1)
losses = {
    "labels": lambda matrix, batch: F.cross_entropy(matrix(features[batch]), labels[batch]),
    "first answers": lambda matrix, batch: F.cross_entropy(matrix(features[batch]), first_answers[batch]),
    "distributions": lambda matrix, batch: forward_kl(teacher_logits[batch], matrix(features[batch])),
}

# %% 04-claim-train (run)
test_features = kd.encode_images(student, test.images)


def taught(loss, seed):
    """Top-1 on test pictures, in per cent, after learning from four pictures a class."""
    matrix = Matrix()
    kd.learn(matrix, loss, train.labels, seed, kd.Recipe(epochs=20, lr=1e-3, weight_decay=0), shots=4)
    return 100 * kd.accuracy(matrix(test_features), test.labels)


zero_shot = 100 * kd.accuracy(kd.logits(test_features, texts, scale), test.labels)
scores = {what: [taught(loss, seed) for seed in range(5)] for what, loss in losses.items()}

# %% 04-signature (signature)
plots.seed_dots(scores, zero_shot, "top-1 on test pictures of the same classes, %", "Five seeds, four pictures a class")

# %% 04-verdict (verdict)
print(
    f"the teacher's first answer is right for {kd.accuracy(teacher_logits, train.labels):.1%} of the training pictures"
)
print(kd.claim("distributions against first answers", scores["first answers"], scores["distributions"]))
print(kd.claim("distributions against labels", scores["labels"], scores["distributions"]))
print(kd.claim("distributions against no training", zero_shot, scores["distributions"]))
checks.summary()

# %% [markdown] 04-suspect-why (try)
r"""
## If the claim falls: a suspect, tested

*Lower* would refute the claim, *no difference seen* leaves it open. A suspect for either: at the student's scale the
teacher's distribution is nearly a label, and what the claim is about hardly occurs. Hinton's remedy is a temperature on
both sides; the loss times its square keeps the steps as long as they were. If the suspect is right, there is more in
the other bars then, *and* more is learned. If only the first happens it is acquitted, and the next suspect stands in
the first line of the verdict: how often the teacher's first answer is right, and so says what the label says.
"""

# %% 04-suspect (try)
softness = 4


def softened(matrix, batch):
    """The KL with both logits divided by a temperature."""
    return softness**2 * forward_kl(teacher_logits[batch] / softness, matrix(features[batch]) / softness)


soft_rest = 1 - (teacher_logits / softness).softmax(-1).amax(-1)
print(f"outside the first answer: {rest.mean():.1%} as it is, {soft_rest.mean():.1%} at temperature {softness}")
scores["softened"] = [taught(softened, seed) for seed in range(5)]
for other in ("first answers", "distributions"):
    print(kd.claim(f"softened against {other}", scores[other], scores["softened"]))

# %% [markdown] 04-try-why (try)
r"""
## Try it yourself

Your three names, your teacher, your student: two logits each, the third name's is zero. Can you find a pair for which
the two directions pull the student opposite ways? A teacher torn between two names is a good start.
"""

# %% 04-try (try)
widgets.simplex(["your name", "another", "a third"], teacher=(1.0, 1.0), student=(3.0, -3.0))

# %% [markdown] 04-limits (limits)
r"""
## When it fails

A distribution is only worth what the teacher knows: where the teacher is wrong, so is every bar. At a large scale a
distribution is nearly a label, and little is left to learn from the other bars. The student here is one matrix; a
prompt, which lesson 05 trains, can follow a teacher much less freely.
"""

# %% [markdown] 04-recap (recap)
r"""
## Recap

A label says which name; a distribution also says which others were thinkable, and how sure the teacher was. The KL
turns this into a loss, and its gradient is simply the difference of the two distributions.

1. What does the gradient look like once student and teacher agree?
2. Which direction of the KL keeps a student from forgetting a name that the teacher finds thinkable?
3. A colleague's loss is zero from the first step on. What do you look at first?

<details><summary>Answers</summary>

1. It is zero for every name: what the student gives equals what the teacher gives.
2. The forward one: it weighs each name by the teacher's probability.
3. Whether the student occurs in it at all: room D.

</details>
"""

# %% [markdown] 04-next (next)
r"""
Next: [KDPL](05_kdpl.ipynb) puts this loss in the place of CoOp's. Sources: Hinton et al.,
[Distilling the Knowledge in a Neural Network](https://arxiv.org/abs/1503.02531), 2015; Mistretta et al.,
[Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge Distillation](https://arxiv.org/abs/2407.03056),
2024.
"""
