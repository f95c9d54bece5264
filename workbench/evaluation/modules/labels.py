"""Accuracy, F1 and correlation of labels, by scikit-learn."""

from collections.abc import Sequence

import evaluate

from workbench.evaluation import labels
from workbench.evaluation.modules import base


class Labels(evaluate.Metric):  # type: ignore[misc]
    """acc, f1 (of label 1), macro_f1 and mcc of whole-numbered labels."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("Accuracy, F1 of label 1, macro F1, Matthews correlation", "int64")

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {
            "acc": labels.acc(predictions, references),
            "f1": labels.f1(predictions, references),
            "macro_f1": labels.macro_f1(predictions, references),
            "mcc": labels.mcc(predictions, references),
        }
