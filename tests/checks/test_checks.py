"""Each exercise's check: right answers of any form pass, each known mistake is named, nothing stops a lesson."""

import json
import math

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from scipy import stats
from torch.nn import functional as F

import kdpl_utils as kd
from kdpl_utils import checks
from kdpl_utils.checks import engine, outcomes, prediction
from kdpl_utils.vlm import encode_texts, unit

EXERCISES = list(checks.EXERCISES.values())
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(engine, "RECORDS", {})
    monkeypatch.setattr(checks.report, "RECORDS", engine.RECORDS)
    monkeypatch.setattr(prediction, "PREDICTIONS", {})
    monkeypatch.setattr(checks.report, "PREDICTIONS", prediction.PREDICTIONS)


# --- answers as learners type them: two right ones of each exercise, and each mistake ---------------------------------

teacher_logits = features = base_names = labels = scale = teacher_scale = None  # bound by the check of kdpl


def length_one(x, dim=1):
    return x / x.norm(dim=dim, keepdim=True)


def log_probabilities(*logits):
    return [F.log_softmax(x, 1) for x in logits]


def kl_of(t, s):
    """KL of each picture, from logarithms of probabilities."""
    return (torch.exp(t) * (t - s)).sum(1)


def kl_of_torch(teacher_logits, student_logits):
    log_s, log_t = student_logits.log_softmax(1), teacher_logits.log_softmax(1)
    return F.kl_div(log_s, log_t, log_target=True, reduction="batchmean")


def kl_by_loop(teacher_logits, student_logits):
    losses = []
    for t, s in zip(teacher_logits, student_logits):
        log_t, log_s = F.log_softmax(t, 0), F.log_softmax(s, 0)
        losses.append(sum(log_t.exp() * (log_t - log_s)))
    return sum(losses) / len(losses)


def both_ways(t, s):
    return 0.5 * (kl_of(*log_probabilities(t, s)) + kl_of(*log_probabilities(s, t))).mean()


def names_one_by_one(vlm, classnames, templates):
    found = []
    for name in classnames:
        mean = unit(encode_texts(vlm, [t.format(name) for t in templates])).sum(0)
        found.append(mean / mean.norm())
    return torch.stack(found)


def names_averaged_raw(vlm, names, templates):
    rows = [torch.stack([encode_texts(vlm, [t.format(name)])[0] for t in templates]).mean(0) for name in names]
    return length_one(torch.stack(rows))


def names_averaged_once(vlm, names, templates):
    return torch.stack([length_one(encode_texts(vlm, [t.format(name) for t in templates])).mean(0) for name in names])


def names_reshaped_wrongly(vlm, names, templates):
    found = length_one(encode_texts(vlm, [t.format(name) for name in names for t in templates]))
    return length_one(found.view(len(templates), len(names), -1).sum(0))


def calibration_by_loop(probs, labels, bins=15):
    confidence, answer = probs.max(1)
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            gap = (answer[inside] == labels[inside]).float().mean() - confidence[inside].mean()
            total += inside.float().mean() * gap.abs()
    return total


def calibration_by_sums(probs, labels, bins=15):
    confidence, answer = probs.max(1)
    place = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)) - 1
    gap = (answer == labels).float() - confidence
    return torch.zeros(bins).index_add(0, place, gap).abs().sum() / len(labels)


def gaps(probs, labels, confidence, groups, weight=None):
    """Σ over groups of |hits − confidence|, weighted by 1/n unless it is said otherwise."""
    total = 0.0
    for group in set(groups.tolist()):
        inside = groups == group
        gap = ((probs.argmax(1)[inside] == labels[inside]).float().sum() - confidence[inside].sum()).abs().item()
        total += gap / len(labels) if weight is None else weight * gap / int(inside.sum())
    return total


def calibration_unweighted(probs, labels, bins=15):
    places = torch.bucketize(probs.amax(1), torch.linspace(0, 1, bins + 1))
    return gaps(probs, labels, probs.amax(1), places, 1 / len(places.unique()))


def calibration_of_true_class(probs, labels, bins=15):
    confidence = probs.gather(1, labels[:, None])[:, 0]
    return gaps(probs, labels, confidence, torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)))


def calibration_of_all_bins(probs, labels, bins=15):
    confidence, answer = probs.max(-1)
    place = (confidence * bins).ceil()
    return sum(
        (place == m).float().mean() * ((answer == labels).float() - confidence)[place == m].mean().abs()
        for m in range(1, bins + 1)
    )


