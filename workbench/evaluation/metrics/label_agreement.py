"""How well predicted labels agree with the right ones, by scikit-learn."""

from collections.abc import Sequence

from sklearn import metrics


def f1(predictions: Sequence[object], references: Sequence[object], positive: object = 1) -> float:
    """F1 of the positive class; 0 where it is neither predicted nor there."""
    found = metrics.f1_score(references, predictions, labels=[positive], average="macro", zero_division=0.0)
    return float(found)


def macro_f1(predictions: Sequence[object], references: Sequence[object]) -> float:
    """Mean over the classes of their F1, every class counting the same."""
    return float(metrics.f1_score(references, predictions, average="macro", zero_division=0.0))


def mcc(predictions: Sequence[object], references: Sequence[object]) -> float:
    """Matthews correlation: 0 for guessing, 1 for all right; 0 where either is always the same.

    Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.
    """
    if len({*predictions, *references}) < 2:  # scikit-learn warns of it
        return 0.0
    return float(metrics.matthews_corrcoef(references, predictions))


def acc(predictions: Sequence[object], references: Sequence[object]) -> float:
    """Share of right predictions."""
    return float(metrics.accuracy_score(references, predictions))
