# %% [markdown] 01-title (title)
r"""
# 01 · Zero-shot: how can a model name drawings it has never seen?

About 35 minutes to read and run, 15 for the exercises; about a minute of computing. Needs: [00](00_start_here.ipynb).
"""

# %% 01-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 01-cold (cold-open)
r"""
## The same things, drawn twice

In the upper row in colour, in the lower in ink, on paper of any tint. One model, the *student*, was asked which of
eight names each picture has. It had never seen any of these drawings, and nobody told it which names there are until it
was asked.
"""

# %% 01-world (setup)
from kdpl_utils import checks, widgets

world = kd.load_world("emoji")
student, teacher = kd.load_vlm(*world.student), kd.load_vlm(*world.teacher)
names = world.classnames
eight = range(0, len(names), -(-len(names) // 8))
eight_names = [names[c] for c in eight]


def one_of_each(split):
    labels = split.labels.tolist()
    return [split.images[labels.index(c)] for c in eight]


colour, *_ = world.shifts.values()
rows = {"colour": one_of_each(colour), "ink": one_of_each(world.test)}

# %% 01-cold-picture (cold-open)
eight_texts = kd.encode_names(student, eight_names)
captions = []
for images in rows.values():
    answers = kd.logits(kd.encode_images(student, images), eight_texts, student.scale).softmax(-1).max(-1)
    for k, (p, c) in enumerate(zip(answers.values, answers.indices)):
        mark = "✓" if c == k else "✗"
        captions.append(f"{mark} “{eight_names[c]}”\n{p:.0%} sure")
shown = [image for images in rows.values() for image in images]
plots.picture_row(shown, captions, f"What the student calls {len(eight)} things: {', then '.join(rows)}")

# %% [markdown] 01-objectives (objectives)
r"""
You will be able to **explain** what such a model compares, **compute** its probabilities from vectors, **judge** how
often it is right and how sure it is, and **measure** what it lacks.

The claim to test: *the student names ink less often than colour, and there a teacher that has seen ink knows more.* Its
control: the same names, each handed to another class. The verdict at the end is printed by the run.

Nothing is learned in this lesson. What it measures is the ground that every learned prompt has to beat.
"""

# %% [markdown] 01-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Where it fails”: everybody has named pictures with two models. What
follows looks at single mistakes and at the gap, and can be read at home.
"""

# %% [markdown] 01-vectors-why (why)
r"""
## Pictures and sentences become vectors

CLIP has two towers: one turns a picture into a vector, the other a sentence. Such a vector, made one long, is a
**feature**. The product of two features is their **cosine**: one for the same direction, zero for nothing in common.

No list of classes is built in. A class is a sentence, here "a photo of a …", and whoever asks brings the sentences.
Naming without a single training picture is called **zero-shot**.
"""

# %% 01-vectors-predict (predict)
own = checks.predict("own cosine", "What is the cosine of a picture with its own name, on average?", -1, 1, "")
own

# %% 01-vectors-run (run)
image_features = kd.encode_images(student, rows["ink"])  # (8, D)
cosines = (image_features @ eight_texts.T).cpu()  # (8, 8)
is_own = torch.eye(len(eight), dtype=torch.bool)
own.measured(cosines[is_own].mean())
print(f"with the other names {cosines[~is_own].mean():.2f}")
print(f"the highest here {cosines.max():.2f}; a feature's length {image_features[0].norm():.2f}")

# %% 01-vectors-picture (run)
plots.similarity_heatmap(rows["ink"], eight_names, cosines)

# %% [markdown] 01-vectors-see (see)
r"""
Read along a row: the brightest cell is the answer, and it is the right one where it lies on the diagonal. A cosine of
one is nowhere; what counts is which name lies nearest, not how near it is.
"""

# %% [markdown] 01-sentences-why (why)
r"""
## Several sentences for one name

A name may stand in more than one sentence. Then each sentence becomes a vector of length one, these are averaged, and
the average is made one long again: otherwise a sentence with a long vector would speak louder.
"""

# %% [markdown] 01-sentences-task (task)
r"""
### Exercise: `encode_names`

From a model, C names and some sentences with `{}` for the name to the features (C, D). `kd.vlm.encode_texts(vlm, texts)`
gives the vectors of finished sentences as they leave the tower.
"""

# %% 01-sentences (exercise)


def encode_names(vlm, names, templates):
    """(C, D) unit features: the mean over sentences of unit features, made unit again."""
    ...


encode_names = checks.encode_names(encode_names)

# %% 01-sentences-solution (solution)


def encode_names(vlm, names, templates):
    """(C, D) unit features: the mean over sentences of unit features, made unit again."""
    total = 0
    for template in templates:
        vectors = kd.vlm.encode_texts(vlm, [template.format(name) for name in names])
        total = total + torch.nn.functional.normalize(vectors, dim=-1)
    return torch.nn.functional.normalize(total, dim=-1)


encode_names = checks.encode_names(encode_names)

# %% 01-sentences-run (run)
one, three = ["a photo of a {}."], ["a photo of a {}.", "a drawing of a {}.", "{}"]
several = encode_names(student, names, three)
single = encode_names(student, names, one)
print(f"one sentence and three: cosine {(several * single).sum(-1).mean():.2f} for the same name, on average")
print(f"two names, one sentence: {(single @ single.T)[0, 1:].mean():.2f} between {names[0]} and another, on average")

# %% [markdown] 01-sentences-see (see)
r"""
Compare the two cosines: what moves a feature further, other words around the name, or another name? Whether those words
matter all the same is the question of lesson 02; until then there is one sentence, "a photo of a …".
"""

# %% [markdown] 01-logits-why (why)
r"""
## From cosines to probabilities

A **softmax** makes numbers positive and lets them sum to one: each becomes its exponential, divided by the sum of all.
Cosines lie close together, and their softmax is nearly the same for every name. So CLIP multiplies them by a
number that it learned, its **scale**; what comes out is called a **logit**.

The model keeps the scale's logarithm, `logit_scale`, so that it stays positive while it is learned.
"""

# %% 01-logits-predict (predict)
changed = checks.predict("times 100", "For what share of pictures does multiplying by 100 change the top answer?")
changed

# %% [markdown] 01-logits-task (task)
r"""
### Exercise: `logits`

From vectors of any length, pictures (N, D) and names (C, D), and from `logit_scale`, to the logits (N, C).
"""


# %% 01-logits (exercise)
def logits(image_features, text_features, logit_scale):
    """exp(logit_scale) · cosine; (N, D), (C, D), a number → (N, C)."""
    ...


logits = checks.logits(logits)


# %% 01-logits-solution (solution)
def logits(image_features, text_features, logit_scale):
    """exp(logit_scale) · cosine; (N, D), (C, D), a number → (N, C)."""
    images = torch.nn.functional.normalize(image_features, dim=-1)
    texts = torch.nn.functional.normalize(text_features, dim=-1)
    return logit_scale.exp() * images @ texts.T


logits = checks.logits(logits)

# %% [markdown] 01-logits-instructor (instructor)
r"""
**For the instructor.** Most wrong answers forget the exponential or normalise the wrong axis. Ask what a row of the
result sums to before and after the softmax, and why a picture must not depend on its neighbours in the batch.
"""

# %% 01-both-run (run)
models = {"student": student, "teacher": teacher}
texts = {role: kd.encode_names(vlm, names) for role, vlm in models.items()}
features, labels, probs = {}, {}, {}
tests = {role: kd.test_features(vlm, world) for role, vlm in models.items()}
for role, vlm in models.items():
    for style, halves in {"ink": (tests[role].base, tests[role].novel), **tests[role].shifts}.items():
        # Tests are kept in two halves of the names, which part ways below; here they are one.
        (first, first_labels), (second, second_labels) = halves
        features[role, style] = torch.cat([first, second])
        labels[style] = torch.cat([first_labels, second_labels + len(world.base)]).cpu()
        z = logits(features[role, style], texts[role], vlm.model.logit_scale)
        probs[role, style] = z.softmax(-1).cpu()
in_second = (world.test.labels >= len(world.base)).int()
ink = world.test.subset(in_second.argsort(stable=True))  # the pictures in the order of these features
print(f"{len(ink)} pictures in ink, {len(world.shifts)} sets of drawings in colour, {len(names)} names")

# %% 01-logits-run (run)
cosines = (features["student", "ink"] @ texts["student"].T).cpu()
top = cosines.argmax(-1)
changed.measured(100 * ((100 * cosines).argmax(-1) != top).double().mean())
for factor in (1, student.scale.item(), 100):
    p = (factor * cosines).softmax(-1)
    print(f"× {factor:.0f}: {p.amax(-1).mean():.0%} for the top answer, on average ({1 / len(names):.0%} is a guess)")

# %% [markdown] 01-logits-see (see)
r"""
No factor above zero changes an order, so none changes an answer. It changes how sure the model sounds, and soon that
will matter more than it seems.
"""

# %% [markdown] 01-two-why (why)
r"""
## One picture, two models

The *teacher* is larger, and it saw ink when it was trained; the student saw only colour. Each has features of its own,
which cannot be compared with the other's. Their probabilities can, for both speak about the same names.
"""

# %% 01-two-picture (run)
of_label = {role: probs[role, "ink"].gather(1, ink.labels[:, None])[:, 0] for role in models}
i = (of_label["teacher"] - of_label["student"]).argmax().item()
plots.distributions(
    ink.images[i],
    names,
    {"teacher": probs["teacher", "ink"][i], "student": probs["student", "ink"][i]},
    label=names[ink.labels[i]],
    title="The picture in ink on which the teacher is furthest ahead of the student",
)

# %% [markdown] 01-two-see (see)
r"""
A distribution says more than its top answer: which other names are thinkable, and how sure the model is. All of it is
what a teacher can pass on without a single label, in lesson 05.
"""

# %% 01-explore (widget)
some = range(0, len(ink), max(1, len(ink) // 120))
widgets.prediction(
    [ink.images[i] for i in some],
    features["student", "ink"][some],
    names,
    texts["student"],
    student.scale,
    ink.labels[some],
)

# %% [markdown] 01-explore-moves (moves)
r"""
Three moves to make:

1. Choose a picture that the student names wrongly, and switch the view from probability to cosine.
2. Type its right name and the wrong one with a comma between, so that only these two are asked for.
3. Now type the right name and one that is far off.

Notice that the cosines stay as they are, and the probabilities do not: they are shares among the names that you ask
for. A model is only ever as sure as its list of names lets it be.
"""

# %% [markdown] 01-sure-why (why)
r"""
## How often right, and how sure?

The highest probability of a picture is the model's **confidence**. A model is honest if it is right as often as it
says: of all pictures on which it says "seven in ten", seven in ten should be right. Guess first, for the student on ink.
"""

# %% 01-right-predict (predict)
right = checks.predict("right", "What share of the pictures in ink does the student name rightly?")
right

# %% 01-right-run (run)
right.measured(100 * kd.accuracy(probs["student", "ink"], labels["ink"]))
shuffled = torch.arange(len(names)).roll(1)  # the control: each name handed to the class after its own
wrong_names = kd.accuracy(probs["student", "ink"][:, shuffled], labels["ink"])
print(f"with every name handed to another class: {wrong_names:.1%}")

# %% 01-sure-predict (predict)
sure = checks.predict("confidence", "And how sure is it of its answers there, on average?")
sure

# %% 01-sure-run (run)
sure.measured(100 * probs["student", "ink"].amax(-1).mean())
curves = {role: kd.reliability_curve(probs[role, "ink"], labels["ink"], bins=10) for role in ("teacher", "student")}
in_colour = torch.cat([probs["student", style] for style in world.shifts])
their_labels = torch.cat([labels[style] for style in world.shifts])
curves["student in colour"] = kd.reliability_curve(in_colour, their_labels, bins=10)

# %% 01-sure-picture (run)
plots.reliability(curves, "On ink, and in colour")

# %% [markdown] 01-sure-see (see)
r"""
On the diagonal a model is as sure as it is right; below it, it is too sure. The strip tells how many pictures stand
behind each point. Compare the student with itself: does it notice that it has left the drawings it knows?
"""

# %% [markdown] 01-mistakes-why (why)
r"""
## Where it fails

A mistake made with confidence is the worst kind, and the most telling. Here are the student's on ink, at most one of
each class. Which would you have made, too?
"""

# %% 01-mistakes (run)
p = probs["student", "ink"]
wrong = (p.argmax(-1) != ink.labels).nonzero().flatten()
by_class = {}  # the most confident mistake of each class, most confident first
for i in wrong[p[wrong].amax(-1).argsort(descending=True)].tolist():
    by_class.setdefault(ink.labels[i].item(), i)
worst = list(by_class.values())[:8]
plots.confident_mistakes(
    [ink.images[i] for i in worst],
    [names[p[i].argmax()] for i in worst],
    [names[ink.labels[i]] for i in worst],
    p[worst].amax(-1).tolist(),
    "The student's most confident mistakes on ink",
)

# %% [markdown] 01-gap-why (why)
r"""
## The gap that this course is about

The student learned from colour. Ask it about colour drawings of the same things, in **styles** that it never saw either,
and about ink; a style is one set of drawings, by one artist or team. Ask the teacher, too. If both did equally well on
ink, there would be nothing to learn from the teacher.
"""

# %% 01-gap-predict (predict)
colour = checks.predict("colour", "And what share in colour, in styles it never saw either?")
colour

# %% 01-gap-run (run)
import pandas as pd

styles = ["ink", *world.shifts]
top1 = {role: {style: kd.accuracy(probs[role, style], labels[style]) for style in styles} for role in models}
in_colour = [top1["student"][style] for style in world.shifts]
colour.measured(100 * sum(in_colour) / len(in_colour))
pd.DataFrame(top1).T.map("{:.1%}".format)

# %% [markdown] 01-gap-see (see)
r"""
Behind ink stand the styles in colour, by their names.
"Never saw" means these drawings, not a stranger's style: where one colour style is much easier than the others, it has a
near relative among those that the student was trained on (`data/README.md` says which).
"""

# %% [markdown] 01-table-why (why)
r"""
## The results table begins

Later lessons learn on one alphabetical half of the names, the **base** classes, and are also tested on the other half,
the **novel** ones. A picture is judged among the names of its own half. "Shifted" are here the styles in colour,
averaged. Every lesson adds its rows to this table, and lessons 02 and 03 add a column each.

Then come differences, each with its **interval**: were classes like these drawn again and again, 95 of 100 such
intervals would hold the true difference. One that contains 0 has not shown a difference.
"""

# %% 01-table (results)
columns = ["base", "novel", "base shifted", "novel shifted"]
table = {}
for role, vlm in models.items():
    row = kd.scores(tests[role], world, lambda n, v=vlm: kd.encode_names(v, n), vlm.scale)
    line = kd.summarise([row])
    table[f"zero-shot {role}"] = {"trained numbers": 0, **{column: line[column] for column in columns}}
pd.DataFrame(table).T

# %% 01-signature (signature)
per_class = {key: 100 * kd.per_class_accuracy(p, labels[key[1]]) for key, p in probs.items()}
differences = {
    f"{role}: ink − colour": {
        style: kd.paired_bootstrap(per_class[role, style], per_class[role, "ink"]) for style in world.shifts
    }
    for role in models
}
differences["teacher − student"] = {
    style: kd.paired_bootstrap(per_class["student", style], per_class["teacher", style]) for style in styles
}
plots.forest(
    differences, "difference in points, with its 95 % interval over classes", "What ink costs, and who is ahead"
)


# %% 01-verdict (verdict)
def sentence(what, before, after):
    """What these classes support: their mean difference, with its interval over classes."""
    difference, low, high = kd.paired_bootstrap(before, after)
    seen = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return f"{what}: {difference:+.1f} points [{low:+.1f}, {high:+.1f}] over {len(before)} classes: {seen}."


in_colour = torch.stack([per_class["student", style] for style in world.shifts]).mean(0)
print(sentence("student, ink against colour", in_colour, per_class["student", "ink"]))
print(sentence("on ink, teacher against student", per_class["student", "ink"], per_class["teacher", "ink"]))
wrong_names = 100 * kd.per_class_accuracy(probs["student", "ink"][:, shuffled], labels["ink"])
print(sentence("student on ink, right names against handed-round ones", wrong_names, per_class["student", "ink"]))
checks.summary()

# %% [markdown] 01-try-why (try)
r"""
## Try it yourself

Any words will do, also those that are no class here. Write some, and see what the student makes of the same pictures.
"""

# %% 01-try (try)
my_names = ["something to drink", "a fruit", "a meal", "a sweet"]
my_texts = kd.encode_names(student, my_names)
my_pictures = [ink.images[i] for i in some]
widgets.prediction(my_pictures, features["student", "ink"][some], my_names, my_texts, student.scale)

# %% [markdown] 01-limits (limits)
r"""
## When it fails

A model can only choose among the names it is given, and it always chooses: a picture of none of them gets an answer,
too. Names that mean nearly the same share their pictures. And a model knows what its pictures and sentences held:
these two are small and know drawings; CLIP itself read the web and knows photographs, with gaps of its own.

The intervals above are over classes. They say what to expect of other names like these, not of other models.
"""

# %% [markdown] 01-recap (recap)
r"""
## Recap

A model names drawings it has never seen because a class is only a sentence: picture and sentence meet as vectors of
length one, and the nearest sentence wins. How far that carries depends on what it was trained on.

1. Why does multiplying all logits by ten leave every answer as it is?
2. What would you have to change to sort the same pictures into other classes?
3. A model is nearly always sure and right half of the time. Where do its points lie in the plot of honesty?

<details><summary>Answers</summary>

1. It keeps their order, and the answer is the largest.
2. Only the list of names; no weight changes.
3. Far to the right and half-way up, well below the diagonal.

</details>
"""

# %% [markdown] 01-next (next)
r"""
Next: [Wording and temperature](02_wording.ipynb) asks what the words around a name are worth. Source: Radford et al.,
[Learning Transferable Visual Models From Natural Language Supervision](https://arxiv.org/abs/2103.00020), 2021.
"""
