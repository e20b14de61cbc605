# %% [markdown] 03-title (title)
r"""
# 03 · CoOp: can a handful of numbers replace the words, and what breaks?

About 45 minutes to read and run, 15 for the exercises; a minute or two of computing. Needs: [01](01_zero_shot.ipynb).
"""

# %% 03-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 03-cold (cold-open)
r"""
## Before and after

A test picture, and what the student says of it, before and after it looked at a few labelled pictures of some classes.
No weight of the student changed in between. A few hundred numbers did, and they stand where the words "a photo of a"
stood.
"""

# %% 03-world (setup)
from torch.nn import functional as F

from kdpl_utils import PromptLearner, Recipe, checks, widgets

world = kd.load_world("emoji")
student = kd.load_vlm(*world.student)
scale, recipe = student.scale, Recipe(**world.recipe)
base_names = [world.classnames[c] for c in world.base]
tests = kd.test_features(student, world)
train = world.train.of_classes(world.base)
features = kd.encode_images(student, train.images)  # (N, D)
labels = train.labels.to(student.device)


def coop(prompt, batch):
    """The loss of a batch of indices (B,), opened below."""
    return F.cross_entropy(kd.logits(features[batch], prompt(base_names), scale), labels[batch])


# %% 03-cold-picture (cold-open)
first = PromptLearner(student)
kd.learn(first, coop, labels, seed=100, recipe=recipe)
seen, truth = tests.base
texts = {"student before": kd.encode_names(student, base_names), "student after": first(base_names).detach()}
p = {role: kd.logits(seen, text, scale).softmax(-1).cpu() for role, text in texts.items()}
of_label = {role: rows.gather(1, truth.cpu()[:, None])[:, 0] for role, rows in p.items()}
i = (of_label["student after"] - of_label["student before"]).argmax().item()
plots.distributions(
    world.test.of_classes(world.base).images[i],
    base_names,
    {role: rows[i] for role, rows in p.items()},
    label=base_names[truth[i]],
    title="The test picture whose label gained most",
)

# %% [markdown] 03-objectives (objectives)
r"""
You will be able to **explain** what a learned **context** is, **train** one with labels, **choose** how fast it learns
without a look at any test, and **measure** what it does to names that it was never trained with.

Three claims to test, printed at the end by the run: *labels raise the accuracy on the classes that they name*; *they
lower it on the others*; *no sentence written by hand does as well.* Their controls: the same prompt before the first
step, and the best of ten sentences.
"""

# %% [markdown] 03-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “How many labels?”: both halves have been watched over the epochs, which
is the lesson's point. Shots and words behind vectors are a second hour.
"""

# %% [markdown] 03-open-why (why)
r"""
## The context, opened

A sentence reaches the text tower as vectors, one a token: a start, "a photo of a", the name, a full stop, an end. CoOp
takes the four vectors of "a photo of a" out of the model's table and lets gradient descent move them: they are the
**context**. Everything else stays frozen.

The names are no part of it. One context serves every list of names, also one that it was never trained with.
"""

# %% 03-open-predict (predict)
apart = checks.predict(
    "step 0",
    "Before the first step: how far are such features from those of the sentence itself?",
    options=["rounding", "a little", "far"],
)
apart

# %% [markdown] 03-open-task (task)
r"""
### Exercise: `splice_context`

C sentences have been embedded as (C, L, d): the start token, n placeholders, the name, the end. Put the context (n, d)
where the placeholders are, and let the gradient reach it.
"""


# %% 03-open (exercise)
def splice_context(token_embeddings, ctx):
    """Positions 1…n become the context; (C, L, d), (n, d) → (C, L, d)."""
    ...


splice_context = checks.splice_context(splice_context)


# %% 03-open-solution (solution)
def splice_context(token_embeddings, ctx):
    """Positions 1…n become the context; (C, L, d), (n, d) → (C, L, d)."""
    start = token_embeddings[:, :1]
    rest = token_embeddings[:, 1 + len(ctx) :]
    vectors = ctx.expand(len(token_embeddings), -1, -1)
    return torch.cat([start, vectors, rest], dim=1)


splice_context = checks.splice_context(splice_context)

# %% [markdown] 03-open-instructor (instructor)
r"""
**For the instructor.** Ask why the placeholders have to be there at all: the position of every later token, and so of
the end token whose state is the feature, depends on how many vectors stand in front of it.
"""

# %% 03-open-run (run)
from kdpl_utils.clip.fast_text import text_tower

tower = text_tower(student.model)


@torch.no_grad()
def read(embeddings, tokens):
    """Unit features (C, D) of embedded sentences (C, L, d), by the tower's own parts."""
    states = tower.transformer(embeddings + tower.positional_embedding, attn_mask=tower.attn_mask)
    ends = tower.ln_final(states)[torch.arange(len(states)), tokens.argmax(-1)]  # the end token has the highest id
    return F.normalize(ends @ tower.text_projection, dim=-1)


