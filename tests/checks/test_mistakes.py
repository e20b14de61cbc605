"""Mistakes as a learner types them, not as the checks have them: each is told its own sentence.

What a check compares answers with is a mistake of its own. One that is no longer the mistake that its sentence speaks
of is noticed here alone.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from kdpl_utils import checks
from kdpl_utils.checks import engine
from kdpl_utils.vlm import encode_texts


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(engine, "RECORDS", {})


def mistakes(name, **functions):
    """(exercise, mistake, function); a mistake's name with _ for what no keyword holds."""
    known = {"".join(c if c.isalnum() else "_" for c in mistake): mistake for mistake in checks.EXERCISES[name].mutants}
    return [(name, known[mistake], function) for mistake, function in functions.items()]


# --- 01 to 03 ---------------------------------------------------------------------------------------------------------


def length_one(x, dim=1):
    return x / x.norm(dim=dim, keepdim=True)


LOGITS = mistakes(
    "logits",
    not_normalised=lambda image, text, scale: torch.exp(scale) * torch.einsum("nd,cd->nc", image, text),
    names_not_normalised=lambda image, text, scale: torch.exp(scale) * F.linear(length_one(image), text),
    pictures_not_normalised=lambda image, text, scale: torch.exp(scale) * F.linear(image, length_one(text)),
    batch_axis_normalised=lambda image, text, scale: (
        torch.exp(scale) * F.linear(length_one(image, 0), length_one(text, 0))
    ),
    logit_scale_not_exponentiated=lambda image, text, scale: scale * F.linear(length_one(image), length_one(text)),
    names_in_the_rows=lambda image, text, scale: torch.exp(scale) * F.linear(length_one(text), length_one(image)),
)


def averaged_raw(vlm, names, templates):
    rows = [torch.stack([encode_texts(vlm, [t.format(name)])[0] for t in templates]).mean(0) for name in names]
    return length_one(torch.stack(rows))


def averaged_once(vlm, names, templates):
    rows = [length_one(encode_texts(vlm, [t.format(name) for t in templates])).mean(0) for name in names]
    return torch.stack(rows)


def reshaped_wrongly(vlm, names, templates):
    features = length_one(encode_texts(vlm, [t.format(name) for name in names for t in templates]))
    return length_one(features.view(len(templates), len(names), -1).sum(0))


def first_template(vlm, names, templates):
    return length_one(encode_texts(vlm, [templates[0].format(name) for name in names]))


def averaged_names(vlm, names, templates):
    rows = [length_one(encode_texts(vlm, [t.format(name) for name in names])).mean(0) for t in templates]
    return length_one(torch.stack(rows))


NAMES = mistakes(
    "encode_names",
    averaged_before_normalising=averaged_raw,
    not_normalised_again=averaged_once,
    axes_mixed=reshaped_wrongly,
    one_template=first_template,
    averaged_over_names=averaged_names,
)


def gaps(probs, labels, confidence, groups, weights=None):
    """Σ over groups of |hits − confidence|, by sums; weighted by 1/n unless it is said otherwise."""
    total = 0.0
    for group in set(groups.tolist()):
        inside = groups == group
        hits = (probs.argmax(1)[inside] == labels[inside]).float().sum()
        gap = (hits - confidence[inside].sum()).abs().item()
        total += gap / len(labels) if weights is None else weights * gap / int(inside.sum())
    return total


def grouped_by_label(probs, labels, bins=15):
    return gaps(probs, labels, probs.amax(1), labels)


def bins_alike(probs, labels, bins=15):
    places = torch.bucketize(probs.amax(1), torch.linspace(0, 1, bins + 1))
    return gaps(probs, labels, probs.amax(1), places, 1 / len(places.unique()))


def of_the_true_class(probs, labels, bins=15):
    confidence = probs.gather(1, labels[:, None])[:, 0]
    return gaps(probs, labels, confidence, torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)))


def of_all_pictures(probs, labels, bins=15):
    return abs((probs.argmax(1) == labels).float().mean() - probs.amax(1).mean())


CALIBRATION = mistakes(
    "expected_calibration_error",
    bins_by_label=grouped_by_label,
    unweighted_mean=bins_alike,
    confidence_of_the_true_class=of_the_true_class,
    no_bins=of_all_pictures,
)


def over_the_start(token_embeddings, ctx):
    spliced = token_embeddings.clone()
    spliced[:, : len(ctx)] = ctx
    return spliced


def pushed_in(token_embeddings, ctx):
    return torch.stack([torch.cat([row[:1], ctx, row[1:]]) for row in token_embeddings])


def pushed_in_and_cut(token_embeddings, ctx):
    return torch.stack([torch.cat([row[:1], ctx, row[1 : len(row) - len(ctx)]]) for row in token_embeddings])


def cut_off(token_embeddings, ctx):
    spliced = token_embeddings.clone()
    spliced[:, 1 : 1 + len(ctx)] = ctx.data
    return spliced


