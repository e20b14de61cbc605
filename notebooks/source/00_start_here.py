# %% [markdown] 00-title (title)
r"""
# 00 · Start here: what will I be able to explain in four hours?

About 20 minutes to read; half a minute of computing. Needs: Python and a little PyTorch.
"""

# %% 00-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 00-cold (cold-open)
r"""
## What you will explain

One picture, and what two models say of it. Nobody told either of them the class of this picture, and the smaller one
is going to learn from the larger one without ever being told. Four hours from now you can say how, what it gains, what
it costs, and how you know.
"""

# %% 00-world (setup)
from kdpl_utils import checks

world = kd.load_world("emoji")
models = {"student before": kd.load_vlm(*world.student), "teacher": kd.load_vlm(*world.teacher)}
rows = list(range(0, len(world.test), 8))
images, labels = [world.test.images[i] for i in rows], world.test.labels[rows]
probs = {}
for role, vlm in models.items():
    texts = kd.encode_names(vlm, world.classnames)
    probs[role] = kd.logits(kd.encode_images(vlm, images), texts, vlm.scale).softmax(-1).cpu()

# %% 00-cold-picture (cold-open)
gap = kd.entropy(probs["student before"]) - kd.entropy(probs["teacher"])
i = gap.argmax().item()
plots.distributions(
    images[i],
    world.classnames,
    {"teacher": probs["teacher"][i], "student before": probs["student before"][i]},
    label=world.classnames[labels[i]],
    title="Of these test pictures, the one where the two differ most in how undecided they are",
)

# %% [markdown] 00-objectives (objectives)
r"""
After this page you can **run** a cell, **answer** a prediction, **ask** a check for help, and **place** each lesson on
one map. Nothing is measured here that a later lesson does not measure again and explain.
"""

# %% [markdown] 00-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “The map”: everybody has run a cell, moved a slider and met a check. The
twelve questions are homework; collect the first answers and hand them back after lesson 11.
"""

# %% [markdown] 00-how-why (why)
r"""
## How a lesson works

Run the cells from top to bottom with Shift and Enter. The first code cell is the same everywhere. Nothing is fetched:
pictures and models come with the package. Three things will ask you to do something:

* a **prediction**, a question with a slider or buttons, *before* the cell that measures the answer;
* an **exercise**, a function of a few lines that you write; its check says which mistake you made, not only that there
  is one, and an empty exercise stops nothing: the lesson goes on with the library's version;
* an **explorer**, a picture with controls and two or three moves to make.
"""

# %% [markdown] 00-how-first (why)
r"""
Here is a first prediction. Move the slider, then run the next cell. If you see no slider, write your answer into the
cell, as in `said=50`. If you do not want to answer, just go on.
"""

# %% 00-how-predict (predict)
agree = checks.predict("agreement", "For what share of these pictures do both models name the same class?")
agree

# %% 00-how-run (run)
agree.measured(100 * kd.top1_agreement(probs["student before"], probs["teacher"]))

# %% [markdown] 00-how-see (see)
r"""
A sentence like this ends every prediction. You will be wrong often; that is what they are for.
"""

# %% [markdown] 00-check-task (task)
r"""
### Exercise: a first check

Leave it as it is and run it; then ask for a hint with `checks.harmonic_mean.hint()`; then write it, if you like. You
meet it again in lesson 03.
"""


# %% 00-check (exercise)
def harmonic_mean(base, novel):
    """2 · base · novel / (base + novel), and 0 where both are 0."""
    ...


harmonic_mean = checks.harmonic_mean(harmonic_mean)


# %% 00-check-solution (solution)
def harmonic_mean(base, novel):
    """2 · base · novel / (base + novel), and 0 where both are 0."""
    total = base + novel
    return 2 * base * novel / total if total else 0.0


harmonic_mean = checks.harmonic_mean(harmonic_mean)

# %% [markdown] 00-map-why (why)
r"""
## The map

Everything in this course is one chain. Each method changes one of its arrows:

```
pictures ──► features ──┐
      (VPT, MaPLe)      ├─► logits ──► probabilities ──► loss
names ─────► features ──┘   × scale    softmax           against whom?
  (wording, CoOp, CoCoOp)   (02, 09)   (01, 02)

against whom?   labels: CoOp (03)
                a teacher: KDPL (05)
                a teacher over a dictionary: class-agnostic KDPL (06)
```

The models are frozen: no arrow changes a weight of theirs.
"""

# %% [markdown] 00-lessons-why (why)
r"""
## The lessons