novel_names = [world.classnames[c] for c in world.novel]
prompt = PromptLearner(student, ctx_init="a photo of a")
tokens = student.tokenizer([f"x x x x {name}." for name in novel_names]).to(student.device)
spliced = splice_context(tower.token_embedding(tokens), prompt.ctx)
sentences = kd.encode_names(student, novel_names, ["a photo of a {}."])
difference = (read(spliced, tokens) - sentences).abs().max().item()
apart.measured("rounding" if difference < 1e-4 else "a little" if difference < 0.1 else "far")

# %% 03-open-count (run)
largest = (prompt(novel_names) - sentences).abs().max().item()
frozen = sum(p.numel() for p in student.model.parameters())
print(f"the library's prompt and the sentence differ by {largest:.0e} at most")
print(f"context {tuple(prompt.ctx.shape)}: {prompt.ctx.numel()} numbers are learned, {frozen:,} stay frozen")

# %% [markdown] 03-open-see (see)
r"""
At step 0 CoOp *is* zero-shot: what it gains or loses afterwards is due to training alone.
"""

# %% [markdown] 03-loss-why (why)
r"""
## CoOp in one function

The pictures never change and the image tower is frozen, so their features were computed once. The loss of a batch is
the cross-entropy of its labels, among the base names only. A **shot** is one training picture of a class: here is a
first batch with one shot, and where its gradient arrives.
"""

# %% 03-loss-run (run)
batch = kd.few_shot(labels, shots=1, seed=0)
loss = coop(prompt, batch)
loss.backward()
print(f"{len(batch)} pictures, loss {loss.item():.2f} nats ({torch.tensor(len(base_names)).log():.2f} is a guess)")
print("a gradient arrived at:", [name for name, p in prompt.named_parameters() if p.grad is not None])
print("and at", sum(p.grad is not None for p in student.model.parameters()), "tensors of the model")

# %% [markdown] 03-rate-why (why)
r"""
## How fast to learn

The published recipe is made for a model of another size, so the learning rate has to be chosen, and not on the test.
`world.val` is an ink style of its own, neither learned from nor tested on. Two **seeds** that are used nowhere else learn
with each rate and are judged there: a seed is a number from which every random choice of a run follows, which shots and
in which order.
"""

# %% 03-rate-predict (predict)
rates = (0.003, 0.0125, 0.05, 0.2)
fast = checks.predict("rate", "Which learning rate does best on val?", options=[str(rate) for rate in rates])
fast

# %% 03-rate-run (run)
from dataclasses import replace

val = world.val.of_classes(world.base)
val_features = kd.encode_images(student, val.images)


def on_val(text):
    return 100 * kd.accuracy(kd.logits(val_features, text, scale), val.labels)


def trained(seed, recipe, shots=16, on_epoch=None):
    """A new prompt that learned from labels, and the history of its training."""
    prompt = PromptLearner(student)
    return prompt, kd.learn(prompt, coop, labels, seed, recipe, shots, on_epoch)


# %% 03-rate-choose (run)
reached = {}
for rate in rates:
    learned = [trained(seed, replace(recipe, lr=rate))[0] for seed in (11, 12)]
    reached[str(rate)] = [on_val(prompt(base_names).detach()) for prompt in learned]
fast.measured(max(reached, key=lambda rate: sum(reached[rate])))
print(f"zero-shot: {on_val(kd.encode_names(student, base_names)):.1f} % of val")
for rate, values in reached.items():
    print(f"{'→' if float(rate) == recipe.lr else ' '} rate {rate}: {' and '.join(f'{v:.1f}' for v in values)} %")

# %% [markdown] 03-rate-see (see)
r"""
The arrow marks the rate of `world.recipe`, which was fixed for all groups of this world by labels alone; every later
lesson takes it for every method. One group and two seeds may prefer another: compare what rates differ by with what
seeds differ by. Whoever chose by the test, or by KDPL, would be helping one side.
"""

# %% [markdown] 03-train-why (why)
r"""
## Train, and watch both halves

Five seeds draw 16 shots of each base class, from two ink styles. The test is a third ink style. After each epoch both
halves are tested: the **base** names that were learned with, and the **novel** ones that were not.
"""

