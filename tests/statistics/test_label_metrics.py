"""Differences of F1, macro F1 and MCC against scikit-learn, the jackknife, and in simulation."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from workbench.errors import DataError
from workbench.evaluation.metrics import label_agreement
from workbench.statistics.label_metrics import NOT_SETTLED, compare_labels

SCORES = {
    "acc": label_agreement.acc,
    "f1": label_agreement.f1,
    "macro_f1": label_agreement.macro_f1,
    "mcc": label_agreement.mcc,
}


def predicted(rng, targets, accuracy, num_classes):
    """Labels that are right with a chance of `accuracy`, else any."""
    return np.where(rng.random(len(targets)) < accuracy, targets, rng.integers(0, num_classes, len(targets)))


def drawn(seed, num_items=300, num_classes=3, accuracies=(0.5, 0.6)):
    rng = np.random.default_rng(seed)
    targets = rng.choice(
        num_classes, num_items, p=np.arange(1, num_classes + 1) / sum(range(num_classes + 1))
    )
    return targets, *(predicted(rng, targets, accuracy, num_classes) for accuracy in accuracies)


@pytest.mark.parametrize("metric", list(SCORES))
@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_difference_is_that_of_scikit_learns_scores(metric, num_classes):
    targets, first, second = drawn(1, num_classes=num_classes)
    expected = SCORES[metric](second, targets) - SCORES[metric](first, targets)
    found = compare_labels(metric, targets.tolist(), first.tolist(), second.tolist())
    assert found.difference == pytest.approx(expected, abs=1e-12) and found.test == "linearised-t"


@pytest.mark.parametrize("metric", list(SCORES))
def test_the_error_is_near_the_jackknifes(metric):
    targets, first, second = drawn(2, num_items=200)
    keep = ~np.eye(200, dtype=bool)
    score = SCORES[metric]
    without = [score(second[k], targets[k]) - score(first[k], targets[k]) for k in keep]
    jackknife = np.sqrt(199 / 200 * np.sum((without - np.mean(without)) ** 2))
    found = compare_labels(metric, targets.tolist(), first.tolist(), second.tolist())
    assert found.stderr == pytest.approx(jackknife, rel=0.03)


def test_clusters_of_copied_items_count_once():
    targets, first, second = drawn(3)
    once = compare_labels("mcc", targets.tolist(), first.tolist(), second.tolist())
    copied = [np.repeat(labels, 4).tolist() for labels in (targets, first, second)]
    fourfold = compare_labels("mcc", *copied, clusters=np.repeat(np.arange(300), 4))
    assert (fourfold.p_value, fourfold.low) == pytest.approx((once.p_value, once.low))


@pytest.mark.parametrize("metric", ["macro_f1", "mcc"])
def test_a_collapsed_classifier_is_worse(metric):
    targets, first, _ = drawn(4, accuracies=(0.8, 0.8))
    collapsed = np.full(300, 2)  # the most frequent class
    found = compare_labels(metric, targets.tolist(), first.tolist(), collapsed.tolist(), alpha=0.001)
    assert found.test == "swap-permutation" and found.sign == -1 and found.difference < -0.3


def test_the_direction_is_the_metrics_own_not_that_of_accuracy():
    # answering always the frequent class has the better accuracy and the worse macro F1
    targets = [0] * 270 + [1] * 30
    first = [0] * 200 + [1] * 70 + [1] * 30
    second = [0] * 300
    better = compare_labels("acc", targets, first, second)
    worse = compare_labels("macro_f1", targets, first, second)
    assert better.difference > 0 > worse.difference and (better.sign, worse.sign) == (1, -1)


def test_a_rare_class_is_decided_by_test_and_interval_together():
    targets = [1] * 6 + [0] * 194
    first, second = [0] * 199 + [1], [1] * 6 + [0] * 194
    few = compare_labels("f1", targets, first, second)
    assert (few.difference, few.num_differing, few.sign, few.reason) == (1.0, 7, 0, "too few items differ")
    many = [0] * 150 + [1] * 50
    found = compare_labels("f1", targets, many, second)
    assert found.test == "swap-permutation" and found.sign == 1
    strict = compare_labels("f1", targets, many, second, alpha=1e-7)
    assert strict.reason == NOT_SETTLED and strict.low > 0  # random swaps don't reach such a level


def test_an_unknown_metric_is_refused():
    with pytest.raises(DataError, match="no test for 'kappa'"):
        compare_labels("kappa", [0], [0], [1])


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "mcc"])
def test_equal_classifiers_differ_in_at_most_5_percent(metric):
    rng, rejected = np.random.default_rng(5), 0
    for _ in range(300):
        targets = rng.choice(3, 200, p=[0.2, 0.3, 0.5])
        first, second = (predicted(rng, targets, 0.5, 3).tolist() for _ in range(2))
        rejected += compare_labels(metric, targets.tolist(), first, second).sign != 0
    assert rejected <= stats.binom.ppf(0.999, 300, 0.05)


def test_the_influences_of_mcc_hold_for_a_class_that_is_never_predicted():
    targets, first, second = drawn(6, num_classes=4)
    second = np.where(second == 0, 1, second)
    found = compare_labels("mcc", targets.tolist(), first.tolist(), second.tolist())
    expected = metrics.matthews_corrcoef(targets, second) - metrics.matthews_corrcoef(targets, first)
    assert found.difference == pytest.approx(expected)