SPLICING = mistakes(
    "splice_context",
    start_token_overwritten=over_the_start,
    inserted=pushed_in,
    end_token_shifted=pushed_in_and_cut,
    ctx_detached=cut_off,
)

HARMONIC = mistakes(
    "harmonic_mean",
    arithmetic_mean=lambda base, novel: sum([base, novel]) / 2,
    geometric_mean=lambda base, novel: math.sqrt(base) * math.sqrt(novel),
    zero_division=lambda base, novel: base * novel / ((base + novel) / 2),
    division_by_one_zero=lambda base, novel: 1 / ((1 / base + 1 / novel) / 2),
    without_the_2=lambda base, novel: 0 if base == novel == 0 else base * novel / (base + novel),
)

# --- 04 and 05 --------------------------------------------------------------------------------------------------------


def kl_of(t, s):
    """KL of each picture, from logarithms of probabilities."""
    return (torch.exp(t) * (t - s)).sum(1)


def logs(*logits):
    return [F.log_softmax(x, 1) for x in logits]


KL = mistakes(
    "forward_kl",
    arguments_swapped=lambda t, s: kl_of(*logs(s, t)).mean(),
    mean_also_over_classes=lambda t, s: F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction="none").mean(),
    sum_over_pictures=lambda t, s: F.kl_div(F.log_softmax(s, 1), F.softmax(t, 1), reduction="sum"),
    a_number_a_picture=lambda t, s: kl_of(*logs(t, s)),
    logarithms_as_weights=lambda t, s: torch.mean(torch.sum(logs(t)[0] * (logs(t)[0] - logs(s)[0]), 1)),
    sign_turned=lambda t, s: (torch.exp(logs(t)[0]) * (logs(s)[0] - logs(t)[0])).sum(1).mean(),
    in_bits=lambda t, s: kl_of(*logs(t, s)).mean() * math.log2(math.e),
    softmax_over_the_pictures=lambda t, s: (
        (F.softmax(t, 0) * (F.log_softmax(t, 0) - F.log_softmax(s, 0))).sum(1).mean()
    ),
    softmax_for_log_softmax=lambda t, s: F.kl_div(F.softmax(s, 1), F.softmax(t, 1), reduction="sum") / len(t),
    cross_entropy=lambda t, s: F.cross_entropy(s, F.softmax(t, 1)),
    no_gradient=lambda t, s: kl_of(*logs(t, s.detach())).mean(),
)
MENDED = mistakes(
    "mended",
    swapped=lambda t, s, batch: kl_of(F.log_softmax(s, 1).detach(), F.log_softmax(t[batch], 1)).mean(),
    with_itself=lambda t, s, batch: kl_of(F.log_softmax(t[batch], 1).detach(), F.log_softmax(t[batch], 1)).mean(),
    other_order=lambda t, s, batch: kl_of(F.log_softmax(t[: len(s)], 1).detach(), F.log_softmax(s, 1)).mean(),
    symmetric=lambda t, s, batch: (
        kl_of(*logs(t[batch].detach(), s)).mean() / 2 + kl_of(*logs(s, t[batch].detach())).mean() / 2
    ),
    no_logarithm=lambda t, s, batch: (
        F.kl_div(F.softmax(s, 1), F.softmax(t[batch], 1).detach(), reduction="sum") / len(batch)
    ),
)

teacher_logits = student_logits = base_names = labels = scale = teacher_scale = None  # bound by the check of kdpl


def both_ways(t, s):
    return 0.5 * (kl_of(*logs(t, s)) + kl_of(*logs(s, t))).mean()


CLOSURE = mistakes(
    "kdpl",
    gradient_into_the_teacher=lambda batch: both_ways(teacher_logits[batch], student_logits(batch, base_names)),
    labels_touched=lambda batch: F.nll_loss(F.log_softmax(student_logits(batch, base_names), 1), labels[batch]),
    class_order=lambda batch: both_ways(teacher_logits[batch].detach(), student_logits(batch, sorted(base_names))),
    teacher_s_scale=lambda batch: both_ways(
        teacher_logits[batch].detach() / scale * teacher_scale, student_logits(batch, base_names)
    ),
    other_pictures=lambda batch: both_ways(
        teacher_logits.detach()[range(len(batch))], student_logits(batch, base_names)
    ),
    one_direction=lambda batch: kl_of(*logs(teacher_logits[batch].detach(), student_logits(batch, base_names))).mean(),
    no_gradient=lambda batch: both_ways(teacher_logits[batch], student_logits(batch, base_names)).item(),
    hard_labels=lambda batch: F.nll_loss(
        F.log_softmax(student_logits(batch, base_names), 1), teacher_logits[batch].max(1).indices
    ),
)

# --- 06 to 10 ---------------------------------------------------------------------------------------------------------

