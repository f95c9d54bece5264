"""Compares two models in metrics of all items together: F1, macro F1, MCC, and bits per byte."""

import math
from collections.abc import Sequence

from workbench.evaluation.records import Prediction, Score, metric_name
from workbench.leaderboard.comparing.pairing import Pairs
from workbench.leaderboard.items.metric_kinds import MetricKind, kind_of, label_metric, label_texts
from workbench.statistics.label_metrics import compare_labels
from workbench.statistics.paired import PairedTest
from workbench.statistics.ratio import compare_ratio

BITS = "bits_per_byte"


def compare_jointly(
    first: Score, second: Score, pairs: Pairs, alpha: float
) -> tuple[PairedTest, list[float]] | None:
    """Return the test of a metric on the common items, and both models' values on them.

    Args:
        first: Score of the first model.
        second: Score of the second model, in the same metric.
        pairs: Items that both answered.
        alpha: Level of the test.

    Returns:
        None for a metric that can't be computed again from the answers.
    """
    kinds = {kind_of(first), kind_of(second)}
    if first.metric != second.metric or "macro" in (first.average, second.average) or len(kinds) > 1:
        return None
    clusters = [cluster or f"\0{index}" for index, cluster in enumerate(pairs.clusters)]
    if kinds == {MetricKind.labels}:
        return _labels(first.metric, pairs, alpha, clusters)
    if kinds == {MetricKind.ratio} and metric_name(first.metric) == BITS:
        return _bits(first.metric, pairs, alpha, clusters)
    return None


def _labels(
    metric: str, pairs: Pairs, alpha: float, clusters: Sequence[str]
) -> tuple[PairedTest, list[float]]:
    targets = label_texts([answer.target for answer in pairs.first])
    first, second = (
        label_texts([answer.prediction for answer in side]) for side in (pairs.first, pairs.second)
    )
    test = compare_labels(metric, targets, first, second, alpha=alpha, clusters=clusters, positive="1")
    return test, [label_metric(metric, side, targets) for side in (first, second)]


def _bits(metric: str, pairs: Pairs, alpha: float, clusters: Sequence[str]) -> tuple[PairedTest, list[float]]:
    def bits(answers: Sequence[Prediction]) -> list[float]:
        return [-answer.scores[metric] / math.log(2) for answer in answers]

    sizes = pairs.weights.get(metric) or [
        len(answer.context.encode("utf-8", "surrogatepass")) for answer in pairs.first
    ]
    first, second = bits(pairs.first), bits(pairs.second)
    test = compare_ratio(first, second, sizes, alpha=alpha, clusters=clusters)
    return test, [math.fsum(side) / sum(sizes) for side in (first, second)]
