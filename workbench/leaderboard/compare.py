"""Compares the models of a run item by item: differences, their significance, and a verdict."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from workbench.config.names import ADAPTER, BASE, MERGED, MODELS, TRAINED, UNTRAINED
from workbench.errors import DataError
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
from workbench.statistics.family import holm
from workbench.statistics.intervals import mean
from workbench.statistics.paired import compare_paired
from workbench.statistics.power import detectable_difference, detectable_weighted

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
    averaged = [row for row in rows if row.is_share and row.same_rule and row.same_prompts]
    common = {code: _on_all([row for row in averaged if row.language == code]) for code in languages}
    means = {language: _means(own) for language, own in common.items()}
    gains = {language: gain for language, own in common.items() if (gain := _gain(own)) is not None}
    return RunView(run=run, rows=rows, means=means, gains=gains)


def _row(run: Run, benchmark: str, num_samples: int) -> Row:
    """Return one benchmark's scores by metric, with the comparisons that its predictions allow."""
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
        rules = "; ".join(f"{name} {formatting.asked(score)}" for name, score in row.scores.items())
        return replace(row, problem=f"scored by different rules, so not compared: {rules}")
    loaded = {model: run.predictions(model, row.benchmark) for model in row.scores}
    answers = {model: predictions for model, predictions in loaded.items() if predictions}
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
        return replace(row, flips=flips, problem="the predictions of the base are missing")
    pairs, unpaired = _pairs(first, answers[trained])
    pairs = [(a, b) for a, b in pairs if row.metric in a.scores and row.metric in b.scores]
    if not pairs:
        return replace(
            row, flips=flips, problem=f"{reference} and {trained} have no item and prompt in common"
        )
    score, is_mean = row.scores[trained], _is_mean(row.scores[trained], answers[trained])
    # Item scores of perplexity are log-likelihoods, where higher is better.
    lower = lower_is_better(row.metric) and (is_mean or score.item_score.endswith(ITEM_ALONE))
    difference = _difference(row, reference, trained, pairs, unpaired)
    if lower:
        difference = _lower_is_better(difference)
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
        problem=f"{unpaired} unpaired items are left out of the difference" if unpaired else "",
    )


def _pairs(first: Sequence[Prediction], second: Sequence[Prediction]) -> tuple[list[Pair], int]:
    """Pair predictions of the same item from the same prompt; also return the number of unpaired items."""
    by_key = {(answer.id, answer.prompt_hash): answer for answer in second}
    keys = [(answer.id, answer.prompt_hash) for answer in first]
    pairs = [(answer, by_key[key]) for answer, key in zip(first, keys, strict=True) if key in by_key]
    return pairs, max(len(first), len(second)) - len(pairs)


def _majority(answers: Sequence[Prediction], metric: str) -> list[Prediction]:
    """Return the predictions of a classifier that always answers the most frequent target."""
    counts = Counter(str(answer.target) for answer in answers)
    majority = min(counts, key=lambda target: (-counts[target], target))
    return [
        replace(answer, prediction=None, scores={metric: float(str(answer.target) == majority)})
        for answer in answers
    ]


def _flips(pairs: Sequence[Pair], metric: str) -> Flips:
    """Count the items that two models answer or score differently."""
    return Flips(
        answers=sum(a.prediction != b.prediction for a, b in pairs),
        scores=sum(a.scores.get(metric) != b.scores.get(metric) for a, b in pairs),
        num_items=len(pairs),
    )


def _difference(row: Row, reference: str, trained: str, pairs: list[Pair], unpaired: int) -> Difference:
    """Test the difference of the paired item scores; the p-value is not corrected yet."""
    first = [a.scores[row.metric] for a, _ in pairs]
    second = [b.scores[row.metric] for _, b in pairs]
    is_macro = row.scores[trained].average == "macro"
    subsets = [a.subset for a, _ in pairs] if is_macro else None
    test = compare_paired(first, second, alpha=1 - row.any_score.confidence, subsets=subsets)
    p_value = 1.0 if test.reason else test.p_value
    return Difference(
        reference=reference,
        model=trained,
        value=test.difference,
        stderr=test.stderr,
        interval=None if test.reason else (test.low, test.high),
        p_value=p_value,
        adjusted_p_value=p_value,
        test=test.test,
        wins=test.gained,
        losses=test.lost,
        num_items=len(pairs),
        num_unpaired=unpaired,
        detectable=None,
        verdict=BETTER if test.difference > 0 else WORSE,
    )


def _lower_is_better(difference: Difference) -> Difference:
    """Swap wins and losses for a metric where lower is better."""
    verdict = BETTER if difference.value < 0 else WORSE
    return replace(difference, wins=difference.losses, losses=difference.wins, verdict=verdict)