def splice_in_copy(token_embeddings, ctx, start=1):
    spliced = token_embeddings.clone()
    spliced[:, start : start + len(ctx)] = ctx
    return spliced


def splice_by_rows(token_embeddings, ctx):
    return torch.stack([torch.cat([row[:1], ctx, row[1 + len(ctx) :]]) for row in token_embeddings])


def splice_pushed_in(token_embeddings, ctx):
    return torch.stack([torch.cat([row[:1], ctx, row[1 : len(row) - len(ctx)]]) for row in token_embeddings])


def splice_into_the_argument(token_embeddings, ctx):
    token_embeddings[:, 1 : 1 + len(ctx)] = ctx
    return token_embeddings


def harmonic_by_sum(base, novel):
    total = base + novel
    return 2 * base * novel / total if total else 0.0


def kdpl_by_halves(prompt, batch):
    t, s = teacher_logits[batch].detach(), kd.logits(features[batch], prompt(base_names), scale)
    return 0.5 * kl_of_torch(t, s) + 0.5 * kl_of_torch(s, t)


def classes_by_list(teacher_logits, k):
    mean = teacher_logits.softmax(1).mean(0).tolist()
    return torch.tensor(sorted(range(len(mean)), key=lambda c: -mean[c])[:k])


def hits(selected, true):
    return [t for t in set(true.tolist()) if t in selected.tolist()]


def interval_of_scipy(a, b):
    interval = stats.ttest_rel(b, a).confidence_interval(0.95)
    return [sum(b) / len(b) - sum(a) / len(a), interval.low, interval.high]


def interval_by_numpy(quantile):
    def interval(before, after):
        d = np.subtract(after, before)
        half = quantile(len(d)) * d.std(ddof=1) / np.sqrt(len(d))
        return d.mean(), d.mean() - half, d.mean() + half

    return interval


def interval_of_two_groups(before, after):
    low, high = stats.ttest_ind(after, before).confidence_interval(0.95)
    return (low + high) / 2, low, high


def interval_of_the_runs_after(before, after):
    low, high = stats.ttest_1samp(after, 0).confidence_interval(0.95)
    mean = sum(after) / len(after) - sum(before) / len(before)
    return mean, mean - (high - low) / 2, mean + (high - low) / 2


def noise_of(z, noise, seed):
    return noise * z.std() * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed + 5))


def perturb_of_global_seed(logits, temperature=1.0, noise=0.0, seed=0):
    torch.manual_seed(seed)
    return logits / temperature + torch.randn_like(logits) * logits.std() * noise / temperature


def perturb_in_place(logits, temperature=1.0, noise=0.0, seed=0):
    logits += noise_of(logits, noise, seed)
    return logits / temperature


def nearest_by_loop(query, dictionary, k):
    return torch.stack([F.cosine_similarity(q[None], dictionary).argsort(descending=True)[:k] for q in query])


