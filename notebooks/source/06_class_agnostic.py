# %% [markdown] 06-title (title)
r"""
# 06 · Class-agnostic: and without the class names?

About 35 minutes to read and run, 20 for the exercises; a minute or two of computing. Needs: [05](05_kdpl.ipynb).
"""

# %% 06-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 06-cold (cold-open)
r"""
## A picture and thousands of names

Nobody says what the pictures show, and now nobody says either what they *could* show. The teacher is handed a list of
thousands of names and looks at one picture.
"""

# %% 06-world (setup)
import pandas as pd

from kdpl_utils import checks, widgets

world = kd.load_world("emoji")
student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
dictionary = world.dictionary
train = kd.of_classes(world.train, world.base)
labels = train.labels.to(student.device)
base_names = [world.classnames[c] for c in world.base]
scale = student.scale
features = kd.encode_images(student, train.images)  # (N, D)
teacher_features = kd.encode_images(teacher, train.images).to(student.device)
dictionary_text = kd.encode_names(teacher, dictionary, world.templates).to(student.device)
dictionary_logits = kd.logits(teacher_features, dictionary_text, scale)  # (N, thousands)
class_text = kd.encode_names(teacher, base_names, world.templates).to(student.device)
teacher_logits = kd.logits(teacher_features, class_text, scale)  # (N, C)

# %% 06-cold-picture (cold-open)
shown = int(teacher_logits.softmax(-1).amax(-1).argmax())
plots.distributions(
    train.images[shown],
    dictionary,
    {"teacher": dictionary_logits[shown].softmax(-1).cpu()},
    k=8,
    title=f"The teacher's first eight of {len(dictionary):,} names",
)

# %% [markdown] 06-objectives (objectives)
r"""
You will be able to **pick** the names of a batch as the teacher does, **measure** whether the true ones are among
them, **train** a prompt without class names, and **find** which of three causes costs most where it falls behind.

Three claims to test, printed at the end by the run: *class-agnostic KDPL lifts the base classes above zero-shot*; *it
reaches what KDPL with class names reaches*; *names drawn at random do not do it*. The last is the control.
"""

# %% [markdown] 06-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Learn, without a class list”: the teacher picks names, and nothing has
been trained yet. Ask for the K that each would choose, and why.
"""

# %% [markdown] 06-held-why (why)
r"""
## What the dictionary holds

The **dictionary** is every name and keyword of the drawings' list: true names, near-synonyms, and names of things that
occur in no picture here. "Without class names" is not "without any words".
"""

# %% 06-held-run (run)
place = {name: i for i, name in enumerate(dictionary)}
held = [name for name in base_names if name in place]
print(f"{len(dictionary):,} names; {len(held)} of the {len(base_names)} base names are among them")
print("some of it:", ", ".join(dictionary[i] for i in range(300, len(dictionary), len(dictionary) // 8)))

# %% [markdown] 06-pick-why (why)
r"""
## K names for a batch

For each batch the teacher picks the K names to which it gives the most probability *on average over the batch*. Then
teacher and student answer among these names only, and the loss is KDPL's. Other batch, other names.
"""

# %% [markdown] 06-select-task (task)
r"""
### Exercise: `select_classes`

From the teacher's logits of a batch, (B, V) over the dictionary, to the indices (K,) of the names to keep.
"""


# %% 06-select (exercise)
def select_classes(teacher_logits, k):
    """The k names most probable in the batch; (B, V) → (k,) indices."""
    ...


select_classes = checks.select_classes(select_classes)


# %% 06-select-solution (solution)
def select_classes(teacher_logits, k):
    """The k names most probable in the batch; (B, V) → (k,) indices."""
    return teacher_logits.softmax(-1).mean(0).topk(k).indices


select_classes = checks.select_classes(select_classes)

# %% 06-pick-predict (predict)
found = checks.predict(
    "recall", "Of the true names of 32 pictures, how many are picked, if as many names are picked as there are classes?"
)
found

# %% 06-pick-run (run)
K = len(base_names)  # as the paper: as many names as there are classes
mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1)).to(labels.device)
batches = mixed.split(32)[:16]
batch = batches[0]
chosen = select_classes(dictionary_logits[batch], K)
true_names = {base_names[label] for label in labels[batch]}
plots.selected_names(
    [dictionary[i] for i in chosen[:24]],
    dictionary_logits[batch].softmax(-1).mean(0)[chosen[:24]].cpu(),
    [dictionary[i] in true_names for i in chosen[:24]],
    "The first names picked for a batch of 32 pictures; ✓: one of them shows it",
)

# %% [markdown] 06-recall-task (task)
r"""
### Exercise: `selection_recall`

