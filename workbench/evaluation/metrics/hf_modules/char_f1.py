"""Computes the character F1, the usual metric of Chinese answers."""

import evaluate

from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.metrics.hf_modules import base


class CharF1(base.TextMetric):
    """Mean F1 of the characters of prediction and reference, without spaces."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("Character F1, from 0 to 1", "string")

    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """Return score name -> score of one prediction against one reference."""
        return {"char_f1": text_similarity.char_f1(prediction, reference)}
