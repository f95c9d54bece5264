"""Tests the difference of two classifiers in F1, macro F1, MCC or accuracy, on the same items.

The metrics are functions of counts: for each class the items predicted, targeted, and both. Differences are
tested by each item's influence. Where a class has few positives or a model always predicts the same, that
isn't reliable: then scipy's permutation test swaps the models' predictions at random, and there is a verdict
only if both agree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DataError
from workbench.shown import message
from workbench.statistics.clusters import Floats, Labels, cluster_codes
from workbench.statistics.linearised import compare_linearised
from workbench.statistics.paired import PairedTest

NOT_SETTLED = message("not settled")
FEWEST_POSITIVES = 10
"""With fewer items of a class, a permutation test must agree with the test by influences."""
_MOST_RESAMPLES = 100_000
_CELLS = 200_000_000
"""Largest number of random swaps: resamples times items."""
_SEED = 20230501

Counts = tuple[Floats, Floats, Floats]
"""Per class (last axis) the share of items where it is predicted and right, predicted, and right."""


def compare_labels(
    metric: str,
    targets: Sequence[object],
    first: Sequence[object],
    second: Sequence[object],
    *,
    alpha: float = 0.05,
    clusters: Labels | None = None,
    positive: object = 1,
) -> PairedTest:
    """Compare two models' predicted labels in a metric of all labels together.

    The test is Student's t of the items' influences on the metric. Where a class has few items, or a model
    always predicts the same, a permutation test must agree, else the result has the `reason` NOT_SETTLED; the
    p-value is then that of the permutation test. If few clusters differ, the `reason` says so.

    Args:
        metric: `f1`, `macro_f1`, `mcc` or `acc`.
        targets: Right label of each item.
        first: Labels that the first model predicts; any object, such as None, is a class of its own.
        second: Labels that the second model predicts.
        alpha: Level of the test.
        clusters: Label of each item's cluster; None: independent items.
        positive: Positive class of `f1`.

    Raises:
        DataError: The metric is unknown, or the numbers of labels differ.

    Source: A. Yeh, More accurate tests for the statistical significance of result differences, COLING 2000.
    """
    if metric not in METRICS:
        raise DataError(f"paired comparison: no test for {metric!r} (known: {', '.join(METRICS)})")
    if not len(targets) == len(first) == len(second):
        raise DataError(
            f"paired comparison: {len(targets)} targets, {len(first)} and {len(second)} predictions "
            "(a paired comparison needs the same items)"
        )
    right, before, after, classes = _one_hot(targets, first, second)
    if metric == "f1":
        right, before, after = (_only(classes, positive, labels) for labels in (right, before, after))
    codes = cluster_codes(clusters, len(targets))
    scores, influences = zip(*(METRICS[metric](right, labels) for labels in (before, after)), strict=True)
    is_right = [(labels == right).all(axis=1).astype(np.float64) for labels in (before, after)]
    found = compare_linearised(
        scores[1] - scores[0],
        (influences[1] - influences[0]) / len(targets),
        codes,
        alpha=alpha,
        test="linearised-t",
        scores=is_right[1] - is_right[0],
        is_changed=(before != after).any(axis=1),
    )
    if found.reason or metric == "acc" or _is_reliable(right, before, after):
        return found
    return _permuted(found, partial(_score_of_counts, metric), right, before, after, codes)


def _one_hot(*labels: Sequence[object]) -> tuple[Floats, Floats, Floats, list[object]]:
    """Return three lists of labels (targets, first and second model) as one-hot matrices (items, classes).

    Also return the classes, in the order of the columns.
    """
    classes = list(dict.fromkeys(label for column in labels for label in column))
    numbers = {label: number for number, label in enumerate(classes)}
    identity = np.eye(len(classes))
    targets, first, second = (identity[[numbers[label] for label in column]] for column in labels)
    return targets, first, second, classes


def _only(classes: Sequence[object], positive: object, labels: Floats) -> Floats:
    """Return the positive class's column of one-hot labels (items, classes); zeros for an unknown class."""
    if positive not in classes:
        return np.zeros((len(labels), 1))
    index = classes.index(positive)
    return labels[:, index : index + 1]


def _is_reliable(targets: Floats, first: Floats, second: Floats) -> bool:
    """Return whether the test by influences can be trusted, so that no permutation test is needed.

    Each class needs FEWEST_POSITIVES items, and neither model may predict the same label for all items.
    """
    has_positives = targets.sum(axis=0).min() >= FEWEST_POSITIVES
    varies = all(((labels > 0).any(axis=0) & (labels < 1).any(axis=0)).any() for labels in (first, second))
    return bool(has_positives and varies)


