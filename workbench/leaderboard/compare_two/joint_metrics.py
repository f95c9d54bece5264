"""Compares two models by metrics that aren't means of item scores: F1, MCC, perplexities, BLEU, ..."""

import math
from collections.abc import Sequence

from workbench.evaluation.metric_directions import metric_name
from workbench.evaluation.records import Prediction, Score
from workbench.leaderboard.compare_two.pairing import Pairs
from workbench.leaderboard.items.answers import num_words
from workbench.leaderboard.items.metric_kinds import UNITS, MetricKind, kind_of, label_metric, label_texts
from workbench.statistics.label_metrics import compare_labels
from workbench.statistics.paired import PairedTest, compare_paired
from workbench.statistics.ratio import compare_ratio

BITS = "bits_per_byte"
Compared = tuple[PairedTest, list[float]]
"""Test of a metric on the common items, and two values on these items: the first and the second model's."""


def compare_jointly(first: Score, second: Score, pairs: Pairs, alpha: float) -> Compared | None:
    """Return the test of a metric on the common items, and both models' values on these items.

    Test and values of perplexities are in bits per byte, word or item; those of metrics such as BLEU are of
    the mean of each item's BLEU. `how_compared` is the note on this.

    Args:
        first: Score of the first model.
        second: Score of the second model, in the same metric.
        pairs: Items that both answered.
        alpha: Level of the test.

    Returns:
        None if the metrics differ, a score is a macro average, or the predictions don't give the metric.
    """
    kinds = {kind_of(first), kind_of(second)}
    if first.metric != second.metric or "macro" in (first.average, second.average) or len(kinds) > 1:
        return None
    clusters = [cluster or f"\0{index}" for index, cluster in enumerate(pairs.clusters)]
    if kinds == {MetricKind.labels}:
        return _labels(first.metric, pairs, alpha, clusters)
    if kinds == {MetricKind.ratio}:
        return _bits(first.metric, pairs, alpha, clusters)
    if kinds == {MetricKind.alone}:
        return _alone(first.metric, pairs, alpha, clusters)
    return None


def how_compared(score: Score) -> str:
    """Return the note that a metric is compared by its logarithm or item by item; empty for other metrics."""
    name, kind = metric_name(score.metric), kind_of(score)
    if kind is MetricKind.ratio and name != BITS:
        return f"{score.metric} is compared by its logarithm, in bits a {UNITS[name]}"
    if kind is MetricKind.alone:
        return f"compared by the mean of each item's own {score.metric}, not by that of all items together"
    return ""


def why_untested(score: Score) -> str:
    """Return the note on why a metric has no test."""
    if metric_name(score.metric) == "token_perplexity":
        return "token_perplexity is not tested: tokens differ between tokenizers (bits_per_byte is tested)"
    return f"{score.metric} isn't the mean of its items, so it is not tested"


def _labels(metric: str, pairs: Pairs, alpha: float, clusters: Sequence[str]) -> Compared:
    targets = label_texts([answer.target for answer in pairs.first])
    first, second = (
        label_texts([answer.prediction for answer in side]) for side in (pairs.first, pairs.second)
    )
    test = compare_labels(metric, targets, first, second, alpha=alpha, clusters=clusters, positive="1")
    return test, [label_metric(metric, side, targets) for side in (first, second)]


def _bits(metric: str, pairs: Pairs, alpha: float, clusters: Sequence[str]) -> Compared:
    def bits(answers: Sequence[Prediction]) -> list[float]:
        return [-answer.scores[metric] / math.log(2) for answer in answers]

    sizes = pairs.weights.get(metric) or [_size(answer, UNITS[metric_name(metric)]) for answer in pairs.first]
    first, second = bits(pairs.first), bits(pairs.second)
    test = compare_ratio(first, second, sizes, alpha=alpha, clusters=clusters)
    return test, [math.fsum(side) / sum(sizes) for side in (first, second)]


def _size(answer: Prediction, unit: str) -> int:
    """Return the number of bytes or words of the scored text, or 1 for the unit "item"."""
    if unit == "item":
        return 1
    return (
        num_words(answer.context) if unit == "word" else len(answer.context.encode("utf-8", "surrogatepass"))
    )


def _alone(metric: str, pairs: Pairs, alpha: float, clusters: Sequence[str]) -> Compared:
    first, second = ([answer.scores[metric] for answer in side] for side in (pairs.first, pairs.second))
    test = compare_paired(first, second, alpha=alpha, clusters=clusters if any(pairs.clusters) else None)
    return test, [math.fsum(side) / len(side) for side in (first, second)]