RIGHT = {
    "logits": (
        lambda i, t, s: F.linear(F.normalize(i, dim=-1), F.normalize(t, dim=-1)) * torch.exp(s),
        lambda i, t, s: math.exp(s) * F.cosine_similarity(i[:, None], t[None], dim=-1),
    ),
    "encode_names": (
        names_one_by_one,
        lambda vlm, names, templates: unit(
            torch.stack([unit(encode_texts(vlm, [t.format(name) for name in names])) for t in templates]).sum(0)
        ),
    ),
    "expected_calibration_error": (calibration_by_loop, calibration_by_sums),
    "splice_context": (splice_in_copy, splice_by_rows),
    "harmonic_mean": (
        harmonic_by_sum,
        lambda base, novel: 0 if base == 0 or novel == 0 else 2 / (1 / base + 1 / novel),
    ),
    "forward_kl": (kl_of_torch, kl_by_loop),
    "mended": tuple(lambda t, s, batch, kl=kl: kl(t.detach()[batch], s) for kl in (kl_of_torch, kl_by_loop)),
    "kdpl": (
        kdpl_by_halves,
        lambda prompt, batch: both_ways(
            teacher_logits[batch].detach(), kd.logits(features[batch], prompt(base_names), scale)
        ),
    ),
    "select_classes": (lambda t, k: t.softmax(1).sum(0).argsort(descending=True)[:k], classes_by_list),
    "selection_recall": (
        lambda selected, true: len(set(true.tolist()) & set(selected.tolist())) / len(set(true.tolist())),
        lambda selected, true: (true.unique()[:, None] == selected[None]).any(1).float().mean(),
    ),
    "paired_interval": (interval_of_scipy, interval_by_numpy(lambda n: stats.t.ppf(0.975, n - 1))),
    "perturb": (perturb_of_global_seed, lambda z, t, noise, seed: (z + noise_of(z, noise, seed)) / t),
    "nearest_names": (
        nearest_by_loop,
        lambda query, words, k: torch.cdist(unit(query), unit(words)).topk(k, largest=False).indices,
    ),
}
MISTAKES = {
    "logits": {
        "not normalised": lambda i, t, s: torch.exp(s) * torch.einsum("nd,cd->nc", i, t),
        "batch axis normalised": lambda i, t, s: torch.exp(s) * F.linear(length_one(i, 0), length_one(t, 0)),
        "logit_scale not exponentiated": lambda i, t, s: s * F.linear(length_one(i), length_one(t)),
        "another shape": lambda i, t, s: torch.exp(s) * F.linear(length_one(t), length_one(i)),
        "raises": lambda i, t, s: i @ t,
    },
    "encode_names": {
        "averaged before normalising": names_averaged_raw,
        "not normalised again": names_averaged_once,
        "axes mixed": names_reshaped_wrongly,
    },
    "expected_calibration_error": {
        "bins by label": lambda probs, labels, bins=15: gaps(probs, labels, probs.amax(1), labels),
        "unweighted mean": calibration_unweighted,
        "confidence of the true class": calibration_of_true_class,
        "not finite": calibration_of_all_bins,
    },
    "splice_context": {
        "start token overwritten": lambda embeddings, ctx: splice_in_copy(embeddings, ctx, start=0),
        "end token shifted": splice_pushed_in,
        "no gradient": lambda embeddings, ctx: splice_in_copy(embeddings, ctx.data),
        "changed its arguments in place": splice_into_the_argument,
    },
    "harmonic_mean": {
        "arithmetic mean": lambda base, novel: sum([base, novel]) / 2,
        "zero division": lambda base, novel: base * novel / ((base + novel) / 2),
        "constant factor": lambda base, novel: 0 if base == novel == 0 else base * novel / (base + novel),
        "raises": lambda base, novel: 1 / ((1 / base + 1 / novel) / 2),
    },
    "forward_kl": {
        "arguments swapped": lambda t, s: kl_of(*log_probabilities(s, t)).mean(),
        "mean also over classes": lambda t, s: F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction="none").mean(),
        "softmax for log-softmax": lambda t, s: F.kl_div(F.softmax(s, 1), F.softmax(t, 1), reduction="sum") / len(t),
        "NaN from 0 · log 0": lambda t, s: (F.softmax(t, 1) * (F.softmax(t, 1) / F.softmax(s, 1)).log()).sum(1).mean(),
        "cross-entropy": lambda t, s: F.cross_entropy(s, F.softmax(t, 1)),
        "no gradient": lambda t, s: kl_of(*log_probabilities(t, s.detach())).mean(),
        "another shape": lambda t, s: kl_of(*log_probabilities(t, s)),
        "constant factor": lambda t, s: kl_of(*log_probabilities(t, s)).mean() / math.log(2),
    },
    "mended": {
        "roles swapped": lambda t, s, batch: kl_of_torch(s.detach(), t[batch]),
        "teacher compared with itself": lambda t, s, batch: kl_of_torch(t[batch].detach(), t[batch]),
        "batches in another order": lambda t, s, batch: kl_of_torch(t[: len(s)].detach(), s),
        "softmax for log-softmax": lambda t, s, batch: (
            F.kl_div(F.softmax(s, 1), F.softmax(t[batch], 1).detach(), reduction="sum") / len(batch)
        ),
        "gradient into the teacher": lambda t, s, batch: kl_by_loop(t[batch], s),
        "another result": lambda t, s, batch: both_ways(t[batch].detach(), s),
    },
    "kdpl": {
        "gradient into the teacher": lambda prompt, batch: both_ways(
            teacher_logits[batch], kd.logits(features[batch], prompt(base_names), scale)
        ),
        "labels touched": lambda prompt, batch: F.nll_loss(
            F.log_softmax(kd.logits(features[batch], prompt(base_names), scale), 1), labels[batch]
        ),
        "class order": lambda prompt, batch: both_ways(
            teacher_logits[batch].detach(), kd.logits(features[batch], prompt(sorted(base_names)), scale)
        ),
        "teacher's scale": lambda prompt, batch: both_ways(
            teacher_logits[batch].detach() / scale * teacher_scale,
            kd.logits(features[batch], prompt(base_names), scale),
        ),
        "no gradient": lambda prompt, batch: both_ways(
            teacher_logits[batch], kd.logits(features[batch], prompt(base_names), scale)
        ).item(),
    },
    "select_classes": {
        "top-k for each image": lambda z, k: F.softmax(z, 1).argsort(1, descending=True)[:, :k],
        "mean of logits": lambda z, k: z.sum(0).argsort(descending=True)[:k],
        "values for indices": lambda z, k: F.softmax(z, 1).mean(0).sort(descending=True).values[:k],
        "largest in place of mean": lambda z, k: z.softmax(-1).max(0).values.topk(k).indices,
        "another kind": lambda z, k: classes_by_list(z, k).tolist(),
    },
    "selection_recall": {
        "precision": lambda selected, true: len(hits(selected, true)) / len(selected),
        "each picture counts": lambda selected, true: sum(t in selected.tolist() for t in true.tolist()) / len(true),
    },
    "paired_interval": {
        "unpaired": interval_of_two_groups,
        "over runs in place of pairs": interval_of_the_runs_after,
        "one-sided": interval_by_numpy(lambda n: stats.t.ppf(0.95, n - 1)),
        "normal quantile": interval_by_numpy(lambda n: stats.norm.ppf(0.975)),
        "backwards": lambda before, after: interval_of_scipy(after, before),
    },
    "perturb": {
        "multiplies by T": lambda z, t, noise, seed: t * (z + noise_of(z, noise, seed)),
        "noise after softmax": lambda z, t, noise, seed: F.softmax(z / t, 1) + noise_of(z, noise, seed) / z.std(),
        "changes the ranking": lambda z, t, noise, seed: (
            (z + (noise + t - 1) * z.std() * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))) / t
        ),
        "another noise each time": lambda z, t, noise, seed: (z + noise * torch.randn(z.shape) * z.std()) / t,
        "changed its arguments in place": perturb_in_place,
    },
    "nearest_names": {
        "dictionary and query swapped": lambda q, words, k: (length_one(words) @ length_one(q).T).topk(k, 1).indices,
        "cosine without norm": lambda q, words, k: F.linear(q, words).argsort(1, descending=True)[:, :k],
        "returns distances": lambda q, words, k: (
            F.linear(length_one(q), length_one(words)).sort(1, descending=True).values[:, :k]
        ),
        "another kind": lambda q, words, k: nearest_by_loop(q, words, k).tolist(),
    },
}