def _permuted(
    found: PairedTest,
    score: Callable[[Floats], Floats],
    targets: Floats,
    first: Floats,
    second: Floats,
    codes: NDArray[np.int64],
) -> PairedTest:
    """Replace a test's p-value by that of a permutation test, which swaps the two models at random.

    All predictions of a cluster are swapped together. If the new p-value and the old interval disagree on
    significance, the test's reason is NOT_SETTLED.
    """
    from scipy.stats import permutation_test  # half a second, which most leaderboards don't need

    before, after = (_features(targets, labels, codes) for labels in (first, second))
    moved = (before != after).any(axis=1)
    change = (after - before)[moved]
    sums = before.sum(axis=0), after.sum(axis=0)

    def statistic(swapped: Floats, _: Floats, axis: int) -> Floats:
        shift = np.moveaxis(swapped, axis, -1) @ change
        return score((sums[1] - shift) / len(targets)) - score((sums[0] + shift) / len(targets))

    resamples = min(_MOST_RESAMPLES, max(9999, math.ceil(4 / found.alpha)), max(999, _CELLS // len(change)))
    p_value = permutation_test(
        (np.zeros(len(change)), np.ones(len(change))),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // len(change)),
        rng=np.random.default_rng(_SEED),
    ).pvalue
    is_rejected = bool(p_value < found.alpha)
    reason = "" if is_rejected == (found.sign != 0) else NOT_SETTLED
    return replace(found, p_value=float(p_value), test="swap-permutation", reason=reason)


def _features(targets: Floats, predictions: Floats, codes: NDArray[np.int64]) -> Floats:
    """Count items per cluster and class: predicted and right, predicted, right; (clusters, 3 * classes)."""
    items = np.hstack([targets * predictions, predictions, targets])
    sums = np.zeros((int(codes.max()) + 1, items.shape[1]))
    np.add.at(sums, codes, items)
    return sums


def _score_of_counts(metric: str, counts: Floats) -> Floats:
    """Compute a metric from counts of items per class, divided by the number of items.

    Args:
        metric: Key of OF_COUNTS.
        counts: (..., 3 * classes): for each class the share of items for which it is predicted and right,
            then for each class the share for which it is predicted, then for which it is right.
    """
    both, predicted, targeted = np.split(counts, 3, axis=-1)
    return OF_COUNTS[metric](both, predicted, targeted)


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; the quotient is 0 where the denominator is 0."""
    is_zero = np.abs(denominator) < 1e-12
    quotient: Floats = np.where(is_zero, 0.0, numerator / np.where(is_zero, 1.0, denominator))
    return quotient


def _macro_f1_of(both: Floats, predicted: Floats, targeted: Floats) -> Floats:
    """Return the mean F1 of the classes that are predicted or right for any item."""
    total = predicted + targeted
    return _quotient(_quotient(2 * both, total).sum(axis=-1), (total > 1e-12).sum(axis=-1).astype(np.float64))


def _mcc_of(both: Floats, predicted: Floats, targeted: Floats) -> Floats:
    """Return the Matthews correlation of several classes."""
    covariance = both.sum(axis=-1) - (predicted * targeted).sum(axis=-1)
    spreads = (1 - (predicted**2).sum(axis=-1)) * (1 - (targeted**2).sum(axis=-1))
    return _quotient(covariance, np.sqrt(np.maximum(spreads, 0.0)))


def _means(targets: Floats, predictions: Floats) -> Counts:
    return (targets * predictions).mean(axis=0), predictions.mean(axis=0), targets.mean(axis=0)


def _macro_f1(targets: Floats, predictions: Floats) -> tuple[float, Floats]:
    """Return macro F1 (F1 for a single column) and each item's influence on it."""
    both, predicted, targeted = _means(targets, predictions)
    total = predicted + targeted
    scores = _quotient(2 * both, total)
    influences = _quotient(2 * targets * predictions - scores * (targets + predictions), total)
    num_classes = max(1, int((total > 0).sum()))
    return float(scores.sum() / num_classes), influences.sum(axis=1) / num_classes


def _mcc(targets: Floats, predictions: Floats) -> tuple[float, Floats]:
    """Return MCC and each item's influence on it: the derivative of MCC by the item's share of all items."""
    both, predicted, targeted = _means(targets, predictions)
    score = float(_mcc_of(both, predicted, targeted))
    spread_of_predictions, spread_of_targets = 1 - (predicted**2).sum(), 1 - (targeted**2).sum()
    if spread_of_predictions < 1e-12 or spread_of_targets < 1e-12:
        return 0.0, np.zeros(len(targets))
    moved, aimed = predictions - predicted, targets - targeted
    covariance = (targets * predictions).sum(axis=1) - both.sum() - moved @ targeted - aimed @ predicted
    influences = covariance / math.sqrt(spread_of_predictions * spread_of_targets)
    influences += score * (moved @ predicted / spread_of_predictions + aimed @ targeted / spread_of_targets)
    return score, influences


def _acc(targets: Floats, predictions: Floats) -> tuple[float, Floats]:
    """Return the share of right predictions, and each item's deviation from it (its influence)."""
    right = (targets * predictions).sum(axis=1)
    return float(right.mean()), right - right.mean()


METRICS: dict[str, Callable[[Floats, Floats], tuple[float, Floats]]] = {
    "acc": _acc,
    "f1": _macro_f1,
    "macro_f1": _macro_f1,
    "mcc": _mcc,
}
"""Metric -> function of one-hot targets and predictions that returns score and each item's influence."""
OF_COUNTS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "f1": _macro_f1_of,
    "macro_f1": _macro_f1_of,
    "mcc": _mcc_of,
}
"""Metric -> function of `Counts` that returns the score."""
