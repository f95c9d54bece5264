"""Models of a run against each other, item by item: differences, how sure they are, and a plain word."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from workbench.config.names import ADAPTER, BASE, MERGED, MODELS, TRAINED, UNTRAINED
from workbench.errors import DataError
from workbench.evaluation.metrics import statistics
from workbench.evaluation.records import ITEM_ALONE, Prediction, Score, lower_is_better
from workbench.leaderboard import formatting
from workbench.leaderboard.collect import Collection, Run
from workbench.leaderboard.view_model import (
    ALPHA,
    BETTER,
    MAJORITY,
    UNSURE,
    WORSE,
    Board,
    Difference,
    Flips,
    Mean,
    Row,
    RunView,
    Sample,
)

Pair = tuple[Prediction, Prediction]


def compare(collection: Collection, num_samples: int = 3) -> Board:
    """All runs, compared; damaged predictions are named beside damaged results."""
    views = [compare_models(run, num_samples) for run in collection.runs]
    return Board(runs=views, skipped=collection.skipped)


def compare_models(run: Run, num_samples: int) -> RunView:
    """The models of one run on each benchmark, p-values corrected over the benchmarks."""
    rows = _corrected(
        [_row(run, name, num_samples) for name in dict.fromkeys(s.benchmark for s in run.scores)]
    )
    languages = list(dict.fromkeys(row.language for row in rows))
    alike = [row for row in rows if row.is_share and row.same_rule and row.same_prompts]
    of = {language: _on_all([row for row in alike if row.language == language]) for language in languages}
    means = {language: _means(some) for language, some in of.items()}
    gains = {language: gain for language, some in of.items() if (gain := _gain(some)) is not None}
    return RunView(run=run, rows=rows, means=means, gains=gains)


def _row(run: Run, benchmark: str, num_samples: int) -> Row:
    """One benchmark: its scores by metric, and the comparisons that its predictions allow."""
    by_metric: dict[str, dict[str, Score]] = {}
    for score in run.scores:
        if score.benchmark == benchmark:
            by_metric.setdefault(score.metric, {})[score.model] = score
    metric, *further = by_metric
    scores = by_metric[metric]
    row = Row(
        run=run.label,
        benchmark=benchmark,
        language=next(iter(scores.values())).language,
        metric=metric,
        scores={name: scores[name] for name in sorted(scores, key=_model_order)},
        further={name: by_metric[name] for name in further},
    )
    try:
        return _compared(run, row, num_samples)
    except DataError as error:
        reason = str(error).replace(f"{run.files.path}/", "")
        return replace(row, problem=f"predictions can't be read: {reason}")


def _model_order(name: str) -> tuple[int, str]:
    return (MODELS.index(name) if name in MODELS else len(MODELS), name)


def _compared(run: Run, row: Row, num_samples: int) -> Row:
    if not row.same_rule:
        how = "; ".join(f"{name} {formatting.asked(score)}" for name, score in row.scores.items())
        return replace(row, problem=f"scored by different rules, which don't compare: {how}")
    answers = {model: found for model in row.scores if (found := run.predictions(model, row.benchmark))}
    flips = None
    if ADAPTER in answers and MERGED in answers:
        flips = _flips(_pairs(answers[ADAPTER], answers[MERGED])[0], row.metric)
    trained = next((name for name in (ADAPTER, TRAINED, MERGED) if name in answers), None)
    if trained is None or BASE not in row.scores:
        return replace(row, flips=flips)
    if row.scores[BASE].note == UNTRAINED:
        reference, first = MAJORITY, _majority(answers[trained], row.metric)
    elif BASE in answers:
        reference, first = BASE, answers[BASE]
    else:
        return replace(row, flips=flips, problem="the base's predictions are missing")
    pairs, unpaired = _pairs(first, answers[trained])
    pairs = [(a, b) for a, b in pairs if row.metric in a.scores and row.metric in b.scores]
    if not pairs:
        return replace(
            row, flips=flips, problem=f"{reference} and {trained} have no item and prompt in common"
        )
    score, is_mean = row.scores[trained], _is_mean(row.scores[trained], answers[trained])
    # Items of a perplexity score log-likelihoods, of which more is better.
    lower = lower_is_better(row.metric) and (is_mean or score.item_score.endswith(ITEM_ALONE))
    difference = _difference(row, reference, trained, pairs, unpaired)
    if lower:
        difference = _turned(difference)
    if not is_mean:
        if reference == MAJORITY:
            return replace(
                row, flips=flips, problem=f"the majority class has no {row.metric} to compare with"
            )
        difference = _without_mean(row, difference)
    return replace(
        row,
        flips=flips,
        difference=difference,
        gained=_samples(pairs, row.metric, -1 if lower else 1, num_samples) if reference == BASE else [],
        lost=_samples(pairs, row.metric, 1 if lower else -1, num_samples) if reference == BASE else [],
        problem=f"{unpaired} items without a partner are left out of the difference" if unpaired else "",
    )


def _pairs(first: Sequence[Prediction], second: Sequence[Prediction]) -> tuple[list[Pair], int]:
    """Predictions of the same item from the same prompt, and how many items found no partner."""
    partners = {(one.id, one.prompt_hash): one for one in second}
    pairs = [
        (one, partners[one.id, one.prompt_hash]) for one in first if (one.id, one.prompt_hash) in partners
    ]
    return pairs, max(len(first), len(second)) - len(pairs)


def _majority(answers: Sequence[Prediction], metric: str) -> list[Prediction]:
    """What always giving the most frequent right answer would have scored."""
    counts = Counter(str(one.target) for one in answers)
    most = min(counts, key=lambda target: (-counts[target], target))
    return [replace(one, prediction=None, scores={metric: float(str(one.target) == most)}) for one in answers]


def _flips(pairs: Sequence[Pair], metric: str) -> Flips:
    return Flips(
        answers=sum(a.prediction != b.prediction for a, b in pairs),
        scores=sum(a.scores.get(metric) != b.scores.get(metric) for a, b in pairs),
        num_items=len(pairs),
    )


def _difference(row: Row, reference: str, trained: str, pairs: list[Pair], unpaired: int) -> Difference:
    first = [a.scores[row.metric] for a, _ in pairs]
    second = [b.scores[row.metric] for _, b in pairs]
    macro = row.scores[trained].average == "macro"
    subsets = [a.subset for a, _ in pairs] if macro else None
    test = statistics.compare(first, second, row.any_score.confidence, subsets=subsets)
    return Difference(
        reference=reference,
        model=trained,
        value=test.difference,
        stderr=test.stderr,
        interval=test.interval,
        p_value=test.p_value,
        adjusted_p_value=test.p_value,
        test=test.test,
        wins=test.wins,
        losses=test.losses,
        num_items=len(pairs),
        num_unpaired=unpaired,
        detectable=test.detectable,
        verdict=BETTER if test.difference > 0 else WORSE,
    )


def _turned(difference: Difference) -> Difference:
    """The same numbers, of a metric of which less is better: items that score less are gained."""
    better = difference.value < 0
    return replace(
        difference,
        wins=difference.losses,
        losses=difference.wins,
        verdict=BETTER if better else WORSE,
    )


def _without_mean(row: Row, difference: Difference) -> Difference:
    """For F1, MCC and perplexity: the items tell whether there is a difference, the scores how large."""
    value = row.scores[difference.model].value - row.scores[BASE].value
    return replace(difference, value=value, stderr=None, interval=None, detectable=None)


def _is_mean(score: Score, answers: Sequence[Prediction]) -> bool:
    """Whether a score is the mean of its items' scores, averaged as it says."""
    items = [one.scores.get(score.metric, math.nan) for one in answers]
    parts = _by_subset([(one, one) for one in answers], items) if score.average == "macro" else {"": items}
    return math.isclose(_mean_of_means(parts), score.value, abs_tol=1e-9)