@each
def test_two_right_answers_are_kept(exercise, capsys):
    for answer in RIGHT[exercise.name]:
        assert exercise(answer) is answer, capsys.readouterr().out
        assert capsys.readouterr().out.startswith(f"✓ {exercise.name}: right. ")
        assert engine.RECORDS[exercise.name]["status"] == engine.RIGHT


@each
def test_each_mistake_gets_its_own_sentence(exercise, capsys):
    assert set(exercise.mistakes) == set(engine.SENTENCES["exercises"][exercise.name]["mistakes"])
    assert set(exercise.mistakes) <= set(MISTAKES[exercise.name])
    for name, answer in MISTAKES[exercise.name].items():
        assert exercise(answer) is not answer
        told = capsys.readouterr().out
        assert engine.RECORDS[exercise.name]["mistake"] == name, told
        for mistake in exercise.known_mistakes:
            assert (f"✗ {exercise.name}: {mistake.sentence}\n" in told) == (mistake.name == name)
        assert told.endswith(engine.SENTENCES["goes on"] + "\n")


# --- what else a check says -------------------------------------------------------------------------------------------


def test_any_other_mistake_shows_arguments_got_and_expected(capsys):
    checks.mended(lambda t, s, batch: checks.mended.right(t, s, batch) + 1)
    first, called, got, expected, hint, last = capsys.readouterr().out.splitlines()
    assert first == "✗ mended: probe 1 of 1 shows another result." and called.startswith("  called   mended((6, 3) ")
    right = checks.mended.outcomes(checks.mended.right)[0][0].result.item()
    assert got.startswith(f"  got      {right + 1:.4g}, gradients (None, (2, 3) ")
    assert expected.startswith(f"  expected {right:.4g}, gradients (None, (2, 3) ")
    assert "checks.mended.hint()" in hint and "LIBRARY'S" in last


