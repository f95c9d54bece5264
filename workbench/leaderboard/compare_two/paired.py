"""Compares two models on all benchmarks that both were scored on, as one family of tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.config.compare import CompareConfig
from workbench.errors import DataError
from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard.board_tests.verdicts import verdict_on
from workbench.leaderboard.compare_two.common_scores import common_benchmarks, common_metric
from workbench.leaderboard.compare_two.joint_metrics import compare_jointly, how_compared, why_untested
from workbench.leaderboard.compare_two.pairing import Pairs, pair_items
from workbench.leaderboard.compare_two.sides import Side
from workbench.leaderboard.formatting import is_shown_as_share
from workbench.leaderboard.items.metric_kinds import MetricKind, kind_of
from workbench.statistics.intervals import mean
from workbench.statistics.paired import PairedTest, compare_paired
from workbench.statistics.power import detectable

SUBJECT_SHARE = 0.2
"""Part of alpha that is spent on the tests of subjects, if there are any."""
FEWEST_SUBJECT_ITEMS = 10
"""A subject with fewer common items isn't tested."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Tested difference of two models in one subject of a benchmark."""

    name: str
    test: PairedTest
    p_adjusted: float | None
    """p-value corrected for all comparisons; None if the test has no p-value."""
    verdict: str
    """Verdict on the second model."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Scores of two models on one benchmark, and the tested difference: second minus first."""

    benchmark: str
    """Name of the benchmark in the first model's results."""
    metric: str
    """Name of the metric in the first model's results."""
    first: float
    """First model's score on the common items, perplexities in bits; without a test, on all its items."""
    second: float
    num_first: int
    """Number of the first model's items, whether the second model has them or not."""
    num_second: int
    paired_by: str
    """prompt or document, as `Pairs.by`."""
    test: PairedTest | None
    """Test at the level of a single comparison; None if the metric has none."""
    p_adjusted: float | None
    """p-value corrected for all comparisons; None if the test has no p-value."""
    detectable: float | None
    """Smallest true difference that the test detects with a power of 80%; None if it detects none."""
    verdict: str
    """Verdict on the second model."""
    is_share: bool = True
    """Whether the scores are shares, which are shown in percent."""
    gained: int = 0
    """Items on which the second model is better, be that by higher or lower values."""
    lost: int = 0
    subjects: list[Subject] = field(default_factory=list)
    """Differences in the benchmark's subjects; empty if it has fewer than two, or too few items in each."""
    notes: list[str] = field(default_factory=list)
    """Sentences on pairing, metric and test, for readers."""


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Tested differences of two models on all benchmarks that both were scored on."""

    first: Side
    second: Side
    rows: list[Compared]
    left_out: dict[str, str]
    """Benchmark -> reason why it isn't compared."""
    alpha: float
    """Largest probability of any false verdict on benchmarks and subjects together."""


@dataclass(frozen=True)
class _Paired:
    """One benchmark with the scores of both models and their common items, not yet tested."""

    benchmark: str
    first: Score
    second: Score
    pairs: Pairs


def compare_sides(first: Side, second: Side, config: CompareConfig) -> PairedComparison:
    """Compare two models on the items that both answered, reading their predictions.

    A benchmark whose predictions can't be read, without a common metric or item, or with an item that has
    no score in the metric, is left out with the reason.

    Raises:
        ConfigError: The models have no benchmark in common, or one of `config.benchmarks` isn't in both.
        DataError: A score isn't a finite number.
    """
    common = common_benchmarks(first, second, config.benchmarks)
    paired: list[_Paired] = []
    left_out: dict[str, str] = {}
    scores = first.scores(), second.scores()
    for benchmark, other in common.items():
        metrics = common_metric(scores[0][benchmark], scores[1][other])
        try:
            pairs = pair_items(first, second, benchmark, other)
        except DataError as error:
            left_out[benchmark] = str(error)
            continue
        if metrics is None:
            left_out[benchmark] = "no metric in common"
        elif not pairs.first:
            left_out[benchmark] = "no item in common, neither by prompt nor by document"
        elif unscored := _unscored(metrics, pairs):
            left_out[benchmark] = unscored
        else:
            paired.append(_Paired(benchmark, *metrics, pairs))
    return PairedComparison(
        first=first,
        second=second,
        rows=_tested(paired, config.alpha),
        left_out=left_out,
        alpha=config.alpha,
    )


def _unscored(metrics: tuple[Score, Score], pairs: Pairs) -> str:
    """Return which item has no score in the compared metric; empty if all have one, or none is needed."""
    for name, score, predictions in zip("ab", metrics, (pairs.first, pairs.second), strict=True):
        if kind_of(score) in (MetricKind.labels, MetricKind.unknown):
            continue
        for prediction in predictions:
            if score.metric not in prediction.scores:
                return f"item {prediction.id!r} of {name} has no score of {score.metric}"
    return ""


