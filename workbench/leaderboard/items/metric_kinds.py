"""Tells what of the items a metric is computed from, and recomputes it from a predictions file."""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.metric_directions import metric_name
from workbench.evaluation.records import ITEM_ALONE, Score
from workbench.leaderboard.items.answers import LABELS, TEXTS, Items, num_words

MetricKind = Enum(
    "MetricKind",
    {"mean": "mean", "labels": "labels", "ratio": "ratio", "alone": "alone", "unknown": "unknown"},
)
"""How a metric is computed. mean: mean of the items' scores. labels: from all predicted and right labels.
ratio: log-likelihoods divided by bytes, words or items. alone: from all texts together, while an item's
score is the metric of its text alone. unknown: not recomputable from items."""

OF_LABELS = ("f1", "macro_f1", "mcc")
UNITS = {
    "byte_perplexity": "byte",
    "bits_per_byte": "byte",
    "word_perplexity": "word",
    "target_perplexity": "item",
    "perplexity": "item",
}
"""Metric -> unit whose count divides the log-likelihood."""


def kind_of(score: Score) -> MetricKind:
    """Return the kind of a score's metric: what of the items it is computed from, as `MetricKind` says.

    `mean` and `ratio` need the items' scores (`ratio` also counts of bytes, words or items), `labels` needs
    predicted and right labels, `alone` all texts together; `unknown` can't be recomputed.
    """
    name = metric_name(score.metric)
    if not score.item_score:
        return MetricKind.mean
    if score.item_score.endswith(ITEM_ALONE):
        return MetricKind.alone
    if name in OF_LABELS and "," not in score.metric and "/" not in score.metric:
        return MetricKind.labels
    if name in UNITS and "log-likelihood" in score.item_score and "," not in score.metric:
        return MetricKind.ratio
    return MetricKind.unknown


def columns_of(score: Score) -> tuple[str, ...]:
    """Return the fields of a prediction, besides its scores, that are needed to recompute the metric."""
    kind = kind_of(score)
    if kind is MetricKind.labels:
        return LABELS
    return TEXTS if kind is MetricKind.ratio and UNITS[metric_name(score.metric)] != "item" else ()


def sizes(items: Items, metric: str) -> NDArray[np.float64]:
    """Return each item's number of bytes or words, or 1, which divides its log-likelihood.

    The metric must be one of `UNITS`. For bytes and words, the items need their weights or texts.
    """
    if items.weights is not None:
        return items.weights
    unit = UNITS[metric_name(metric)]
    texts = items.texts or []
    if unit == "item":
        return np.ones(len(items))
    count = num_words if unit == "word" else _num_bytes
    return np.array([count(text) for text in texts], dtype=np.float64)


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def label_texts(labels: list[Any] | None) -> list[str]:
    """Convert labels to texts, as the label metrics compare them; None becomes an empty text."""
    return ["" if label is None else str(label) for label in labels or []]


def label_metric(metric: str, predictions: Sequence[str], targets: Sequence[str]) -> float:
    """Return F1 of the label `1` (f1), Matthews correlation (mcc), or else macro F1 of predicted labels."""
    from workbench.evaluation.metrics import label_agreement  # scikit-learn takes a second

    if metric == "f1":
        return label_agreement.f1(predictions, targets, positive="1")
    agreement = label_agreement.mcc if metric == "mcc" else label_agreement.macro_f1
    return agreement(predictions, targets)


def recomputed(items: Items, score: Score) -> float | None:
    """Recompute a score from its items; None for a metric that the items don't give.

    That is a metric of all texts together, such as BLEU, or a macro average of a metric that isn't a mean.
    """
    kind = kind_of(score)
    if kind is MetricKind.mean:
        return average(items, score.average == "macro")
    if score.average == "macro":
        return None
    if kind is MetricKind.labels:
        return label_metric(score.metric, label_texts(items.predictions), label_texts(items.targets))
    if kind is MetricKind.ratio:
        nats = -math.fsum(items.values) / float(sizes(items, score.metric).sum())
        is_bits = metric_name(score.metric) == "bits_per_byte"
        return nats / math.log(2) if is_bits else math.exp(min(nats, 700.0))
    return None


def average(items: Items, is_macro: bool) -> float:
    """Return the mean of the items' scores, or, if macro, the mean of the subsets' means."""
    if not is_macro:
        return math.fsum(items.values.tolist()) / len(items)
    by_subset: dict[str, list[float]] = {}
    for subset, value in zip(items.subsets.to_pylist(), items.values.tolist(), strict=True):
        by_subset.setdefault(subset, []).append(value)
    return math.fsum(math.fsum(values) / len(values) for values in by_subset.values()) / len(by_subset)
