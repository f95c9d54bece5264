"""Measures how well predicted labels agree with the right ones, by scikit-learn."""

from collections.abc import Sequence
from typing import Any


def f1(predictions: Sequence[object], references: Sequence[object], positive: object = 1) -> float:
    """Return the F1 of the class `positive`; 0 if no item has this class as prediction or reference."""
    score = _sklearn_metrics().f1_score(
        references, predictions, labels=[positive], average="macro", zero_division=0.0
    )
    return float(score)


def macro_f1(predictions: Sequence[object], references: Sequence[object]) -> float:
    """Return the unweighted mean of the F1 of all classes that occur as prediction or reference."""
    return float(_sklearn_metrics().f1_score(references, predictions, average="macro", zero_division=0.0))


def mcc(predictions: Sequence[object], references: Sequence[object]) -> float:
    """Return the Matthews correlation: 1 if all predictions are right, 0 for guessing.

    It is 0, too, if a single class makes up all predictions and references.

    Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.
    """
    if len({*predictions, *references}) < 2:  # scikit-learn would warn
        return 0.0
    return float(_sklearn_metrics().matthews_corrcoef(references, predictions))


def acc(predictions: Sequence[object], references: Sequence[object]) -> float:
    """Return the share of right predictions."""
    return float(_sklearn_metrics().accuracy_score(references, predictions))


def _sklearn_metrics() -> Any:
    """Import `sklearn.metrics` when the first labels are scored: importing takes a second."""
    from sklearn import metrics

    return metrics