def _without_mean(row: Row, difference: Difference) -> Difference:
    """Take the size of the difference from the scores, for metrics such as F1 that aren't item means."""
    value = row.scores[difference.model].value - row.scores[BASE].value
    return replace(difference, value=value, stderr=None, interval=None, detectable=None)


def _is_mean(score: Score, answers: Sequence[Prediction]) -> bool:
    """Return whether a score is the micro or macro average of its item scores."""
    by_subset: dict[str, list[float]] = {}
    for answer in answers:
        subset = answer.subset if score.average == "macro" else ""
        by_subset.setdefault(subset, []).append(answer.scores.get(score.metric, math.nan))
    average = mean([mean(values) for values in by_subset.values()])
    return math.isclose(average, score.value, abs_tol=1e-9)


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with p-values corrected over all of them; only significant ones keep their verdict."""
    differences = [row.difference for row in rows if row.difference is not None]
    adjusted = iter(holm([difference.p_value for difference in differences]))
    corrected = []
    for row in rows:
        if row.difference is not None:
            p_value = next(adjusted)
            verdict = row.difference.verdict if p_value < ALPHA else UNSURE
            found = replace(row.difference, adjusted_p_value=p_value, verdict=verdict)
            row = replace(row, difference=_with_detectable(found, len(differences)))
        corrected.append(row)
    return corrected


def _with_detectable(difference: Difference, num_tests: int) -> Difference:
    """Add the smallest true difference that the test finds at the strictest level of Holm's."""
    alpha, num_items = ALPHA / num_tests, difference.num_items
    if difference.interval is None:
        return difference
    if difference.test == "mcnemar-exact":
        found = detectable_difference(num_items, difference.wins + difference.losses, alpha)
    else:
        squares = (difference.stderr or 0.0) ** 2 + difference.value**2 / num_items
        found = detectable_weighted(squares, 1 / num_items, alpha)
    return replace(difference, detectable=found)


def _samples(pairs: Sequence[Pair], metric: str, sign: int, count: int) -> list[Sample]:
    """Return the first items where the second model scored higher (sign 1) or lower (sign -1)."""
    changed = [(a, b) for a, b in pairs if sign * (b.scores[metric] - a.scores[metric]) > 0]
    return [Sample(first=a, second=b) for a, b in changed[:count]]


def _on_all(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have a score of every model that any row has a score of."""
    models = {name for row in rows for name in _trained_scores(row)}
    return [row for row in rows if _trained_scores(row).keys() == models]


def _trained_scores(row: Row) -> dict[str, Score]:
    """Return the scores of a row, except that of an untrained head."""
    return {name: score for name, score in row.scores.items() if score.note != UNTRAINED}


def _means(rows: Sequence[Row]) -> dict[str, Mean]:
    """Return each model's mean over rows that have scores of all models."""
    models = sorted({name for row in rows for name in _trained_scores(row)}, key=_model_order)
    return {name: _mean_of([_estimate(row.scores[name]) for row in rows], 0.0, 1.0) for name in models}


def _estimate(score: Score) -> tuple[float, float | None, float]:
    """Return value, standard error and coverage of a score.

    If all items score the same, the standard error of 0 means nothing; then it is half the interval's width
    divided by the normal quantile.
    """
    error = score.stderr
    if error == 0 and score.interval is not None:
        error = (score.interval[1] - score.interval[0]) / 2 / _quantile(score.confidence)
    return score.value, error, score.confidence


def _gain(rows: Sequence[Row]) -> Mean | None:
    """Return the mean difference over the rows that have one; None: no row has one."""
    estimates = [
        (row.difference.value, row.difference.stderr, row.any_score.confidence)
        for row in rows
        if row.difference is not None and row.difference.stderr is not None
    ]
    return _mean_of(estimates, -1.0, 1.0) if estimates else None


def _mean_of(estimates: Sequence[tuple[float, float | None, float]], low: float, high: float) -> Mean:
    """Return the mean of independent estimates with a normal interval, clipped to possible values.

    Args:
        estimates: Value, standard error and coverage of each; the mean has the largest coverage.
        low: Smallest possible value.
        high: Largest possible value.
    """
    count = len(estimates)
    value = mean([estimate for estimate, _, _ in estimates])
    errors = [error for _, error, _ in estimates if error is not None]
    if len(errors) < count:
        return Mean(value=value, interval=None, num_benchmarks=count)
    quantile = _quantile(max(coverage for _, _, coverage in estimates))
    margin = quantile * math.sqrt(math.fsum(error**2 for error in errors)) / count
    interval = (max(low, value - margin), min(high, value + margin))
    return Mean(value=value, interval=interval, num_benchmarks=count)


def _quantile(coverage: float) -> float:
    """Return the half-width of a normal interval in standard errors."""
    return NormalDist().inv_cdf(0.5 + coverage / 2)