def _by_subset(pairs: Sequence[Pair], values: Sequence[float]) -> dict[str, list[float]]:
    parts: dict[str, list[float]] = {}
    for (_, one), value in zip(pairs, values, strict=True):
        parts.setdefault(one.subset, []).append(value)
    return parts


def _mean_of_means(parts: dict[str, list[float]]) -> float:
    return statistics.mean([statistics.mean(some) for some in parts.values()])


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """The rows with p-values adjusted over all of them; the direction is said where it is sure."""
    differences = [row.difference for row in rows if row.difference is not None]
    adjusted = iter(statistics.holm([difference.p_value for difference in differences]))
    corrected = []
    for row in rows:
        if row.difference is not None:
            p_value = next(adjusted)
            verdict = row.difference.verdict if p_value < ALPHA else UNSURE
            row = replace(row, difference=replace(row.difference, adjusted_p_value=p_value, verdict=verdict))
        corrected.append(row)
    return corrected


def _samples(pairs: Sequence[Pair], metric: str, sign: int, count: int) -> list[Sample]:
    """The first items on which the second model scored more (sign 1) or less (sign -1)."""
    found = [Sample(first=a, second=b) for a, b in pairs if sign * (b.scores[metric] - a.scores[metric]) > 0]
    return found[:count]