The **recall** is the share of the distinct true classes that were picked. From picked indices (K,) and the pictures' true
ones (B,) to a share.
"""


# %% 06-recall (exercise)
def selection_recall(selected, true):
    """Share of the distinct true classes among the selected; (K,), (B,) → 0…1."""
    ...


selection_recall = checks.selection_recall(selection_recall)


# %% 06-recall-solution (solution)
def selection_recall(selected, true):
    """Share of the distinct true classes among the selected; (K,), (B,) → 0…1."""
    return torch.isin(true.unique(), selected).float().mean()


selection_recall = checks.selection_recall(selection_recall)

# %% 06-recall-run (run)
row_of_class = torch.tensor([place.get(name, -1) for name in base_names], device=labels.device)


def recall_of(logits, k):
    """Mean over the batches, in per cent."""
    shares = [selection_recall(select_classes(logits[b], k), row_of_class[labels[b]]) for b in batches]
    return 100 * sum(float(share) for share in shares) / len(shares)


found.measured(recall_of(dictionary_logits, K))

# %% 06-pick-widget (widget)
widgets.class_pick(train.images, dictionary_logits, labels, base_names, dictionary)

# %% [markdown] 06-pick-moves (moves)
r"""
1. Lower K until a true name drops out. Which one goes first?
2. Draw another batch at the same K.
3. Make the batch smaller, then larger.

Notice that many names without a tick are other words for what is shown.
"""

# %% [markdown] 06-mass-why (why)
r"""
## How many names are enough?

Two numbers for each K: recall, and **mass**, the part of the teacher's probability that falls on the picked names.
After the selection both distributions are made to sum to one over the K names alone (renormalised), so lost mass turns
into false certainty. A model
with a small scale spreads its probability thinly over thousands of names; real CLIP's scale is one hundred.
"""

# %% 06-mass-predict (predict)
kept = checks.predict(
    "mass", "How much of the teacher's probability falls on the picked names, as many as there are classes?"
)
kept

# %% 06-mass-run (run)
ks = [4, 8, 16, 32, 64, 128, 512, len(dictionary)]


def mass_of(logits, k):
    """Mean over the batches, in per cent."""
    shares = [logits[b].softmax(-1).mean(0).topk(k).values.sum().item() for b in batches]
    return 100 * sum(shares) / len(shares)


kept.measured(mass_of(dictionary_logits, K))
curves = {
    "true names found": [recall_of(dictionary_logits, k) for k in ks],
    "probability kept": [mass_of(dictionary_logits, k) for k in ks],
}
plots.k_curves(ks, curves, f"{len(dictionary):,} names, batches of 32")

# %% 06-lost-run (run)
full = dictionary_logits[batch].softmax(-1)
i = int(full[:, chosen].sum(1).argmin())
shown_names = [*(dictionary[c] for c in chosen), "names not picked"]
rest = 1 - full[i, chosen].sum()
rows = {
    "over the dictionary": torch.cat([full[i, chosen], rest[None]]).cpu(),
    "renormalised over K": torch.cat(
        [dictionary_logits[batch][i, chosen].softmax(-1), torch.zeros_like(rest)[None]]
    ).cpu(),
}
title = "The picture of this batch that lost most mass, and what the student is taught"
plots.distributions(train.images[batch[i]], shown_names, rows, label=base_names[labels[batch[i]]], title=title)

# %% [markdown] 06-train-why (why)
r"""
## Learn, without a class list

Class-agnostic KDPL is the third loss of this course, after CoOp's and KDPL's. Beside it stand KDPL, a control, *random
names* in place of the picked ones, and three changed settings, each of which removes one suspect: *true names added*
(recall is whole), *teacher's own scale* (more mass is kept), and *twice as many names*.
"""


# %% 06-train-run (run)
def class_agnostic(target, k, extra=None):
    """KDPL's loss over k picked names; ``extra(batch)`` are indices of names to add."""

    def loss(prompt, batch):
        picked = select_classes(target[batch], k)
        if extra is not None:
            picked = torch.cat([picked, extra(batch)]).unique()
        names = [dictionary[i] for i in picked.tolist()]
        return kd.symmetric_kl(target[batch][:, picked], kd.logits(features[batch], prompt(names), scale))

    return loss


# %% 06-train-others (run)
def kdpl(prompt, batch):
    return kd.symmetric_kl(teacher_logits[batch], kd.logits(features[batch], prompt(base_names), scale))


generator = torch.Generator().manual_seed(0)


def random_names(prompt, batch):
    picked = torch.randperm(len(dictionary), generator=generator)[:K].to(labels.device)
    names = [dictionary[i] for i in picked.tolist()]
    return kd.symmetric_kl(dictionary_logits[batch][:, picked], kd.logits(features[batch], prompt(names), scale))


# %% 06-train-predict (predict)
blame = checks.predict(
    "blame",
    "Which change of class-agnostic learning helps most, in H?",
    options=["true names added", "teacher's own scale", "twice as many names", "none is seen to help"],
)
blame