| | question |
|---|---|
| [01](01_zero_shot.ipynb) | How can a model name drawings it has never seen? |
| [02](02_wording.ipynb) | What do words and scale do to a distribution? |
| [03](03_coop.ipynb) | Can a handful of numbers replace the words, and what breaks? |
| [04](04_distillation.ipynb) | What does a teacher's distribution say that a label cannot? |
| [05](05_kdpl.ipynb) | Can we train the prompt without a single label? |
| [06](06_class_agnostic.ipynb) | And without the class names? |
| 07–10 | Which KL? Which teacher? What if it is badly calibrated, or hardly knows the domain? |
| [11](11_your_images.ipynb) | Would you use it? |

In ninety minutes: 01, 03, the first third of 04, 05. In half a day: 00 to 07.
"""

# %% [markdown] 00-glossary (glossary)
r"""
## Glossary: pictures, names, probabilities

| term | meaning | in the code | lesson |
|---|---|---|---|
| feature | a vector of length 1 that stands for a picture or a name | `encode_images`, `encode_names` | 01 |
| cosine | the product of two such vectors, from −1 to 1 | `features @ texts.T` | 01 |
| logit | a cosine times the scale | `logits` | 01 |
| scale | the number that cosines are multiplied with; learned by CLIP | `vlm.scale` | 01 |
| softmax | makes logits positive and sum to 1 | `.softmax(-1)` | 01 |
| zero-shot | naming without any training picture | `encode_names` | 01 |
"""

# %% [markdown] 00-glossary-sure (glossary)
r"""
## Glossary: how sure, how honest

| term | meaning | in the code | lesson |
|---|---|---|---|
| confidence | the highest probability of a picture | `probs.max(-1)` | 01 |
| temperature | what logits are divided by; above one, less sure | `perturb` | 02 |
| entropy | how undecided a distribution is | `entropy` | 02 |
| nat | unit of entropy with the natural logarithm | `entropy` | 02 |
| calibration | whether what is said with some confidence is right that often | `reliability_curve` | 02 |
| ECE | expected calibration error, the mean gap between the two | `expected_calibration_error` | 02 |
"""

# %% [markdown] 00-glossary-learning (glossary)
r"""
## Glossary: learning

| term | meaning | in the code | lesson |
|---|---|---|---|
| template | a sentence with a place for the name | `world.templates` | 02 |
| context | learned vectors in place of a sentence's words | `PromptLearner.ctx` | 03 |
| shot | a training picture of a class | `few_shot` | 03 |
| seed | a number from which every random choice of a run follows: which shots, in which order | `few_shot` | 03 |
| standard deviation | how far single seeds lie from their mean; in tables behind ± | `summarise` | 03 |
| interval | where a difference lies with 95 % confidence; in brackets, or a bar | `paired_interval` | 01 |
| style | one set of drawings, by one artist or team | `world.shifts` | 01 |
| base, novel | classes that are learned from, and the others | `base_novel` | 01 |
| KL | how far one distribution is from another | `forward_kl`, `reverse_kl` | 04 |
| bit | unit of the KL: a factor of two | `kl_bits` | 04 |
| dictionary | thousands of names to pick from | `world.dictionary` | 06 |
| recall | the share of true classes that were picked | `selection_recall` | 06 |
"""

# %% [markdown] 00-questions-why (why)
r"""
## Twelve questions for the end

Answer each in a sentence now, on paper, and again after lesson 11, where the answers are. Leave open what you cannot
say.

1. Why can a model name a class that it was never shown?
2. Why does the scale change no top answer?
3. What is a model called that says "seventy per cent" and is right half of the time?
4. Why are ten templates compared on other pictures than the winner is judged on?
5. What is learned in CoOp, and how many numbers is that?
6. Why can a learned context be tested on novel names?
"""

# %% [markdown] 00-questions-more (why)
r"""
7. What does a distribution say that a label cannot?
8. Which line turns CoOp into KDPL?
9. Where do labels still enter when KDPL is compared with CoOp?
10. How does a teacher choose names for a batch?
11. Why does one compare seeds in pairs?
12. When can a student gain nothing from a teacher?
"""

# %% [markdown] 00-try-why (try)
r"""
## Try it yourself

Another picture: change the number and run the cell again.
"""

# %% 00-try (try)
mine = 3
plots.distributions(
    images[mine],
    world.classnames,
    {role: probs[role][mine] for role in ("teacher", "student before")},
    label=world.classnames[labels[mine]],
)

# %% [markdown] 00-recap (recap)
r"""
## Recap

You know what you will be able to explain, where each lesson stands on the map, and how to get help.

1. What happens when you leave an exercise empty?
2. Which weights of the two models are trained in this course?
3. Where does a word stand that you have forgotten?

<details><summary>Answers</summary>

1. The lesson goes on with the library's version and says so.
2. None: both are frozen.
3. In the glossary above, under the name that the code uses.

</details>
"""

# %% [markdown] 00-next (next)
r"""
Next: [Zero-shot](01_zero_shot.ipynb). The paper behind the course: Mistretta et al.,
[Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge Distillation](https://arxiv.org/abs/2407.03056),
2024.
"""
