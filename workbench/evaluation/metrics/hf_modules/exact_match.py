"""Computes the share of exact matches."""

import evaluate

from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.metrics.hf_modules import base


class ExactMatch(base.TextMetric):
    """Share of predictions that equal their reference after trimming and case folding."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("Share of exact matches", "string")

    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """Return score name -> score of one prediction against one reference."""
        return {"exact_match": text_similarity.same(prediction, reference)}