# %% 06-train-all (run)
own_scale = dictionary_logits * (teacher.scale.to(scale.device) / scale)
losses = {
    "KDPL": kdpl,
    "class-agnostic": class_agnostic(dictionary_logits, K),
    "random names": random_names,
    "true names added": class_agnostic(dictionary_logits, K, lambda batch: row_of_class[labels[batch]].unique()),
    "teacher's own scale": class_agnostic(own_scale, K),
    "twice as many names": class_agnostic(dictionary_logits, 2 * K),
}
recipe, tests, rows_of = kd.Recipe(**world.recipe), kd.test_features(student, world), {}
for method, loss in losses.items():
    prompts = [kd.PromptLearner(student) for _ in range(5)]
    runs = [kd.learn(prompt, loss, labels, seed, recipe) for seed, prompt in enumerate(prompts)]
    rows_of[method] = [kd.scores(tests, world, prompt, scale) for prompt in prompts]
    print(f"{method}: {sum(history.seconds for history in runs) / len(runs):.1f} s a run")

# %% 06-results (results)
zero_shot = kd.scores(tests, world, lambda names: kd.encode_names(student, names, world.templates), scale)
table = {"zero-shot student": {"labels": "no", "class names": "no", **kd.summarise([zero_shot])}}
uses_names = {"KDPL": "yes", "true names added": "yes"}
uses_labels = {"true names added": "to find the names"}
for method, rows in rows_of.items():
    table[method] = {
        "labels": uses_labels.get(method, "no"),
        "class names": uses_names.get(method, "no"),
        **kd.summarise(rows),
    }
pd.DataFrame(table).T

# %% 06-signature (signature)
columns = ["base", "novel", "H", "base shifted", "novel shifted"]


def against_kdpl(method):
    """Every column's paired difference from KDPL with class names."""
    pairs = {c: ([r[c] for r in rows_of["KDPL"]], [r[c] for r in rows_of[method]]) for c in columns}
    return {c: kd.paired_interval(*pair) for c, pair in pairs.items()}


suspects = ("class-agnostic", "true names added", "teacher's own scale", "twice as many names")
plots.forest({method: against_kdpl(method) for method in suspects}, title="Against KDPL with class names")

# %% 06-verdict (verdict)
values = {method: {c: [row[c] for row in rows] for c in columns} for method, rows in rows_of.items()}
print(kd.claim("class-agnostic against zero-shot, base", zero_shot["base"], values["class-agnostic"]["base"]))
print(kd.claim("class-agnostic against KDPL, H", values["KDPL"]["H"], values["class-agnostic"]["H"]))
print(kd.claim("class-agnostic against random names, H", values["random names"]["H"], values["class-agnostic"]["H"]))
helped = {method: kd.paired_interval(values["class-agnostic"]["H"], values[method]["H"]) for method in suspects[1:]}
most = max(helped, key=lambda method: helped[method][0])
blame.measured(most if helped[most][1] > 0 else "none is seen to help")
checks.summary()

# %% [markdown] 06-paper (try)
r"""
## What the paper reports

RN50, 16-shot ImageNet to ten other data sets, top-1 in per cent. **Paper, not run here.**
"""

# %% 06-paper-table (try)
paper = kd.paper_tables()["cross_dataset_RN50_CoOp"]
pd.DataFrame(
    {m: paper[m] for m in ("CLIP zero-shot", "CoOp", "CoOp+KDPL", "CoOp+KDPL-CA")}, index=paper["columns"]
).T.round(1)

# %% [markdown] 06-try-why (try)
r"""
## Try it yourself

Your own dictionary, as short or as odd as you like: what does the teacher make of the batch with it?
"""

# %% 06-try (try)
my_names = ["fruit", "vegetable", "drink", "cake", "fish", "tool", "animal", "face"]
my_text = kd.encode_names(teacher, my_names).to(scale.device)
my_logits = kd.logits(teacher_features[batch], my_text, scale)
for name, share in zip(my_names, my_logits.softmax(-1).mean(0).tolist()):
    print(f"{name:12} {share:.0%}")

# %% [markdown] 06-limits (limits)
r"""
## When it fails

A domain whose words are missing from the dictionary gets the nearest words that are there. A teacher with a small
scale, or one that is often wrong, picks names that are not in the pictures, and the student learns to tell those
apart. Names drawn at random are the extreme: hardly any of them fits, so that there is little to agree on that has to
do with the pictures.
"""

# %% [markdown] 06-recap (recap)
r"""
## Recap

The class list can be left out of the training as well: the teacher picks names for each batch from a large
dictionary. Whether that costs anything here, and what the cost comes from, is what the run printed.

1. Why does `select_classes` average probabilities and not logits?
2. What happens at K = 1, and at K = the whole dictionary?
3. Why does lost mass make the target too certain?

<details><summary>Answers</summary>

1. A name that is certain for one picture and absurd for the others should be kept; its mean logit is low.
2. At K = 1 both distributions are one name of probability one, and the loss is zero: nothing is learned. At K = the
   whole dictionary nothing is lost, and every step encodes thousands of names.
3. The softmax over K names shares out the lost probability among them, so each picked name gets more than the teacher
   gave it.

</details>
"""

# %% [markdown] 06-next (next)
r"""
Next: [07 · Which KL?](07_which_kl.ipynb). Source: Mistretta et al.,
[Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge
Distillation](https://arxiv.org/abs/2407.03056), 2024, and its poster (class selection).
"""