@each
def test_what_was_not_attempted_runs_on_the_librarys(exercise, capsys):
    def ellipsis(*arguments):
        return ...

    def nothing(*arguments): ...

    def raises(*arguments):
        raise NotImplementedError

    for stub in (ellipsis, nothing, raises):
        assert exercise(stub) is exercise.right or exercise.name == "kdpl"
        assert "not attempted yet. The lesson goes on with the LIBRARY'S version." in capsys.readouterr().out
        assert engine.RECORDS[exercise.name]["attempts"] == 0


@each
def test_a_forgotten_return_and_an_error_are_told(exercise, capsys):
    def forgets(*arguments):
        result = len(arguments)  # noqa: F841

    def broken(*arguments):
        return arguments[0].no_such_thing + undefined_name  # noqa: F821

    exercise(forgets)
    assert "your function returns None" in capsys.readouterr().out
    exercise(broken)
    out = capsys.readouterr().out
    assert "AttributeError" in out and engine.RECORDS[exercise.name]["attempts"] == 2


@pytest.mark.parametrize(
    "name, answer, sentence",
    [
        ("logits", torch.ones(2), "give the check the function itself"),
        ("logits", lambda i, t, s: i(0), "round brackets call a function"),
        ("expected_calibration_error", lambda p, y, bins=15: (p.argmax(1) == y).mean(), "True and False have no mean"),
        ("select_classes", lambda z, k: 1 if z > 0 else 2, "an if asks one question"),
        ("nearest_names", lambda q, words, k: q / q.norm(dim=-1), "sizes do not line up"),
        ("mended", lambda t, s, batch: kd.forward_kl(t, s), "take those of this batch"),
        ("kdpl", lambda prompt, batch: prompt[batch], "a prompt is a function of names"),
        ("paired_interval", lambda before, after: after - before, "lists cannot be subtracted"),
        ("perturb", lambda z, t, noise, seed: torch.randn(z.shape, generator=seed), "a seed becomes a generator"),
        ("forward_kl", lambda t, s: F.kl_div(s, t, reduction="batch_mean"), "in one word"),
        ("forward_kl", lambda t, s: log_t - s, "a name is not known"),  # noqa: F821
        ("splice_context", lambda x, ctx: torch.cat([x[:, :1], ctx, x[:, 3:]], dim=1), "ctx.expand"),
    ],
)
def test_common_errors_are_explained(name, answer, sentence, capsys):
    checks.EXERCISES[name](answer)
    assert sentence in capsys.readouterr().out.splitlines()[0]


def test_the_librarys_kdpl_reads_the_notebooks_variables():
    scope = {"kd": kd, "teacher_logits": torch.eye(2), "features": torch.eye(2), "base_names": ["a", "b"]}
    exec("def kdpl(prompt, batch): ...\n", scope)
    loss = checks.kdpl(scope["kdpl"])
    scope["scale"] = 2.0  # also what comes later
    first = loss(lambda names: torch.eye(2), torch.tensor([1]))
    scope["scale"] = 3.0
    assert 0 < first < loss(lambda names: torch.eye(2), torch.tensor([1]))


# --- hints, the museum, predictions, reports --------------------------------------------------------------------------


def test_hints_deepen(capsys):
    hints = engine.SENTENCES["exercises"]["forward_kl"]["hints"]
    for depth in (0, 0, 0, 1):
        checks.forward_kl.hint(depth)
    assert capsys.readouterr().out.splitlines() == [hints[0], hints[1], hints[1], hints[0]]
    assert engine.RECORDS["forward_kl"]["hints"] == 2 and engine.RECORDS["forward_kl"]["attempts"] == 0
    checks.bug_museum.hint()
    assert engine.RECORDS["bug_museum"]["hints"] == 1