# %% 03-train-predict (predict)
gain = checks.predict("gain", "How many points does CoOp gain on the base classes?", -20, 40, "points")
gain

# %% 03-train-novel-predict (predict)
others = checks.predict(
    "novel", "And the novel classes, which no label named?", options=["higher", "lower", "no difference seen"]
)
others

# %% 03-train-run (run)
contexts = []  # of every epoch, seed after seed


def watch(prompt):
    contexts.append(prompt.ctx.detach().clone())
    row = kd.scores(tests, world, prompt, scale)
    return {"base": row["base"], "novel": row["novel"]}


runs = [trained(seed, recipe, on_epoch=watch) for seed in range(5)]
rows = [kd.scores(tests, world, prompt, scale) for prompt, _ in runs]
zero_shot = kd.scores(tests, world, lambda names: kd.encode_names(student, names), scale)
print(f"{sum(history.seconds for _, history in runs):.0f} s for {len(runs)} runs of {len(runs[0][1].loss)} steps")


# %% 03-train-measured (run)
def seen_in(column, before, after):
    """The difference over seeds in words."""
    _, low, high = kd.paired_interval([before[column]] * len(after), [row[column] for row in after])
    return "higher" if low > 0 else "lower" if high < 0 else "no difference seen"


gain.measured(sum(row["base"] - zero_shot["base"] for row in rows) / len(rows))
others.measured(seen_in("novel", zero_shot, rows))

# %% 03-curves (run)
curves = {half: [history.metrics[half] for _, history in runs] for half in ("base", "novel")}
plots.learning_curves(curves, zero_shot)

# %% [markdown] 03-curves-see (see)
r"""
The dashed line is "a photo of a", each thin curve a seed. In its first epoch the recipe warms up with steps so small that
nothing is to be seen. Ask of each half: is the end of the curve also its best point? Do the seeds agree?
"""

# %% [markdown] 03-h-task (task)
r"""
### Exercise: `harmonic_mean`

Two accuracies, one number. H is high only if both are: it lies near the smaller of the two.
"""


# %% 03-h (exercise)
def harmonic_mean(base, novel):
    """2 · base · novel / (base + novel), and 0 where both are 0."""
    ...


harmonic_mean = checks.harmonic_mean(harmonic_mean)


# %% 03-h-solution (solution)
def harmonic_mean(base, novel):
    """2 · base · novel / (base + novel), and 0 where both are 0."""
    total = base + novel
    return 2 * base * novel / total if total else 0.0


harmonic_mean = checks.harmonic_mean(harmonic_mean)

# %% 03-h-run (run)
for what, row in {"zero-shot": zero_shot, **{f"CoOp, seed {seed}": row for seed, row in enumerate(rows)}}.items():
    base, novel = row["base"], row["novel"]
    print(
        f"{what}: base {base:.1f}, novel {novel:.1f}, mean {(base + novel) / 2:.1f}, H {harmonic_mean(base, novel):.1f}"
    )

# %% [markdown] 03-shots-why (why)
r"""
## How many labels?

One, four or sixteen shots a class, three seeds, and the same number of steps for each, so that nothing but the pictures
differs. With few shots each of them is looked at more often.
"""

# %% 03-shots-predict (predict)
enough = checks.predict(
    "shots", "How many shots give half of what 16 give on the base classes?", options=["1", "4", "16"]
)
enough

