# %% [markdown] 02-title (title)
r"""
# 02 · Wording and temperature: what do words and scale do to a distribution?

About 35 minutes to read and run, 15 for the exercise; about half a minute of computing. Needs:
[01](01_zero_shot.ipynb).
"""

# %% 02-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 02-cold (cold-open)
r"""
## The same picture, the same model

Below is one picture under two sentences, which differ in a few words around the class name. Nothing else differs:
neither the model nor the names.
"""

# %% 02-world (setup)
from kdpl_utils import checks, widgets

world = kd.load_world("emoji")
student = kd.load_vlm(*world.student)
scale, names = student.scale, world.classnames
choose = world.val  # to choose with; the test pictures only judge
labels = {"choose": choose.labels, "test": world.test.labels}
features = {"choose": kd.encode_images(student, choose.images), "test": kd.encode_images(student, world.test.images)}


def probabilities(template, part="test"):
    texts = kd.encode_names(student, names, [template])
    return kd.logits(features[part], texts, scale).softmax(-1).cpu()


# %% 02-cold-picture (cold-open)
sentences = ["a photo of a {}.", "an angry letter about {}."]
first, second = (probabilities(sentence) for sentence in sentences)
i = (first - second).abs().sum(-1).argmax().item()
plots.distributions(
    world.test.images[i],
    names,
    dict(zip(sentences, (first[i], second[i]))),
    label=names[labels["test"][i]],
    title="The test picture on which the two sentences differ most",
)

# %% [markdown] 02-objectives (objectives)
r"""
You will be able to **compare** sentences fairly, **tell** a gain from the luck of choosing, **compute** how honest a
model's confidence is, and **foresee** what a scale changes and what it never changes.

The claim to test: *the sentence that wins among ten keeps its lead on pictures it was not chosen on.* Its control: ten
sentences of nonsense go through the same choice. The verdict at the end is printed by the run.
"""

# %% [markdown] 02-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Scale and temperature”: words are done, and the sentence that won has
been judged elsewhere. What follows is about certainty and needs lesson 01 only.
"""

# %% [markdown] 02-words-why (why)
r"""
## Ten sentences, and ten of nonsense

A class is a sentence, and a sentence with a place for the name is a **template**. Somebody has to write it. Here are
ten that a person might write, and ten that nobody would. All are tried on the pictures that are there to choose with.
They are in another style than the test pictures, so a lead can be lost for two reasons: it was luck, or it held for one
style alone.
"""

# %% 02-words (run)
written = [
    "a photo of a {}.",
    "a drawing of a {}.",
    "a picture of a {}.",
    "an emoji of a {}.",
    "an icon of a {}.",
    "a sticker of a {}.",
    "a small {}.",
    "art of the {}.",
    "a blurry photo of a {}.",
    "{}",
]

# %% 02-nonsense (run)
nonsense = [
    "an angry letter about {}.",
    "the law of {} is late.",
    "seven of whom {}.",
    "never {} on a Monday.",
    "a rumour of no {}.",
    "under {} and sums.",
    "yes, {} was elected.",
    "why {} if tax?",
    "an echo, then {} again.",
    "to {} or to rent.",
]

# %% 02-words-predict (predict)
span = checks.predict(
    "span", "How far apart in top-1 are the best and the worst of the ten written ones?", 0, 40, "points"
)
span

# %% 02-words-run (run)
hits = {}  # for each sentence whether each picture is named rightly
for template in written + nonsense:
    for part in features:
        hits[template, part] = (probabilities(template, part).argmax(-1) == labels[part]).double()


def top1(template, part):
    return 100 * hits[template, part].mean().item()


on_choose = {
    "written": [top1(template, "choose") for template in written],
    "nonsense": [top1(template, "choose") for template in nonsense],
}
span.measured(max(on_choose["written"]) - min(on_choose["written"]))

# %% 02-words-picture (run)
plots.seed_dots(
    on_choose,
    top1(written[0], "choose"),
    "top-1 on the pictures to choose with, %",
    "Each dot a sentence",
    dots="sentences",
    line=written[0],
)

# %% [markdown] 02-words-see (see)
r"""
The dashed line is the usual sentence, "a photo of a …". If words did not matter, all dots would lie on it. Where a sentence
of nonsense lies to the right of a written one, meaning is not what decides.
"""

# %% [markdown] 02-luck-why (why)
r"""
## The winner, elsewhere

