"""Each exercise's check: right answers of any form pass, each known mistake is named, nothing stops a lesson."""

import dataclasses
import json
import math

import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from torch.nn import functional as F

from kdpl_utils import checks
from kdpl_utils.checks import engine, helping, outcomes, prediction, probes
from kdpl_utils.vlm import encode_texts, unit

EXERCISES = list(checks.EXERCISES.values())
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
MUTANTS = [(exercise, name) for exercise in EXERCISES for name in exercise.mutants]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(engine, "RECORDS", {})
    for module in (checks.museum, checks.report):
        monkeypatch.setattr(module, "RECORDS", engine.RECORDS)
    monkeypatch.setattr(prediction, "PREDICTIONS", {})
    monkeypatch.setattr(checks.report, "PREDICTIONS", prediction.PREDICTIONS)


# --- right answers, written in two other ways than the library's ------------------------------------------------------

teacher_logits = student_logits = base_names = None  # bound by the check of kdpl


def logits_by_functional(image_features, text_features, logit_scale):
    return F.linear(F.normalize(image_features, dim=-1), F.normalize(text_features, dim=-1)) * torch.exp(logit_scale)


def logits_by_cosine(image_features, text_features, logit_scale):
    cosine = F.cosine_similarity(image_features[:, None], text_features[None], dim=-1)
    return math.exp(logit_scale) * cosine


def names_by_stack(vlm, classnames, templates):
    rows = torch.stack([unit(encode_texts(vlm, [t.format(n) for n in classnames])) for t in templates])
    return F.normalize(rows.mean(0), dim=-1)


def names_one_by_one(vlm, classnames, templates):
    found = []
    for name in classnames:
        mean = unit(encode_texts(vlm, [t.format(name) for t in templates])).sum(0)
        found.append(mean / mean.norm())
    return torch.stack(found)


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


def splice_in_place(token_embeddings, ctx):
    spliced = token_embeddings.clone()
    spliced[:, 1 : 1 + len(ctx)] = ctx
    return spliced


def splice_by_rows(token_embeddings, ctx):
    return torch.stack([torch.cat([row[:1], ctx, row[1 + len(ctx) :]]) for row in token_embeddings])


def harmonic_by_parts(base, novel):
    return 0 if base == 0 or novel == 0 else 2 / (1 / base + 1 / novel)


def harmonic_by_sum(base, novel):
    total = base + novel
    if total == 0:
        return 0.0
    return 2 * base * novel / total


def kl_of_torch(teacher_logits, student_logits):
    return F.kl_div(
        student_logits.log_softmax(1), teacher_logits.log_softmax(1), log_target=True, reduction="batchmean"
    )


def kl_by_loop(teacher_logits, student_logits):
    losses = []
    for t, s in zip(teacher_logits, student_logits):
        log_t, log_s = F.log_softmax(t, 0), F.log_softmax(s, 0)
        losses.append(sum(log_t.exp() * (log_t - log_s)))
    return sum(losses) / len(losses)


def mended_by_torch(teacher_logits, student_logits, batch):
    return kl_of_torch(teacher_logits.detach()[batch], student_logits)


def mended_by_index_select(teacher_logits, student_logits, batch):
    with torch.no_grad():
        rows = teacher_logits.index_select(0, batch)
    return kl_by_loop(rows, student_logits)


def kdpl_by_halves(batch):
    t, s = teacher_logits[batch].detach(), student_logits(batch, base_names)
    return 0.5 * kl_of_torch(t, s) + 0.5 * kl_of_torch(s, t)


def kdpl_by_difference(batch):
    with torch.no_grad():
        t = teacher_logits[batch].log_softmax(-1)
    s = student_logits(batch, base_names).log_softmax(-1)
    return 0.5 * ((t.exp() - s.exp()) * (t - s)).sum(1).mean()


def classes_by_sort(teacher_logits, k):
    return teacher_logits.softmax(1).sum(0).argsort(descending=True)[:k]


def classes_by_list(teacher_logits, k):
    mean = teacher_logits.softmax(1).mean(0).tolist()
    return torch.tensor(sorted(range(len(mean)), key=lambda c: -mean[c])[:k])


def recall_by_sets(selected, true):
    wanted = set(true.tolist())
    return len(wanted & set(selected.tolist())) / len(wanted)


def recall_by_comparison(selected, true):
    return (true.unique()[:, None] == selected[None]).any(1).float().mean()


def interval_of_scipy(a, b):
    from scipy import stats

    result = stats.ttest_rel(b, a)
    interval = result.confidence_interval(0.95)
    return [sum(b) / len(b) - sum(a) / len(a), interval.low, interval.high]