def _tested(paired: Sequence[_Paired], alpha: float) -> list[Compared]:
    """Test all benchmarks and their subjects as one family, whose chance of a false verdict is `alpha`."""
    subjects = {id(one): _subjects(one) for one in paired}
    num_subjects = sum(map(len, subjects.values()))
    share = 1 - SUBJECT_SHARE if num_subjects else 1.0
    level = share * alpha / max(1, len(paired))
    compared = []
    for one in paired:
        tests = [
            (name, _test(one, indices, SUBJECT_SHARE * alpha / num_subjects))
            for name, indices in subjects[id(one)].items()
        ]
        compared.append(_compared(one, level, alpha, tests))
    return compared


def _subjects(one: _Paired) -> dict[str, list[int]]:
    """Return subject -> indices of its pairs, for subjects with enough pairs to be tested.

    Empty with fewer than two subjects, or for a metric that isn't a mean of item scores.
    """
    found: dict[str, list[int]] = {}
    for index, prediction in enumerate(one.pairs.first):
        found.setdefault(prediction.subset, []).append(index)
    if len(found) < 2 or _is_joint(one):
        return {}
    return {name: indices for name, indices in found.items() if len(indices) >= FEWEST_SUBJECT_ITEMS}


def _is_joint(one: _Paired) -> bool:
    """Return whether the metric isn't a mean of item scores, so that `compare_jointly` must test it."""
    return bool(one.first.item_score or one.second.item_score)


def _values(predictions: Sequence[Prediction], score: Score) -> list[float]:
    return [prediction.scores[score.metric] for prediction in predictions]


def _is_share(one: _Paired) -> bool:
    """Return whether both models' scores and item scores are shares between 0 and 1."""
    sides = ((one.pairs.first, one.first), (one.pairs.second, one.second))
    values = [each.scores.get(score.metric, 0.0) for items, score in sides for each in items]
    return is_shown_as_share(one.first) and min(values) >= 0 and max(values) <= 1


def _is_macro(one: _Paired) -> bool:
    return "macro" in (one.first.average, one.second.average)


def _mean(one: _Paired, values: Sequence[float]) -> float:
    """Return the mean of the common items' values, or of the subsets' means if a score is a macro average."""
    parts: dict[str, list[float]] = {}
    for prediction, value in zip(one.pairs.first, values, strict=True):
        parts.setdefault(prediction.subset if _is_macro(one) else "", []).append(value)
    return mean([mean(part) for part in parts.values()])


def _test(one: _Paired, indices: Sequence[int] | None, alpha: float) -> PairedTest:
    """Test the difference on the pairs with these indices; None: on all pairs of the benchmark."""
    chosen = range(len(one.pairs.first)) if indices is None else indices
    values = _values(one.pairs.first, one.first), _values(one.pairs.second, one.second)
    clusters = [one.pairs.clusters[index] or f"\0{index}" for index in chosen]
    is_macro = indices is None and _is_macro(one)
    return compare_paired(
        [values[0][index] for index in chosen],
        [values[1][index] for index in chosen],
        alpha=alpha,
        clusters=clusters if any(one.pairs.clusters) else None,
        subsets=[one.pairs.first[index].subset for index in chosen] if is_macro else None,
    )


def _test_and_values(one: _Paired, alpha: float) -> tuple[PairedTest | None, list[float]]:
    """Return a benchmark's test (None if its metric has none) and both models' values on the common items."""
    if _is_joint(one):
        jointly = compare_jointly(one.first, one.second, one.pairs, alpha)
        return jointly or (None, [one.first.value, one.second.value])
    sides = ((one.pairs.first, one.first), (one.pairs.second, one.second))
    values = [_mean(one, _values(predictions, score)) for predictions, score in sides]
    return _test(one, None, alpha), values


def _compared(
    one: _Paired, level: float, alpha: float, subjects: Sequence[tuple[str, PairedTest]]
) -> Compared:
    notes = [one.pairs.note] if one.pairs.note else []
    if one.first.metric != one.second.metric:
        notes.append(f"{one.second.metric} of b against {one.first.metric} of a")
    is_reversed = one.first.lower_is_better
    test, values = _test_and_values(one, level)
    if test is None:
        notes.append(why_untested(one.first))
    else:
        notes += [note for note in (how_compared(one.first), test.reason) if note]
    numbers = verdict_on(test, alpha / level, lower_is_better=is_reversed)
    counts = (0, 0) if test is None else (test.gained, test.lost)
    return Compared(
        benchmark=one.benchmark,
        metric=one.first.metric,
        first=values[0],
        second=values[1],
        num_first=one.pairs.num_first,
        num_second=one.pairs.num_second,
        paired_by=one.pairs.by,
        test=test,
        p_adjusted=numbers.p_adjusted,
        detectable=None if test is None or numbers.p_value is None else detectable(test),
        verdict=numbers.verdict,
        is_share=_is_share(one),
        gained=counts[1] if is_reversed else counts[0],
        lost=counts[0] if is_reversed else counts[1],
        subjects=[_subject(name, found, alpha, is_reversed) for name, found in subjects],
        notes=notes,
    )


def _subject(name: str, test: PairedTest, alpha: float, is_reversed: bool) -> Subject:
    numbers = verdict_on(test, alpha / test.alpha, lower_is_better=is_reversed)
    return Subject(name=name, test=test, p_adjusted=numbers.p_adjusted, verdict=numbers.verdict)