SELECTION = mistakes(
    "select_classes",
    top_k_for_each_image=lambda logits, k: F.softmax(logits, 1).argsort(1, descending=True)[:, :k],
    mean_of_logits=lambda logits, k: logits.sum(0).argsort(descending=True)[:k],
    picked_by_the_student=lambda logits, k: F.softmax(student_logits, 1).sum(0).argsort(descending=True)[:k],
    values_for_indices=lambda logits, k: F.softmax(logits, 1).mean(0).sort(descending=True).values[:k],
    softmax_over_the_pictures=lambda logits, k: (F.softmax(logits, 0).sum(0) / len(logits)).topk(k).indices,
    the_least_probable=lambda logits, k: F.softmax(logits, 1).sum(0).topk(k, largest=False).indices,
)


def hits(selected, true):
    return [t for t in set(true.tolist()) if t in selected.tolist()]


RECALL = mistakes(
    "selection_recall",
    precision=lambda selected, true: len(hits(selected, true)) / len(selected),
    each_picture_counts=lambda selected, true: sum(t in selected.tolist() for t in true.tolist()) / len(true),
    a_count=lambda selected, true: len(hits(selected, true)),
    same_places=lambda selected, true: torch.eq(selected, true).sum() / len(true),
)


def interval(centre, half):
    return float(centre), float(centre - half), float(centre + half)


def of_differences(quantile, root=True):
    def answer(before, after):
        import numpy as np
        from scipy import stats

        d = np.subtract(after, before)
        error = d.std(ddof=1) / (np.sqrt(len(d)) if root else 1)
        return interval(d.mean(), quantile(stats, len(d)) * error)

    return answer


def two_groups(before, after):
    from scipy import stats

    low, high = stats.ttest_ind(after, before).confidence_interval(0.95)
    return (low + high) / 2, low, high


def spread_of_the_runs_after(before, after):
    from scipy import stats

    low, high = stats.ttest_1samp(after, 0).confidence_interval(0.95)
    return interval(sum(after) / len(after) - sum(before) / len(before), (high - low) / 2)


def turned(before, after):
    mean, low, high = right_interval(before, after)
    return -mean, -high, -low


right_interval = of_differences(lambda stats, n: stats.t.ppf(0.975, n - 1))


def low_first(before, after):
    mean, low, high = right_interval(before, after)
    return low, mean, high


def divided_by_pairs(before, after):
    mean, low, _ = right_interval(before, after)
    return interval(mean, (mean - low) / len(before) ** 0.5)


INTERVAL = mistakes(
    "paired_interval",
    unpaired=two_groups,
    one_sided=of_differences(lambda stats, n: stats.t.ppf(0.95, n - 1)),
    over_runs_in_place_of_pairs=spread_of_the_runs_after,
    normal_quantile=of_differences(lambda stats, n: stats.norm.ppf(0.975)),
    spread_of_runs__not_of_the_mean=of_differences(lambda stats, n: stats.t.ppf(0.975, n - 1), root=False),
    no_root=divided_by_pairs,
    ends_exchanged=of_differences(lambda stats, n: stats.t.ppf(0.025, n - 1)),
    mean_in_the_middle=low_first,
    backwards=turned,
)


def epsilon(z, seed, deviation=True):
    drawn = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed + 5))
    return drawn * (z.std() if deviation else 1)


PERTURBED = mistakes(
    "perturb",
    multiplies_by_T=lambda z, temperature, noise, seed: temperature * (z + noise * epsilon(z, seed)),
    noise_after_softmax=lambda z, temperature, noise, seed: (
        F.softmax(z / temperature, 1) + noise * epsilon(z, seed, False)
    ),
    noise_without_its_scale=lambda z, temperature, noise, seed: (z + noise * epsilon(z, seed, False)) / temperature,
    another_noise_each_time=lambda z, temperature, noise, seed: (
        (z + noise * torch.randn(z.shape) * z.std()) / temperature
    ),
)
NEAREST = mistakes(
    "nearest_names",
    dictionary_and_query_swapped=lambda query, words, k: (length_one(words) @ length_one(query).T).topk(k, 1).indices,
    cosine_without_norm=lambda query, words, k: F.linear(query, words).argsort(1, descending=True)[:, :k],
    returns_distances=lambda query, words, k: (
        F.linear(length_one(query), length_one(words)).sort(1, descending=True).values[:, :k]
    ),
    the_farthest=lambda query, words, k: F.linear(length_one(query), length_one(words)).argsort(1)[:, :k],
    distance_of_raw_vectors=lambda query, words, k: (
        (query[:, None] - words).square().sum(-1).argsort(1)[:, :k]
    ),
)  # fmt: skip
ALL = [*LOGITS, *NAMES, *CALIBRATION, *SPLICING, *HARMONIC, *KL, *MENDED, *CLOSURE]
ALL += [*SELECTION, *RECALL, *INTERVAL, *PERTURBED, *NEAREST]


@pytest.mark.parametrize("name, mistake, answer", ALL, ids=[f"{name}-{mistake}" for name, mistake, _ in ALL])
def test_a_mistake_is_told_its_own_sentence(name, mistake, answer, capsys):
    exercise = checks.EXERCISES[name]
    exercise(answer)
    assert capsys.readouterr().out.startswith(f"✗ {name}: {exercise.mutants[mistake].sentence}\n")
    assert engine.RECORDS[name]["mistake"] == mistake