def test_the_museums_curves_show_what_it_says():
    """Each sentence about a curve, on made-up pictures."""
    draw = outcomes.draw
    features, text = unit(draw(0, 320, 16)), unit(draw(1, 10, 16))
    teacher = 30 * features @ unit(text + 0.15 * draw(2, 10, 16)).T
    bugs = {**checks.mended.mistakes, "mended": checks.mended.right}
    curves = {name: checks.exhibit(loss, features, text, teacher, 30.0) for name, loss in bugs.items()}
    before = kd.forward_kl(teacher, 30 * features @ text.T).item()
    reported, true = curves["roles swapped"]
    assert reported[-1] < 0.5 * reported[0] and true[-1] == pytest.approx(before, rel=1e-4)
    reported, true = curves["teacher compared with itself"]
    assert max(map(abs, reported)) < 1e-5 and true[-1] == pytest.approx(before, rel=1e-4)
    reported, true = curves["batches in another order"]
    assert true[-1] > 1.2 * before and reported[-1] > 0.5
    assert max(curves["softmax for log-softmax"][0]) < 0
    assert curves["mended"][1][-1] < 0.5 * before


def test_the_museums_guests_are_told(capsys):
    right = dict(zip(checks.EXHIBITS, checks.mended.mistakes))
    checks.bug_museum(dict.fromkeys("ABCD"))
    assert engine.RECORDS["bug_museum"]["status"] == "not attempted"
    checks.bug_museum({**right, "A": right["B"], "D": None})
    text = capsys.readouterr().out
    assert f"✗ A is not {right['B']!r}: the reported loss would fall" in text and "○ D: not named yet." in text
    assert f"✓ B: {right['B']}. Published: https://github.com/keras-team" in text
    assert engine.RECORDS["bug_museum"]["mistake"] == f"A: {right['B']}"
    checks.bug_museum(right)
    assert engine.RECORDS["bug_museum"]["status"] == engine.RIGHT and engine.RECORDS["bug_museum"]["attempts"] == 2
    checks.bug_museum({"A": "gremlins"})
    assert "'gremlins' is no bug of this museum. Choose among: " in capsys.readouterr().out


def test_a_prediction_is_set_beside_its_measurement(capsys):
    asked = checks.predict("confidence", "How sure is the student?")
    assert (asked.control.min, asked.control.max, asked.control.value, asked.control.step) == (0, 100, 50, 1)
    asked.control.value = 62
    assert "You say 62 %" in asked.text.value
    asked.measured(torch.tensor(48.2))
    checks.predict("winner", "Which?", options=["a", "b"]).measured("b")  # unanswered, it stops nothing
    checks.predict("winner", "Which?", options=["a", "b"], said="a").measured("b")
    checks.predict("bits", "How many?", 0, 4, "bits", said=1.5).measured(2)
    assert capsys.readouterr().out.splitlines() == [
        "you said 62 %, measured 48.2 %",
        "measured b (you made no prediction)",
        "you said a, measured b: not so",
        "you said 1.5 bits, measured 2 bits",
    ]
    for wrong in ({"options": ["a", "b"], "said": "c"}, {"said": 101}):
        with pytest.raises(ValueError, match="is no answer to 'Which\\?'"):
            checks.predict("winner", "Which?", **wrong)


@pytest.mark.parametrize("options", [(), ("a", "b")])
def test_a_prediction_is_a_widget_and_words(options):
    asked = checks.predict("which", "Which?", options=options)
    shown, _ = DisplayFormatter().format(asked)
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] == asked.box.model_id
    assert shown["text/plain"].startswith("Predict. Which?") and "Which?" in shown["text/html"]
    assert asked.said is None, "nothing is chosen before the learner chooses"


def test_summary_and_export(tmp_path, capsys):
    checks.predict("confidence", "How sure?", said=62).measured(48)
    checks.summary()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "confidence: you said 62 %, measured 48 %",
        "No exercise was checked here; 1 of 1 predictions made.",
    ]
    checks.splice_context(splice_by_rows)
    checks.forward_kl(checks.forward_kl.mistakes["arguments swapped"])
    checks.logits(lambda *arguments: None)
    checks.logits.hint(2)
    capsys.readouterr()
    checks.summary()
    assert capsys.readouterr().out.splitlines() == [
        "○ 01 logits: the library's, not attempted, attempts: 0",
        "✓ 03 splice_context: yours, attempts: 1",
        "○ 04 forward_kl: the library's, yours is not right yet (arguments swapped), attempts: 1",
        "1 of 3 exercises are yours; 1 of 1 predictions made.",
    ]
    report = json.loads(checks.export(tmp_path / "mine.json", who="Ada").read_text(encoding="utf-8"))
    assert report["who"] == "Ada" and report["exercises"]["logits"]["hints"] == 2
    assert report["predictions"]["confidence"] == {"question": "How sure?", "said": 62, "measured": 48, "unit": "%"}