def _on_all(rows: Sequence[Row]) -> list[Row]:
    """The rows on which every model was scored that was scored on any."""
    models = {name for row in rows for name in _known(row)}
    return [row for row in rows if _known(row).keys() == models]


def _known(row: Row) -> dict[str, Score]:
    """The scores of a row without that of an untrained head."""
    return {name: score for name, score in row.scores.items() if score.note != UNTRAINED}


def _means(rows: Sequence[Row]) -> dict[str, Mean]:
    """Mean of each model over benchmarks that all of them were scored on."""
    models = sorted({name for row in rows for name in _known(row)}, key=_model_order)
    return {name: _mean_of([_estimate(row.scores[name]) for row in rows], 0.0, 1.0) for name in models}


def _estimate(score: Score) -> tuple[float, float | None, float]:
    """Value, standard error and coverage of a score.

    Items that all score the same have no standard error that means anything: then half the interval's, over
    the normal quantile.
    """
    error = score.stderr
    if error == 0 and score.interval is not None:
        error = (score.interval[1] - score.interval[0]) / 2 / _quantile(score.confidence)
    return score.value, error, score.confidence


def _gain(rows: Sequence[Row]) -> Mean | None:
    """Mean difference over the benchmarks that have one."""
    found = [
        (row.difference.value, row.difference.stderr, row.any_score.confidence)
        for row in rows
        if row.difference is not None and row.difference.stderr is not None
    ]
    return _mean_of(found, -1.0, 1.0) if found else None


def _mean_of(parts: Sequence[tuple[float, float | None, float]], low: float, high: float) -> Mean:
    """Mean of independent estimates with a normal interval, cut to what is possible.

    Args:
        parts: Value, standard error and coverage of each; the largest coverage is the mean's.
        low: Nothing is possible below.
        high: Nothing is possible above.
    """
    value = statistics.mean([part for part, _, _ in parts])
    errors = [error for _, error, _ in parts if error is not None]
    if len(errors) < len(parts):
        return Mean(value=value, interval=None, num_benchmarks=len(parts))
    quantile = _quantile(max(coverage for _, _, coverage in parts))
    spread = quantile * math.sqrt(math.fsum(error**2 for error in errors)) / len(parts)
    return Mean(
        value=value, interval=(max(low, value - spread), min(high, value + spread)), num_benchmarks=len(parts)
    )


def _quantile(coverage: float) -> float:
    """How many standard errors a normal interval reaches to each side."""
    return NormalDist().inv_cdf(0.5 + coverage / 2)