def interval_by_hand(a, b):
    from scipy import stats

    differences = torch.tensor(b, dtype=torch.float64) - torch.tensor(a, dtype=torch.float64)
    half = stats.t.ppf(0.975, len(a) - 1) * differences.std() / math.sqrt(len(a))
    return differences.mean(), differences.mean() - half, differences.mean() + half


def perturb_in_place(logits, temperature=1.0, noise=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed + 7)
    logits += noise * logits.std() * torch.randn(logits.shape, generator=generator)
    return logits / temperature


def perturb_of_global_seed(logits, temperature=1.0, noise=0.0, seed=0):
    torch.manual_seed(seed)
    return logits / temperature + torch.randn_like(logits) * logits.std() * noise / temperature


def nearest_by_cdist(query, dictionary, k):
    return torch.cdist(unit(query), unit(dictionary)).topk(k, largest=False).indices


def nearest_by_loop(query, dictionary, k):
    return torch.stack([F.cosine_similarity(q[None], dictionary).argsort(descending=True)[:k] for q in query])


ALSO_RIGHT = {
    "logits": (logits_by_functional, logits_by_cosine),
    "encode_names": (names_by_stack, names_one_by_one),
    "expected_calibration_error": (calibration_by_loop, calibration_by_sums),
    "splice_context": (splice_in_place, splice_by_rows),
    "harmonic_mean": (harmonic_by_parts, harmonic_by_sum),
    "forward_kl": (kl_of_torch, kl_by_loop),
    "mended": (mended_by_torch, mended_by_index_select),
    "kdpl": (kdpl_by_halves, kdpl_by_difference),
    "select_classes": (classes_by_sort, classes_by_list),
    "selection_recall": (recall_by_sets, recall_by_comparison),
    "paired_interval": (interval_of_scipy, interval_by_hand),
    "perturb": (perturb_in_place, perturb_of_global_seed),
    "nearest_names": (nearest_by_cdist, nearest_by_loop),
}


@each
def test_right_answers_of_any_form_are_kept(exercise, capsys):
    for answer in ALSO_RIGHT[exercise.name]:
        assert exercise(answer) is answer
        assert capsys.readouterr().out.startswith(f"✓ {exercise.name}: right on ")
        assert engine.RECORDS[exercise.name]["status"] == engine.RIGHT


@pytest.mark.parametrize("exercise, name", MUTANTS, ids=lambda x: getattr(x, "name", x))
def test_each_mistake_gets_its_sentence(exercise, name, capsys):
    mutant = exercise.mutants[name]
    assert exercise(mutant.function) is not mutant.function
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"✗ {exercise.name}: {mutant.sentence}"
    assert len(lines) == 2 and "LIBRARY'S" in lines[1]
    assert engine.RECORDS[exercise.name]["mistake"] == name


@each
def test_any_other_mistake_gets_got_and_expected(exercise, capsys):
    exercise(lambda *arguments: torch.tensor([123.0, 4.5]))
    lines = capsys.readouterr().out.splitlines()
    assert "got" in lines[1] and "expected" in lines[2] and lines[3].strip() == f"try       {exercise.advice}"
    assert len(lines) == 5 + bool(exercise.observed) and all(len(line) <= 140 for line in lines)
    assert exercise.observed in lines[4], "what the numbers are is said beside them"


def test_the_first_probe_that_shows_another_result_is_told(capsys):
    """Right on the first one, which has two pictures, and too large by 1 on the second."""

    def wrong_for_more_than_two(teacher_logits, student_logits, batch):
        return checks.mended.right(teacher_logits, student_logits, batch) + (len(batch) > 2)

    checks.mended(wrong_for_more_than_two)
    first, got, expected, *_ = capsys.readouterr().out.splitlines()
    assert first == "✗ mended: probe 2 of 2 shows another result."
    right = [outcome[0].item() for outcome in checks.mended.outcomes(checks.mended.right)]
    assert got.startswith(f"  got       ({right[1] + 1:.4g}, ")
    assert expected.startswith(f"  expected  ({right[1]:.4g}, ")


@each
@pytest.mark.parametrize("stub", ["ellipsis", "nothing", "raises"])
def test_what_was_not_attempted_runs_on_the_librarys(exercise, stub, capsys):
    def ellipsis(*arguments):
        return ...

    def nothing(*arguments): ...

    def raises(*arguments):
        raise NotImplementedError

    answer = {"ellipsis": ellipsis, "nothing": nothing, "raises": raises}[stub]
    substitute = exercise(answer)
    assert substitute is exercise.right or exercise.name == "kdpl"
    assert "not attempted yet. The lesson goes on with the LIBRARY'S version." in capsys.readouterr().out
    assert engine.RECORDS[exercise.name] == {
        "lesson": exercise.lesson,
        "attempts": 0,
        "hints": 0,
        "status": engine.NOT_TRIED,
        "mistake": None,
    }