# %% 03-shots-run (run)
by_shots = {}
for shots in (1, 4):
    longer = replace(recipe, epochs=recipe.epochs * 16 // shots)
    learned = [trained(seed, longer, shots)[0] for seed in range(3)]
    by_shots[shots] = [kd.scores(tests, world, prompt, scale) for prompt in learned]
by_shots[16] = rows[:3]  # of the same seeds
gains = {shots: sum(row["base"] - zero_shot["base"] for row in found) for shots, found in by_shots.items()}
reached = [str(shots) for shots in gains if gains[shots] >= gains[16] / 2]
enough.measured(reached[0] if gains[16] > 0 else "none, as 16 gain nothing here")

# %% 03-shots-picture (run)
halves = ("base", "novel")
after = {
    f"{shots} a class": {half: [row[half] for row in found] for half in halves} for shots, found in by_shots.items()
}
plots.slopes({half: zero_shot[half] for half in halves}, after)

# %% [markdown] 03-shots-see (see)
r"""
Look also at how far the seeds lie apart: which pictures a seed has drawn may matter as much as how many.
"""

# %% [markdown] 03-words-why (why)
r"""
## What do the vectors mean?

The nearest words of the vocabulary are a tempting reading. If the vectors meant these words, another seed, with other
pictures of the same classes, should find much the same ones.
"""

# %% 03-words-predict (predict)
agree = checks.predict("words", "Of five seeds, how many agree on the word nearest to the first vector?", 1, 5, "seeds")
agree

# %% 03-words-run (run)
import pandas as pd

started = ["a", "photo", "of", "a"]
nearest = [kd.nearest_words(student, prompt.ctx, k=1) for prompt, _ in runs]  # of each seed, for each vector
first_words = [words[0][0] for words in nearest]
agree.measured(max(first_words.count(word) for word in first_words))
table = {f"seed {seed}": [words[0] for words in of_seed] for seed, of_seed in enumerate(nearest)}
at_start = PromptLearner(student).ctx
moved = (runs[0][0].ctx - at_start).norm(dim=-1) / at_start.norm(dim=-1)
table["seed 0 moved by"] = [f"{share:.0%} of its length" for share in moved.tolist()]
pd.DataFrame(table, index=[f"vector {i} (was “{word}”)" for i, word in enumerate(started, 1)])

# %% [markdown] 03-words-see (see)
r"""
Judge for yourself how much such words say; many are pieces of words, which the vocabulary also holds. A vector may
have moved far from every word and still have its old one nearest.
"""

# %% 03-explore (widget)
from kdpl_utils.clip.vectors import distances_to_words

steps = [at_start.detach(), *contexts[: len(curves["base"][0])]]  # of the first seed
replay, seen_as = PromptLearner(student), []
with torch.no_grad():
    for ctx in steps:
        replay.ctx.copy_(ctx)
        seen_as.append(replay(world.classnames))
over_time = {half: [zero_shot[half], *curves[half][0]] for half in curves}
words = [kd.nearest_words(student, ctx, k=5) for ctx in steps]
distances = torch.stack([distances_to_words(student, ctx).topk(5, largest=False).values for ctx in steps]).cpu()
widgets.context_step(words, distances, torch.stack(seen_as), over_time, started)

# %% [markdown] 03-explore-moves (moves)
r"""
Three moves to make:

1. Put the training epoch to zero, then move it on one by one: when does most happen?
2. Go through the four context vectors at the last epoch. Which has moved furthest from every word?
3. Watch the middle panel while the epochs pass: do the class names drift apart or together?

Notice how little the nearest words tell of what the accuracies do: what is learned lies between the words.
"""

# %% [markdown] 03-hand-why (why)
r"""
## Could somebody have written it?

A context that beats one sentence may only show that the sentence was bad. So ten sentences that somebody might write for
such pictures are judged on `world.val`, as the learning rate was, and the best of them goes to the test.
"""

# %% 03-hand-predict (predict)
written = checks.predict("written", "How far above “a photo of a …” is the best of ten on val?", 0, 20, "points")
written

# %% 03-hand-run (run)
from kdpl_utils.worlds.emoji import HAND_WRITTEN_TEMPLATES

reached = {t: on_val(kd.encode_names(student, base_names, [t])) for t in HAND_WRITTEN_TEMPLATES}
best = max(reached, key=reached.get)
written.measured(reached[best] - reached["a photo of a {}."])
by_hand = kd.scores(tests, world, lambda names: kd.encode_names(student, names, [best]), scale)
for template, value in sorted(reached.items(), key=lambda item: -item[1]):
    print(f"{'→' if template == best else ' '} {value:.1f} % of val   {template}")

# %% [markdown] 03-colour-why (why)
r"""
## How far does it carry, and what does it cost in colour?

A context learned from two ink styles may have learned their drawings, ink, or both. So it is tested ever further away:
other views of the training drawings, the style of `world.val`, the test's style, and the *shifts*: colour styles that no
model saw. The student knew colour before; forgetting what one could is a price that no number on ink shows.
"""

# %% 03-colour-predict (predict)
price = checks.predict("colour", "Base classes in colour: how many points does CoOp gain or lose?", -30, 30, "points")
price


# %% 03-colour-run (run)
def places(seed):
    """Base pictures ever further from the shots of a seed, with their labels."""
    left_out = torch.ones(len(labels), dtype=torch.bool)
    left_out[kd.few_shot(labels, 16, seed)] = False
    found = {
        "training styles, other views": (features[left_out], labels[left_out]),
        "val's style": (val_features, val.labels),
        "test's style": tests.base,
    }
    for style, (base, _) in tests.shifts.items():
        found[f"in colour: {style}"] = base
    return found


# %% 03-colour-gain (run)
carried, sentence = {}, kd.encode_names(student, base_names)
for seed, (prompt, _) in enumerate(runs):
    text = prompt(base_names).detach()
    for where, (pictures, truth) in places(seed).items():
        before, after = (kd.accuracy(kd.logits(pictures, t, scale), truth) for t in (sentence, text))
        carried.setdefault(where, []).append(100 * (after - before))
price.measured(sum(row["base shifted"] - zero_shot["base shifted"] for row in rows) / len(rows))

# %% 03-colour-picture (run)
plots.seed_dots(carried, 0, "gain over zero-shot on base classes, points", "From near to far, five seeds")

# %% [markdown] 03-colour-see (see)
r"""
The line is zero-shot. Where the dots move left from row to row, what was learned belongs to the styles that it was
learned from. In the table below, the **standard deviation** over seeds stands behind ±. In the plot after it "shifted"
is the mean over colour styles, and ECE is the one column in which less is better.
"""

# %% 03-table (results)
table = {
    "zero-shot student": {"labels a class": 0, "trained numbers": 0, **kd.summarise([zero_shot])},
    "best of ten sentences": {"labels a class": 0, "trained numbers": 0, **kd.summarise([by_hand])},
    "CoOp": {"labels a class": 16, "trained numbers": prompt.ctx.numel(), **kd.summarise(rows)},
}
pd.DataFrame(table).T


# %% 03-signature (signature)
def against(before):
    """Every column's difference over seeds, with its interval."""
    return {c: kd.paired_interval([before[c]] * len(rows), [row[c] for row in rows]) for c in before}


compared = {"CoOp − zero-shot": against(zero_shot), "CoOp − best sentence": against(by_hand)}
plots.forest(compared, title="What 16 labels a class do")

# %% 03-verdict (verdict)
base, novel = ([row[half] for row in rows] for half in ("base", "novel"))
print(kd.claim("CoOp against zero-shot, base", zero_shot["base"], base))
print(kd.claim("CoOp against zero-shot, novel", zero_shot["novel"], novel))
print(kd.claim("CoOp against the best of ten sentences, base", by_hand["base"], base))
checks.summary()

# %% [markdown] 03-suspect-why (try)
r"""
## If the first claim falls: a suspect, tested

*No difference seen* on the base classes does not say that nothing was learned. The suspect: what was learned belongs to
the two styles that the shots came from, and the test is another style. Then the gain is there on other views of the
training drawings, and it is smaller on the test's style with every seed.
"""

# %% 03-suspect (try)
near, far = carried["training styles, other views"], carried["test's style"]
print(kd.claim("CoOp against zero-shot, base, training styles", 0.0, near))
print(kd.claim("the same gain, test's style against training styles", near, far))

# %% [markdown] 03-try-why (try)
r"""
## Try it yourself

Start from words of your own, as many as you like: each token becomes a vector. Does another start end elsewhere?
"""

# %% 03-try (try)
mine = PromptLearner(student, ctx_init="black ink on white paper")
kd.learn(mine, coop, labels, seed=0, recipe=recipe)
my_rows = {"from your words": kd.summarise([kd.scores(tests, world, mine, scale)])}
pd.DataFrame({"from “a photo of a”": kd.summarise(rows[:1]), **my_rows}).T

# %% [markdown] 03-limits (limits)
r"""
## When it fails

A context is shared by all names, so it can say "this is ink", and hardly "this one is a pear". The intervals are over
five seeds, that is, over draws of pictures and their order: they say nothing of other classes, other styles or other
students. And every shot needs somebody who knows its name, which is what the next lessons do without.
"""

# %% [markdown] 03-recap (recap)
r"""
## Recap

A handful of numbers can stand where the words stood. What that is worth on the classes that were labelled, on the
others and in colour, the run has printed.

1. Which tensors change during training?
2. Why does the prompt take the class names as an argument?
3. Why is the learning rate not chosen on the test pictures?

<details><summary>Answers</summary>

1. The context alone; both towers stay frozen.
2. So that one context serves any list of names, and can be tested on novel ones.
3. The best of several rates has also been lucky on the pictures that chose it; the test would flatter it.

</details>
"""

# %% [markdown] 03-next (next)
r"""
Next: [Distillation](04_distillation.ipynb) asks what a teacher says that a label cannot. Sources: Zhou et al.,
[Learning to Prompt for Vision-Language Models](https://arxiv.org/abs/2109.01134), 2022; Zhou et al.,
[Conditional Prompt Learning](https://arxiv.org/abs/2203.05557), 2022.
"""
