"""Computes accuracy, F1 and correlation of labels, by scikit-learn."""

from collections.abc import Sequence

import evaluate

from workbench.evaluation.metrics import label_agreement
from workbench.evaluation.metrics.hf_modules import base


class Labels(evaluate.Metric):  # type: ignore[misc]
    """acc, f1 (of label 1), macro_f1 and mcc of integer labels."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("Accuracy, F1 of label 1, macro F1, Matthews correlation", "int64")

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {
            "acc": label_agreement.acc(predictions, references),
            "f1": label_agreement.f1(predictions, references),
            "macro_f1": label_agreement.macro_f1(predictions, references),
            "mcc": label_agreement.mcc(predictions, references),
        }
