# %% [markdown] 11-title (title)
r"""
# 11 · Your own images: would you use it?

About 25 minutes to read and run; about a minute of computing. Needs: [05](05_kdpl.ipynb).
"""

# %% 11-01 (setup)
import torch
import kdpl_utils as kd
from kdpl_utils import plots

print(f"kdpl_utils {kd.__version__} · torch {torch.__version__} · {kd.default_device()}")

# %% [markdown] 11-cold (cold-open)
r"""
## A folder

Name a folder of yours: a subfolder for each class, or just pictures. As it stands, the cell lays out ink drawings as
if they were your own, those to test on in another style. For photographs take the models on the commented line, which
are fetched once.
"""

# %% 11-folder (setup)
import tempfile
from pathlib import Path

import pandas as pd

from kdpl_utils import checks

folder = None  # or "/path/to/your/pictures"
student, teacher = ("emoji-student-vit", None), ("emoji-teacher-large", None)
# student, teacher = ("ViT-B-32-quickgelu", "openai"), ("ViT-L-14-quickgelu", "openai")
if folder is None:
    world = kd.load_world("emoji/activities")
    folder = Path(tempfile.mkdtemp()) / "ink drawings"
    for part, split in {"train": world.train, "test": world.test}.items():
        for i, label in enumerate(split.labels.tolist()):
            place = folder / part / world.classnames[label]
            place.mkdir(parents=True, exist_ok=True)
            if i < 16 * len(world.classnames):
                split.images[i].save(place / f"{i}.png")