@pytest.mark.parametrize("name, kind", [("select_classes", "list"), ("nearest_names", "list"), ("logits", "ndarray")])
def test_right_numbers_that_are_no_tensor_are_told_what_the_lesson_needs(name, kind, capsys):
    """Kept, they would stop the lesson: the next cells index with them."""
    exercise = checks.EXERCISES[name]

    def answer(*arguments):
        found = exercise.right(*arguments)
        return found.tolist() if kind == "list" else found.numpy()

    assert exercise(answer) is exercise.right
    out = capsys.readouterr().out
    assert out.startswith("✗") and f"the numbers are right, but they are a {kind}" in out


@each
def test_a_forgotten_return_is_told(exercise, capsys):
    """Whoever wrote lines did attempt it."""

    def forgets(*arguments):
        result = len(arguments)  # noqa: F841

    def prints(*arguments):
        print(len(arguments))

    for answer in (forgets, prints):
        exercise(answer)
        assert "has to begin with return." in capsys.readouterr().out
    assert engine.RECORDS[exercise.name]["attempts"] == 2 and engine.RECORDS[exercise.name]["mistake"] == "another"


@each
def test_an_error_is_told_and_never_raised(exercise, capsys):
    def broken(*arguments):
        return arguments[0].no_such_thing + undefined_name  # noqa: F821

    exercise(broken)
    lines = capsys.readouterr().out.splitlines()
    assert "AttributeError" in lines[1] and lines[3].endswith(outcomes.ERRORS["AttributeError"])
    assert len(lines) == 5 + bool(exercise.observed)


def test_what_fails_in_the_library_is_no_mistake_of_the_learner():
    def broken(*arguments):
        raise OSError("the disk is gone")

    exercise = dataclasses.replace(checks.logits, right=broken)
    with pytest.raises(OSError, match="the disk is gone"):
        exercise(logits_by_cosine)


def test_a_number_without_gradient_is_told_so(capsys):
    """A float from .item(), too: the learner's mistake is named, not an error of the check's own."""
    checks.forward_kl(lambda teacher_logits, student_logits: kl_of_torch(teacher_logits, student_logits).item())
    assert checks.forward_kl.mutants["no gradient"].sentence in capsys.readouterr().out


@each
def test_the_error_that_many_meet_is_real_and_explained(exercise, capsys):
    """Its code raises those words; where no mistake is recognised, the check says what they mean."""
    message, sentence, function = exercise.stumble
    raised = [outcome for outcome in exercise.outcomes(function) if isinstance(outcome, Exception)]
    assert raised and message in str(raised[0])
    exercise(function)
    out = capsys.readouterr().out
    assert sentence in out or any(mutant.sentence in out for mutant in exercise.mutants.values())
    assert 20 <= len(sentence) <= 140 and sentence.endswith(".")


@each
def test_what_is_expected_comes_from_the_librarys_version(exercise):
    found = checks.help_for(exercise.name)
    probes, outcomes_of_it = exercise.probes(), exercise.outcomes(exercise.right)
    assert len(found.expected) == len(probes) + bool(exercise.observed)
    assert (found.minutes, found.importance) == (exercise.minutes, exercise.importance)
    assert (found.error, found.cause, found.hints) == (*exercise.stumble[:2], exercise.hints)
    for line, outcome in zip(found.expected, outcomes_of_it):
        assert line.startswith(f"{exercise.name}(") and line.endswith(f"→  {outcomes.short(outcome, 3)}")
        assert len(line) <= 140
    assert (exercise.observe is engine.call) == (not exercise.observed)


def test_arguments_of_a_probe_are_shown_in_few_words():
    shown = {
        "1.23": torch.tensor(1.23456),
        "[4, 1]": torch.tensor([4, 1]),
        "[0, 1, 2, 3, 4, 5]": torch.arange(6),
        "tensor (7,)": torch.arange(7),
        "tensor (2,)": torch.tensor([0.5, 2.0]),
        "tensor (2, 3)": torch.arange(6).reshape(2, 3),
        "'cat'": "cat",
        "15": 15,
        "0.25": 0.25,
        "['cat', 'ox']": ["cat", "ox"],
        "a VLM": probes.toy_vlm(),
    }
    assert [helping.given(argument) for argument in shown.values()] == list(shown)