Ten sentences differ by what they are worth and by luck with the pictures at hand; the winner is likely to have had
both. So it is chosen on some pictures and judged on others. Five times, four pictures of each class are drawn to choose
with. Its *lead* is what it has above "a photo of a …" on the same pictures.
"""

# %% 02-luck-predict (predict)
luck = checks.predict(
    "luck",
    "On the test pictures, will the winner's mean lead be …",
    options=["larger than where it was chosen", "about the same", "smaller"],
)
luck


# %% 02-luck-run (run)
def choose_among(templates, seed):
    """The winner on four pictures of each class, its lead there and its lead on the test pictures."""
    rows = kd.few_shot(labels["choose"], 4, seed)
    score = {template: 100 * hits[template, "choose"][rows].mean().item() for template in templates}
    winner = max(score, key=score.get)
    lead = 100 * (hits[winner, "choose"] - hits[written[0], "choose"])[rows].mean().item()
    return winner, lead, top1(winner, "test") - top1(written[0], "test")


winners, where_chosen, elsewhere = zip(*[choose_among(written, seed) for seed in range(5)])
_, nonsense_where_chosen, nonsense_elsewhere = zip(*[choose_among(nonsense, seed) for seed in range(5)])
change = sum(elsewhere) / 5 - sum(where_chosen) / 5
luck.measured("about the same" if abs(change) < 0.5 else "smaller" if change < 0 else "larger than where it was chosen")
for winner, here, there in zip(winners, where_chosen, elsewhere):
    print(f"{winner:20} lead where chosen {here:+.1f} points, on the test pictures {there:+.1f}")
here, there = top1(written[0], "choose"), top1(written[0], "test")
print(f"{written[0]} is right for {here:.1f} % of the pictures to choose with, for {there:.1f} % of the test pictures")

# %% [markdown] 02-luck-see (see)
r"""
"About the same" means less than half a point apart. The lead on the test pictures is the honest one: a sentence that is
chosen and judged on the same pictures is reported with its luck. The last line says how much harder the test style is
for this model.
"""

# %% [markdown] 02-scale-why (why)
r"""
## Scale and temperature

Logits are cosines times the scale. Dividing logits by a **temperature** is the same knob turned the other way: a
temperature above one makes a model less sure. How undecided a distribution is, its **entropy** says,

$$H(p) = -\sum_c p_c \log p_c$$

in **nats**, for the natural logarithm: zero if all is on one name, $\log C$ if all $C$ names get the same.
"""

# %% 02-scale-predict (predict)
moves = checks.predict(
    "scale", "Ten times the scale: which of these changes?", options=["accuracy", "entropy", "both", "neither"]
)
moves

# %% 02-scale-run (run)
cosines = {part: kd.logits(x, kd.encode_names(student, names), 1.0).cpu() for part, x in features.items()}


def at_scale(scale, part="test"):
    probs = (scale * cosines[part]).softmax(-1)
    return kd.accuracy(probs, labels[part]), kd.entropy(probs).mean().item()


own = scale.item()
accuracy, entropy = at_scale(own)
accuracy_10, entropy_10 = at_scale(10 * own)
changed = [name for name, gap in {"accuracy": accuracy_10 - accuracy, "entropy": entropy_10 - entropy}.items() if gap]
moves.measured("both" if len(changed) == 2 else "neither" if not changed else changed[0])
print(f"scale {own:.1f}: top-1 {accuracy:.1%}, entropy {entropy:.2f} nats")
print(f"scale {10 * own:.1f}: top-1 {accuracy_10:.1%}, entropy {entropy_10:.2f} nats")

# %% [markdown] 02-ece-why (why)
r"""
## How honest?

The **calibration** of a model is good if it is right seven times in ten where it says seventy in a hundred. The
expected calibration error, **ECE**, puts the $N$ pictures into bins by confidence, the highest probability, and
averages the gaps. With $n_m$ pictures in bin $m$ it is

$$\mathrm{ECE} = \sum_m \frac{n_m}{N} \left|\,\text{accuracy}_m - \text{confidence}_m\right|$$
"""

# %% [markdown] 02-ece-task (task)
r"""
### Exercise: `expected_calibration_error`

From probabilities `(N, C)` and labels `(N,)` to the ECE, with bins of equal width. A picture with confidence $c$ lies
in bin $\lceil c \cdot \text{bins} \rceil$ (rounded up, so that a confidence of one is in the last bin); empty bins
count nothing.
"""


# %% 02-ece (exercise)
def expected_calibration_error(probs, labels, bins=15):
    """Σ over bins of their share of the pictures times |accuracy − confidence|; (N, C), (N,) → a number."""
    ...


expected_calibration_error = checks.expected_calibration_error(expected_calibration_error)


# %% 02-ece-solution (solution)
def expected_calibration_error(probs, labels, bins=15):
    """Σ over bins of their share of the pictures times |accuracy − confidence|; (N, C), (N,) → a number."""
    confidence, answer = probs.max(-1)
    right = (answer == labels).float()
    place = (confidence * bins).ceil()
    total = 0.0
    for m in range(1, bins + 1):
        inside = place == m
        if inside.any():
            total += inside.float().mean() * (right[inside].mean() - confidence[inside].mean()).abs()
    return float(total)


expected_calibration_error = checks.expected_calibration_error(expected_calibration_error)

# %% [markdown] 02-ece-instructor (instructor)
r"""
**For the instructor.** The commonest misconception is that a calibrated model is a good one. Ask what the ECE is of a
model that gives every name the same probability on a test with equally many pictures of each class.
"""

# %% 02-ece-predict (predict)
kindest = checks.predict(
    "kindest", "At which scale is the ECE smallest on the pictures to choose with?", 1, 200, "", step=1
)
kindest

# %% 02-ece-run (run)
import pandas as pd

scales = sorted([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, own])
table = {}
for s in scales:
    ece = {part: float(expected_calibration_error((s * x).softmax(-1), labels[part])) for part, x in cosines.items()}
    right, nats = at_scale(s)
    table[f"{s:.3g}"] = {"top-1, %": 100 * right, "entropy, nats": nats, "ECE to choose, %": 100 * ece["choose"]}
    table[f"{s:.3g}"]["ECE on test, %"] = 100 * ece["test"]
table = pd.DataFrame(table).T.rename_axis("scale")
best_scale = float(table["ECE to choose, %"].idxmin())
kindest.measured(best_scale)
table.round(1)

# %% [markdown] 02-ece-see (see)
r"""
One column never moves. Read the others downwards: with the scale the model becomes surer, entropy falls, and the ECE
has its smallest value somewhere in between. The last two columns are of different pictures: see whether they agree.
"""

# %% 02-explore (widget)
averaged = kd.logits(features["test"], kd.encode_names(student, names, written), 1.0).cpu()
both = {"a photo of a": cosines["test"], "ten averaged": averaged}
widgets.temperature(world.test.images, names, both, labels["test"], own)

# %% [markdown] 02-explore-moves (moves)
r"""
Three moves to make:

1. Move the scale to its left end, then to its right end. Which bar was first, before and after?
2. Stop where the curve at the right lies nearest to the diagonal. How undecided is the picture there?
3. Switch the templates to the ten averaged ones. Does the same scale still suit?

Notice that the bars of one picture and the curve of all pictures move together, and that the order of the bars stays.
"""

# %% 02-signature (signature)
scales_shown = {"a tenth of its own": own / 10, "its own scale": own, "ten times its own": 10 * own}
curves = {
    what: kd.reliability_curve((s * cosines["test"]).softmax(-1), labels["test"]) for what, s in scales_shown.items()
}
plots.reliability(curves, "One model, three scales")

# %% 02-verdict (verdict)
print(kd.claim("the winner's lead, on test pictures against where it was chosen", where_chosen, elsewhere))
print(kd.claim("the same for nonsense", nonsense_where_chosen, nonsense_elsewhere))
print(kd.claim("the winner against 'a photo of a', test pictures", 0.0, elsewhere))
honest = {s: table.loc[f"{s:.3g}", "ECE on test, %"] for s in (own, best_scale)}
for whose, s in {"the model's own": own, "the chosen": best_scale}.items():
    print(f"ECE on test at {whose} scale, {s:.3g}: {honest[s]:.1f} %")
checks.summary()

# %% [markdown] 02-suspect-why (try)
r"""
## If the claim falls: luck, or the style?

A lead that is lost on the test can have been luck with the few pictures it was chosen on, or the sentence suits the
style of their drawings. The pictures of the same style that it was *not* chosen on tell the two apart: what is lost there
already was luck; what is lost from there to the test belonged to the style.
"""


# %% 02-suspect (try)
def lead_beside(winner, seed):
    """The winner's lead on the pictures of the same style that it was not chosen on."""
    others = torch.ones(len(labels["choose"]), dtype=torch.bool)
    others[kd.few_shot(labels["choose"], 4, seed)] = False
    return 100 * (hits[winner, "choose"] - hits[written[0], "choose"])[others].mean().item()


beside = [lead_beside(winner, seed) for seed, winner in enumerate(winners)]
print(kd.claim("the same style's other pictures against where it was chosen", where_chosen, beside))
print(kd.claim("the test against the same style's other pictures", beside, elsewhere))

# %% [markdown] 02-try-why (try)
r"""
## Try it yourself

Write a sentence of your own, with `{}` for the name. Is it better than "a photo of a …"? If you try ten,
remember what the verdict said of winners.
"""

# %% 02-try (try)
mine = "a tiny {} on a table."
for template in (written[0], mine):
    share = kd.accuracy(probabilities(template), labels["test"])
    print(f"{template:26} {share:.1%} of the test pictures")

# %% [markdown] 02-limits (limits)
r"""
## When it fails

One scale for all pictures can be right on average and wrong for each kind of picture. A scale chosen here need not
suit other pictures, shifted ones least of all. And an honest model is not yet a good one: who gives every name the same
probability can be perfectly calibrated.
"""

# %% [markdown] 02-recap (recap)
r"""
## Recap

Words move a distribution, and which words win depends on the pictures one chooses on. A scale moves certainty and
honesty, and never the first answer.

1. Why is a sentence not judged on the pictures that it was chosen on?
2. Why can no scale repair a wrong first answer?
3. What is the entropy of a distribution that gives all names the same?

<details><summary>Answers</summary>

1. The winner of several was also lucky on those pictures; elsewhere the luck is gone.
2. Multiplying all logits by one positive number leaves their order.
3. The logarithm of the number of names, the largest there is.

</details>
"""

# %% [markdown] 02-next (next)
r"""
Next: if a few words matter that much, why should they be words? [CoOp](03_coop.ipynb) learns what stands in their
place. Sources: Radford et al., [CLIP](https://arxiv.org/abs/2103.00020), 2021; Guo et al.,
[On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599), 2017.
"""