# %% 11-cold-picture (cold-open)
own = kd.folder_world(folder, dictionary=kd.load_world("emoji").dictionary)
print(f"{len(own.train)} training, {len(own.test)} test pictures of {len(own.classnames)} classes")
some = range(0, len(own.train), max(1, len(own.train) // 8))[:8]
captions = [own.classnames[own.train.labels[i]] if own.train.labels[i] >= 0 else "" for i in some]
plots.picture_row([own.train.images[i] for i in some], captions, "Some of them")

# %% [markdown] 11-objectives (objectives)
r"""
You will be able to **adapt** a small model to a folder of your pictures without labelling one, **judge** whether it
helped, **choose** between the kinds of adaptation that need no labels, and **take** the result elsewhere.

The claim to test: *prompts learned from unlabelled pictures name other pictures of the same kind better than none.*
Control: the zero-shot student on the same test pictures.
"""

# %% [markdown] 11-stop-instructor (instructor)
r"""
**For the instructor. Stopping point** before “Which adaptation for which case?”: the folder has been adapted and
looked at. The map and the signs are a good closing discussion.
"""

# %% [markdown] 11-adapt-why (why)
r"""
## Adapt

KDPL: the teacher looks at each picture once, then the student's prompt is trained to agree with it. Labels are not
looked at; where the folders give some, they judge the result afterwards.
"""

# %% 11-adapt-predict (predict)
agree = checks.predict(
    "agreement", "After learning, for how many training pictures do student and teacher say the same?"
)
agree

# %% 11-adapt-run (run)
from kdpl_utils.apps.adapt import adapt_folder


def say(line):
    """Print a line without this machine's folder of temporary files."""
    print(line.replace(tempfile.gettempdir(), "…"))


made = adapt_folder(
    folder,
    Path(tempfile.mkdtemp(prefix="learned-")),
    student=student,
    teacher=teacher,
    dictionary=own.dictionary,
    report=say,
)

# %% 11-adapt-measured (run)
agree.measured(made.measured["agreement with the teacher, after"])
pd.Series(made.measured, name="per cent").round(1).to_frame()

# %% [markdown] 11-adapt-see (see)
r"""
Agreement says whether the student follows its teacher. Accuracy on test pictures says whether that was worth it; it
needs labels, which only judging does.
"""

# %% [markdown] 11-look-why (why)
r"""
## Look at single pictures

The picture on which student and teacher differ most comes first.
"""

# %% 11-look (widget)
vlm, larger = made.learner.vlm, kd.load_vlm(*teacher)
names, shown = own.classnames, own.test if len(own.test) else own.train
few = shown.subset(range(0, len(shown), max(1, len(shown) // 24))[:24])
kd.inspect_pair(larger, vlm, few, names, student_after=made.learner.text, teacher_scale=vlm.scale)  # as in training

# %% [markdown] 11-look-moves (moves)
r"""
1. Step through the first five pictures. Who is right, teacher or student?
2. Move the training epoch to 0, before, and back to 1, after: did the student follow where the teacher was wrong?

Notice whether the wrong answers are near misses or nonsense.
"""

# %% [markdown] 11-map-why (why)
r"""
## Which adaptation for which case?

Adaptation without labels comes in [four kinds](https://arxiv.org/abs/2508.05547): without any data, from an unlabelled domain, from one
test picture at a time, and from a stream of them.

| what you have | kind | try |
|---|---|---|
| names only | data-free | a better sentence; sentences for each class (CuPL) |
| a few labels a class | supervised | CoOp, or a linear head; compare with KDPL |
| unlabelled pictures, names, a larger model | unlabelled domain | **KDPL**; PromptKD if the test pictures are there |
| unlabelled pictures, names, no larger model | unlabelled domain | pseudo-labels (UPL), transduction (TransCLIP) |
| unlabelled pictures, no names, a larger model | unlabelled domain | **KDPL class-agnostic** |
| one picture at a time | episodic | test-time prompt tuning (TPT) |
| a stream of pictures | online | methods that keep a cache; not in this suite |
"""

# %% [markdown] 11-signs-why (why)
r"""
## What going wrong looks like

| sign | the plot that shows it | lesson |
|---|---|---|
| the distributions part instead of meeting | the KL over the epochs rises | 04, 05 |
| base classes gain, others pay | base and novel over the epochs | 03 |
| everything becomes equally likely | entropy, the reliability diagram | 01, 05 |
| the loss is not finite | the run stops and says at which step | 04 |
| memory runs out | the message names the batch; fewer names a batch | 06 |
"""

# %% 11-results (results)
learned, zero_shot = made.learner, kd.Learner(vlm)
rows = {}
for part, split in {"training": own.train, "test": shown}.items():
    pixels = kd.ImageBatches(vlm, split.images)[:]
    for method, learner in {"zero-shot student": zero_shot, "learned": learned}.items():
        answers = learner(pixels, names).cpu()
        has_labels = bool((split.labels >= 0).all())
        right = f"{kd.accuracy(answers, split.labels):.1%}" if has_labels else "no labels"
        rows.setdefault(method, {})[f"right, {part}"] = right
pd.DataFrame(rows).T


# %% 11-verdict (verdict)
def sentence(what, split):
    """What these pictures support: the mean difference, with its interval over classes."""
    pixels = kd.ImageBatches(vlm, split.images)[:]
    before, after = ((learner(pixels, names).argmax(1).cpu() == split.labels) for learner in (zero_shot, learned))
    gain, low, high = kd.paired_bootstrap(100.0 * before, 100.0 * after, groups=split.labels)
    seen = "higher" if low > 0 else "lower" if high < 0 else "no difference seen"
    return f"learned against zero-shot, {what}: {gain:+.1f} [{low:+.1f}, {high:+.1f}] on {len(split)} pictures: {seen}."


if (shown.labels >= 0).all():
    print(sentence("test", shown))

# %% [markdown] 11-suspect-why (try)
r"""
## If the claim falls: a suspect, tested

*No difference seen* on other pictures can have two reasons. The prompt learned nothing; or what it learned belongs to
the pictures that it learned from. As the folder stands, the test pictures are in another style. If that is it, the same
sentence says *higher* of the training pictures. In a folder of yours, have pictures of every kind that you will meet.
"""

# %% 11-suspect (try)
if (own.train.labels >= 0).all():
    print(sentence("training", own.train))

# %% [markdown] 11-take (try)
r"""
## Take it with you

Learned prompts are a few kilobytes; a classifier is the text features of your names. Both remember which model they
belong to, and the card says what was measured. On the command line it is `kdpl adapt my_pictures --out learned`, then
`kdpl predict`.
"""

# %% 11-take-classifier (try)
classifier = kd.load_classifier(made.files["classifier"], vlm)
for row in classifier.predict(few.images[:3], k=2):
    print(", ".join(f"{name} {probability:.0%}" for name, probability in row))
for kind, path in made.files.items():
    print(f"{kind}: {path.stat().st_size / 1000:.1f} kB")

# %% 11-take-card (try)
from IPython.display import Markdown

Markdown(made.files["card"].read_text(encoding="utf-8").split("---\n")[-1])

# %% [markdown] 11-try-why (try)
r"""
## Try it yourself

Put your own folder into the second cell and run all. Without labels there is no verdict, and the agreement
is all you have: look at single pictures before you trust it.
"""

# %% [markdown] 11-answers-why (try)
r"""
## Twelve answers

You wrote down answers to twelve questions in [lesson 00](00_start_here.ipynb), before all this. Answer them again, and
then unfold.

<details><summary>Answers</summary>

1. A class is only a sentence, and a sentence for it can be written without a picture of it.
2. All logits are multiplied by one number above zero: the largest stays the largest.
3. Badly calibrated; here, too sure of itself.
4. The best of ten is partly the luckiest on the pictures that chose it.
5. The context: four vectors as wide as the text tower's tokens. `PromptLearner.ctx.numel()` counts the numbers.
6. The names are an argument of the prompt; what is learned stands in front of any name.
7. Which other names are thinkable, and how sure the teacher is.
8. The loss: the symmetric KL to the teacher's distribution in place of the label's cross-entropy.
9. They draw the same number of pictures from each class, and they judge the result.
10. It averages its probabilities over the batch and keeps the K highest names.
11. Both methods saw the same pictures in the same order: what the draw adds to both cancels in the difference.
12. Where the teacher knows nothing of these pictures that the student does not know.

</details>
"""

# %% [markdown] 11-limits (limits)
r"""
## When it fails

One run with one seed. The student is pulled to the teacher, right or wrong; where the teacher does not know your
domain, there is nothing to learn from it. People in pictures have rights: adapt to pictures that you may use, and keep
them where they are; nothing here sends them anywhere.
"""

# %% [markdown] 11-recap (recap)
r"""
## Recap

Unlabelled pictures and a larger model's opinion are all that KDPL needs; whether to use the result, the control on
labelled test pictures decides.

1. Why does a gain in agreement not settle whether the student got better?
2. What would you need before trusting a small difference?
3. What changes when you have no class names either?

<details><summary>Answers</summary>

1. The teacher may be wrong, and then following it makes the student wrong as well.
2. More test pictures, of more drawings or scenes; and more seeds than one.
3. The teacher picks the names of each batch from a dictionary, as in lesson 06; `kdpl adapt` does so without `--names`.

</details>
"""

# %% [markdown] 11-next (next)
r"""
Next: back to [00 · Start here](00_start_here.ipynb) and its questions. Sources: Mistretta et al.,
[KDPL](https://arxiv.org/abs/2407.03056), 2024; the [survey of label-free
adaptation](https://arxiv.org/abs/2508.05547), 2025.
"""