def nudged(outcome, factor):
    """What another machine's rounding may give."""
    if isinstance(outcome, tuple | list):
        return type(outcome)(nudged(part, factor) for part in outcome)
    is_rounded = isinstance(outcome, float) or isinstance(outcome, torch.Tensor) and outcome.is_floating_point()
    return outcome * factor if is_rounded else outcome


@each
def test_what_is_expected_is_the_same_on_every_machine(exercise):
    """The lessons carry it as text, so that no printed digit may hang on the last bits."""
    for outcome in exercise.outcomes(exercise.right):
        printed = outcomes.short(outcome, 3)
        assert "e-" not in printed
        for factor in (1 - 3e-6, 1 + 3e-6):
            assert outcomes.short(nudged(outcome, factor), 3) == printed


def test_the_museum_helps_as_an_exercise_does(capsys):
    found = checks.help_for("bug_museum")
    checks.bug_museum({"A": "roles swaped"})
    assert found.error in capsys.readouterr().out
    checks.bug_museum(dict.fromkeys(checks.EXHIBITS, None))
    assert len(found.hints) == 2 and len(found.expected) == len(checks.EXHIBITS)


@each
def test_texts_fit(exercise):
    assert len(exercise.hints) == 2 and all(len(h) <= 140 for h in exercise.hints)
    for mutant in exercise.mutants.values():
        assert 20 <= len(mutant.sentence) <= 160 and mutant.sentence.endswith(".")
    assert 1 <= exercise.importance <= 3 and exercise.minutes >= 1


def test_table_of_the_lessons():
    """The exercises that the lessons are built around, with the mistakes that must be known."""
    assert len(checks.EXERCISES) + 1 >= 14  # and the museum
    assert set(ALSO_RIGHT) == set(checks.EXERCISES)
    assert {e.lesson for e in checks.EXERCISES.values()} == {"01", "02", "03", "04", "05", "06", "07", "09", "10"}


# --- the library's versions -------------------------------------------------------------------------------------------


def test_the_librarys_closure_reads_the_notebooks_names():
    scope = {"names": ["a", "b"]}
    exec(
        "import torch\n"
        "teacher_logits, base_names = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), names\n"
        "def student_logits(batch, names): return factor * torch.ones(len(batch), len(names)).cumsum(1)\n"
        "def kdpl(batch): ...\n",
        scope,
    )
    closure = checks.kdpl(scope["kdpl"])
    scope["factor"] = 2.0  # also what comes later
    first = closure(torch.tensor([1]))
    scope["factor"] = 3.0
    assert 0 < first < closure(torch.tensor([1]))


def test_splicing_is_what_the_prompt_learner_does():
    """The exercise's right answer and the library's own path give one feature, through the model's own text tower."""
    import kdpl_utils as kd
    from kdpl_utils.checks.seeing import right_splice

    vlm = kd.load_vlm("emoji-student-rn")
    learner, names = kd.PromptLearner(vlm, n_ctx=4, seed=3), ["red panda", "ox"]
    tower = vlm.model
    ids = vlm.tokenizer([f"X X X X {name}." for name in names])
    spliced = right_splice(tower.token_embedding(ids), learner.ctx)
    x = tower.transformer(spliced + tower.positional_embedding[: ids.shape[1]], attn_mask=tower.attn_mask)
    x = tower.ln_final(x)[range(len(names)), ids.argmax(-1)] @ tower.text_projection
    torch.testing.assert_close(unit(x), learner(names), atol=1e-5, rtol=1e-4)


def test_quantiles_are_students():
    from scipy import stats

    from kdpl_utils.checks import judging

    for freedom, quantile in judging.T_TWO_SIDED.items():
        assert stats.t.ppf(0.975, freedom) == pytest.approx(quantile, abs=1e-6)
    assert stats.t.ppf(0.95, 4) == pytest.approx(judging.T_ONE_SIDED[4], abs=1e-6)
    assert stats.norm.ppf(0.975) == pytest.approx(judging.NORMAL_TWO_SIDED, abs=1e-6)


# --- slips that a new learner made ------------------------------------------------------------------------------------


def kl_with_a_small_number(teacher_logits, student_logits):
    t, s = teacher_logits.softmax(-1), student_logits.softmax(-1)
    return (t * ((t + 1e-8) / (s + 1e-8)).log()).sum(-1).mean()


def kl_of_a_quotient(teacher_logits, student_logits):
    t, s = teacher_logits.softmax(-1), student_logits.softmax(-1)
    return (t * (t / s).log()).sum(-1).mean()


def mended_with_ones_own_kl(teacher_logits, student_logits, batch):
    return kl_by_loop(teacher_logits[batch], student_logits)


def kl_of_two_logarithms(teacher_logits, student_logits):
    log_s, log_t = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return F.kl_div(log_s, log_t, reduction="sum") / len(log_t)


