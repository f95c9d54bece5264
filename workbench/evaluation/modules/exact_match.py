"""Exact match."""

import evaluate

from workbench.evaluation import texts
from workbench.evaluation.modules import base


class ExactMatch(base.TextMetric):
    """Share of predictions that equal their reference after trimming and case folding."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("Share of exact matches", "string")

    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """What one pair scores."""
        return {"exact_match": texts.same(prediction, reference)}