def interval_of_numpy(before, after):
    import numpy as np
    from scipy import stats

    d = np.array(after) - np.array(before)
    half = stats.t.ppf(0.975, len(d) - 1) * np.std(d) / np.sqrt(len(d))
    return d.mean(), d.mean() - half, d.mean() + half


def interval_of_percentiles(before, after):
    import numpy as np

    d = np.array(after) - np.array(before)
    return d.mean(), *np.percentile(d, [2.5, 97.5])


def interval_of_the_wrong_freedom(before, after):
    import numpy as np
    from scipy import stats

    d = np.array(after) - np.array(before)
    half = stats.t.ppf(0.975, len(d)) * np.std(d, ddof=1) / np.sqrt(len(d))
    return d.mean(), d.mean() - half, d.mean() + half


def recall_of_tensors(selected, true):
    return len(set(selected) & set(true)) / len(set(true))


def names_that_anybody_is_sure_of(teacher_logits, k):
    return teacher_logits.softmax(-1).max(0).values.topk(k).indices


def most_frequent_first_answers(teacher_logits, k):
    counts = torch.zeros(teacher_logits.shape[1])
    for answer in teacher_logits.argmax(-1):
        counts[answer] += 1
    return counts.topk(k).indices


def noise_at_the_end(logits, temperature=1.0, noise=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return logits / temperature + noise * logits.std() * torch.randn(logits.shape, generator=generator)


def calibration_of_half_open_bins(probs, labels, bins=15):
    confidence, answer = probs.max(-1)
    total = 0
    for m in range(bins):
        inside = (confidence >= m / bins) & (confidence < (m + 1) / bins)
        if inside.any():
            gap = (answer[inside] == labels[inside]).float().mean() - confidence[inside].mean()
            total += inside.float().mean() * gap.abs()
    return total


def calibration_of_all_bins(probs, labels, bins=15):
    confidence, answer = probs.max(-1)
    place = (confidence * bins).ceil()
    total = 0
    for m in range(1, bins + 1):
        inside = place == m
        gap = (answer[inside] == labels[inside]).float().mean() - confidence[inside].mean()
        total += inside.float().mean() * gap.abs()
    return total


def calibration_with_signs(probs, labels, bins=15):
    confidence, answer = probs.max(-1)
    place = (confidence * bins).ceil()
    total = 0
    for m in place.unique():
        inside = place == m
        gap = (answer[inside] == labels[inside]).float().mean() - confidence[inside].mean()
        total += inside.float().mean() * gap
    return total


def one_noise_for_every_picture(logits, temperature=1.0, noise=0.0, seed=0):
    torch.manual_seed(seed)
    return (logits + noise * logits.std() * torch.randn(logits.shape[-1])) / temperature


def noise_by_row(logits, temperature=1.0, noise=0.0, seed=0):
    torch.manual_seed(seed)
    return (logits + noise * logits.std(-1, keepdim=True) * torch.randn_like(logits)) / temperature


def uniform_noise(logits, temperature=1.0, noise=0.0, seed=0):
    torch.manual_seed(seed)
    return (logits + noise * logits.std() * torch.rand_like(logits)) / temperature


SLIPS = [
    (one_noise_for_every_picture, "perturb", "one noise for all pictures"),
    (noise_by_row, "perturb", "each row its own scale"),
    (uniform_noise, "perturb", "uniform noise"),
    (calibration_of_half_open_bins, "expected_calibration_error", "certain pictures left out"),
    (calibration_of_all_bins, "expected_calibration_error", "empty bins"),
    (calibration_with_signs, "expected_calibration_error", "no absolute value"),
    (kl_with_a_small_number, "forward_kl", "small number in the logarithm"),
    (mended_with_ones_own_kl, "mended", "gradient into the teacher"),
    (kl_of_a_quotient, "forward_kl", "NaN from 0 · log 0"),
    (kl_of_two_logarithms, "forward_kl", "kl_div of no probabilities"),
    (interval_of_numpy, "paired_interval", "divided by n"),
    (interval_of_percentiles, "paired_interval", "percentiles of the differences"),
    (interval_of_the_wrong_freedom, "paired_interval", "n degrees of freedom"),
    (recall_of_tensors, "selection_recall", "sets of tensors"),
    (names_that_anybody_is_sure_of, "select_classes", "largest in place of mean"),
    (most_frequent_first_answers, "select_classes", "counted first answers"),
    (noise_at_the_end, "perturb", "noise after the division"),
]


@pytest.mark.parametrize("answer, name, mistake", SLIPS, ids=[mistake for _, _, mistake in SLIPS])
def test_a_slip_is_named_as_it_is_typed(answer, name, mistake, capsys):
    exercise = checks.EXERCISES[name]
    exercise(answer)
    assert exercise.mutants[mistake].sentence in capsys.readouterr().out


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_when_two_outcomes_are_one():
    one, nan = torch.tensor([1.0, 2.0]), float("nan")
    assert outcomes.same(one, [1.0, 2.0 + 1e-7]) and not outcomes.same(one, [1.0, 2.1])
    assert not outcomes.same(torch.tensor(1.0), torch.tensor([1.0])), "a number is no vector of one"
    assert outcomes.same(0.0, 5e-6) and not outcomes.same(0.0, 5e-5), "rounding beside 0"
    assert outcomes.same(2e4, 2e4 + 1) and not outcomes.same(2e4, 2e4 + 10), "rounding of large numbers"
    assert outcomes.same(nan, math.inf) and not outcomes.same(nan, 0.0)
    assert outcomes.same(ValueError("a"), ValueError("b")) and not outcomes.same(ValueError(), TypeError())
    assert outcomes.same((one, None), [one, None]) and not outcomes.same((one, None), (one, one))
    assert not outcomes.same("words", one) and not outcomes.same(None, one)


def test_a_message_that_means_one_thing_everywhere_is_explained(capsys):
    """What torch says of the type or the brackets, whatever the exercise; not "shapes that do not fit"."""
    checks.expected_calibration_error(lambda probs, labels, bins=15: (probs.argmax(1) == labels).mean())
    assert outcomes.MESSAGES["could not infer output dtype"] in capsys.readouterr().out
    checks.select_classes(lambda teacher_logits, k: 1 if teacher_logits > 0 else 2)
    assert outcomes.MESSAGES["Boolean value of Tensor"] in capsys.readouterr().out
    checks.nearest_names(lambda query, dictionary, k: query / query.norm(dim=-1))
    assert outcomes.MESSAGES["must match the size of tensor"] in capsys.readouterr().out
    checks.logits(lambda image, text, scale: image(0))
    assert outcomes.MESSAGES["object is not callable"] in capsys.readouterr().out


def test_outcomes_are_shown_in_one_line():
    shown = {
        "None": None,
        "ValueError: the first line": ValueError("the first line\nand the second"),
        "(0.3333, None)": (1 / 3, None),
        "12": 12,
        "3.142": torch.tensor(math.pi),
        "(3,) 1 2 3": torch.tensor([1.0, 2.0, 3.0]),
        "(2, 2) 0 1 2 3": torch.arange(4).reshape(2, 2),
        "(5,) 0 1 2 3 …": torch.arange(5),
        "(1,) 0.5": torch.tensor([0.5], requires_grad=True),
        f"{'x' * 40} (str)": "x" * 41,
    }
    assert [outcomes.short(outcome) for outcome in shown.values()] == list(shown)
    assert outcomes.short(1 / 3, digits=2) == "0.33"
    assert len(outcomes.short(ValueError("x" * 200))) == 110


def test_only_a_function_of_python_is_bound_to_other_data():
    def looks_up(power=2):
        return teacher_logits**power

    assert outcomes.rebound(looks_up, {"teacher_logits": 3.0})() == 9.0
    assert teacher_logits is None, "the notebook keeps its own"
    assert outcomes.rebound(math.sqrt, {"teacher_logits": 3.0}) is math.sqrt


def test_an_answer_cannot_spoil_the_probes_of_the_next():
    def spoils(base_features, text_features, logit_scale):
        base_features.zero_()
        return base_features @ text_features.T

    checks.logits(spoils)
    assert checks.logits(checks.logits.right) is checks.logits.right


# --- the museum -------------------------------------------------------------------------------------------------------


def test_the_museums_curves_show_what_it_says():
    """Each sentence of ``BUGS`` about a curve, on made-up pictures."""
    from kdpl_utils.checks import museum
    from kdpl_utils.checks.probes import draw

    features, text = unit(draw(0, 320, 16)), unit(draw(1, 10, 16))
    teacher, scale = 30 * features @ unit(text + 0.15 * draw(2, 10, 16)).T, 30.0
    curves = {name: museum.exhibit(bug[0], features, text, teacher, scale) for name, bug in museum.BUGS.items()}
    before = checks.forward_kl.right(teacher, scale * features @ text.T).item()
    reported, true = curves["roles swapped"]
    assert reported[-1] < 0.5 * reported[0] and true[-1] == pytest.approx(before, rel=1e-4)
    reported, true = curves["teacher compared with itself"]
    assert max(map(abs, reported)) < 1e-5 and true[-1] == pytest.approx(before, rel=1e-4)
    reported, true = curves["batches in another order"]
    assert true[-1] > 1.2 * before and reported[-1] > 0.5
    reported, _ = curves["softmax for log-softmax"]
    assert max(reported) < 0
    _, true = museum.exhibit(checks.mended.right, features, text, teacher, scale)
    assert true[-1] < 0.5 * before


def test_an_exhibit_has_two_numbers_an_epoch(capsys):
    """The mean of the loss as it was reported, 2.5 whatever the student does, and the KL from the teacher."""
    features, text = unit(probes.draw(0, 96, 8)), unit(probes.draw(1, 5, 8))
    teacher = 20 * features @ text.T

    def constant(teacher_logits, student_logits, batch):
        return 2.5 + 0 * student_logits.sum()

    reported, true = checks.exhibit(constant, features, text, teacher, 20.0)
    assert reported == [2.5] * checks.museum.RECIPE.epochs
    assert true == pytest.approx([0.0] * checks.museum.RECIPE.epochs, abs=1e-6)
    assert capsys.readouterr() == ("", ""), "four bars of progress would stand above the figure"


def test_the_museums_guests_are_told(capsys):
    from kdpl_utils.checks import museum

    right = {
        letter: name for letter, loss in museum.EXHIBITS.items() for name, bug in museum.BUGS.items() if bug[0] is loss
    }
    checks.bug_museum(dict.fromkeys("ABCD"))
    assert engine.RECORDS["bug_museum"]["status"] == "not attempted"
    checks.bug_museum({**right, "A": right["B"], "D": None})
    text = capsys.readouterr().out
    assert f"✗ A is not {right['B']!r}: the reported loss would fall" in text and "○ D: not named yet." in text
    assert engine.RECORDS["bug_museum"]["status"] != engine.RIGHT
    assert f"✓ B: {right['B']}. Published: {museum.BUGS[right['B']][2]}\n" in text
    assert engine.RECORDS["bug_museum"]["mistake"] == f"A: {right['B']}"
    checks.bug_museum(right)
    assert engine.RECORDS["bug_museum"]["status"] == engine.RIGHT and engine.RECORDS["bug_museum"]["attempts"] == 2
    assert engine.RECORDS["bug_museum"]["mistake"] is None
    checks.bug_museum({"A": "gremlins"})
    assert "'gremlins' is no bug of this museum. Choose among: roles swapped" in capsys.readouterr().out


# --- predictions and reports ------------------------------------------------------------------------------------------


def test_a_prediction_is_set_beside_its_measurement(capsys):
    asked = checks.predict("confidence", "How sure is the student?")
    asked.control.value = 62
    assert "You say 62 %" in asked.text.value
    asked.measured(torch.tensor(48.2))
    assert repr(asked) == f"Prediction('confidence', said=62.0, measured={asked.measurement})"
    assert capsys.readouterr().out == "you said 62 %, measured 48.2 %\n"


def test_an_unanswered_prediction_does_not_block(capsys):
    checks.predict("confidence", "How sure?").measured(48)
    checks.predict("winner", "Which?", options=["a", "b"]).measured("b")
    assert capsys.readouterr().out == ("measured 48 % (you made no prediction)\nmeasured b (you made no prediction)\n")


def test_predictions_without_widgets(capsys):
    checks.predict("winner", "Which?", options=["a", "b"], said="a").measured("b")
    checks.predict("bits", "How many?", 0, 4, "bits", said=1.5).measured(2)
    assert capsys.readouterr().out == "you said a, measured b: not so\nyou said 1.5 bits, measured 2 bits\n"
    with pytest.raises(ValueError, match="'c' is no answer to 'Which\\?': choose a, b."):
        checks.predict("winner", "Which?", options=["a", "b"], said="c")
    bundle, _ = checks.predict("bits", "How many?", 0, 4, "bits")._repr_mimebundle_()
    assert bundle["text/plain"] == "Predict. How many? (0 bits to 4 bits; without widgets: said=…)"
    assert bundle["text/html"] == f"<p>{bundle['text/plain']}</p>"


def test_the_slider_of_a_prediction():
    """From one end to the other in a hundred steps; it stands in the middle, or where the cell says."""
    usual = checks.predict("confidence", "How sure?")
    assert (usual.control.min, usual.control.max, usual.unit) == (0, 100, "%")
    slider = checks.predict("bits", "How many?", 2, 6, "bits").control
    assert (slider.min, slider.max, slider.step, slider.value) == (2, 6, 0.04, 4)
    assert not slider.continuous_update, "an answer is given where the handle is let go"
    assert checks.predict("bits", "How many?", 2, 6, "bits", said=5).control.value == 5
    assert checks.predict("bits", "How many?", 2, 6, "bits", said=2).said == 2
    with pytest.raises(ValueError, match="6.5 is no answer to 'How many\\?': choose a number from 2 to 6."):
        checks.predict("bits", "How many?", 2, 6, "bits", said=6.5)


@pytest.mark.parametrize("options", [(), ("a", "b")])
def test_a_prediction_is_a_widget_and_words(options):
    asked = checks.predict("which", "Which?", options=options)
    shown, _ = DisplayFormatter().format(asked)
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] == asked.box.model_id
    assert shown["text/plain"].startswith("Predict. Which?") and "Which?" in shown["text/html"]


def test_a_count_is_asked_in_whole_numbers():
    """With steps of a hundredth, "one of six" could not be said."""
    asked = checks.predict("gap", "In how many of six?", 0, 6, "", step=1)
    assert asked.control.step == 1 and asked.control.readout_format == ".0f"
    asked.control.value = 5
    assert "You say 5." in asked.text.value
    assert checks.predict("share", "How many?", 0, 50).control.step == 0.5


def test_the_unit_stands_beside_the_slider():
    """Before anything is answered, too: "how many pictures" can be a count or a share."""
    asked = checks.predict("right", "How many are named rightly?")
    assert [part.value for part in asked.box.children[1].children if part is not asked.control] == ["%"]
    assert checks.predict("which", "Which?", options=["a", "b"]).box.children[1].children == (asked_of("which"),)


def asked_of(name):
    return prediction.PREDICTIONS[name].control


def test_choices_are_taken_by_a_click(capsys):
    asked = checks.predict("winner", "Which?", options=["a", "b"])
    assert asked.said is None, "nothing is chosen before the learner chooses"
    asked.control.value = "b"
    asked.measured("b")
    assert capsys.readouterr().out == "you said b, measured b: right\n"


def test_summary_and_export(tmp_path, capsys):
    checks.splice_context(splice_by_rows)
    checks.harmonic_mean(harmonic_by_sum)
    checks.forward_kl(checks.forward_kl.mutants["arguments swapped"].function)
    checks.logits(lambda *arguments: None)
    checks.logits.hint(2)
    checks.predict("confidence", "How sure?", said=62).measured(48)
    capsys.readouterr()
    checks.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "○ 01 logits: the library's, not attempted, attempts: 0",
        "✓ 03 harmonic_mean: yours, attempts: 1",
        "✓ 03 splice_context: yours, attempts: 1",
        "○ 04 forward_kl: the library's, yours is not right yet (arguments swapped), attempts: 1",
        "2 of 4 exercises are yours; 1 of 1 predictions made.",
    ]
    report = json.loads(checks.export(tmp_path / "mine.json", who="Ada").read_text(encoding="utf-8"))
    assert report["who"] == "Ada" and report["exercises"]["logits"]["hints"] == 2
    assert report["predictions"]["confidence"] == {"question": "How sure?", "said": 62, "measured": 48, "unit": "%"}


def test_a_lesson_without_exercises_sums_up_its_predictions(capsys):
    checks.predict("times", "How many times?", 0, 10, "times", said=3).measured(4)
    checks.predict("best", "Which?", options=["a", "b"])
    capsys.readouterr()
    checks.summary()
    assert capsys.readouterr().out.splitlines() == [
        "times: you said 3 times, measured 4 times",
        "best: not measured yet",
        "No exercise was checked here; 1 of 2 predictions made.",
    ]


def test_the_museum_gives_hints_as_every_exercise_does(capsys):
    checks.bug_museum.hint()
    checks.bug_museum.hint(2)
    assert capsys.readouterr().out == "\n".join(checks.help_for("bug_museum").hints) + "\n"
    assert engine.RECORDS["bug_museum"] == {"lesson": "04", "attempts": 0, "hints": 2, "status": "not attempted"}


def test_hints_come_in_two_depths(capsys):
    checks.forward_kl.hint()
    checks.forward_kl.hint(2)
    assert capsys.readouterr().out == "\n".join(checks.forward_kl.hints) + "\n"
    assert engine.RECORDS["forward_kl"]["hints"] == 2
    checks.forward_kl.hint()
    assert engine.RECORDS["forward_kl"] == {"lesson": "04", "attempts": 0, "hints": 2, "status": engine.NOT_TRIED}


@pytest.mark.parametrize("depth, which", [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_a_hint_of_any_depth_is_one_of_two(depth, which, capsys):
    checks.logits.hint(depth)
    assert capsys.readouterr().out == f"{checks.logits.hints[which]}\n"
