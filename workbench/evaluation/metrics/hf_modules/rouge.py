"""Computes ROUGE, with every Chinese character as a word."""

import evaluate

from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.metrics.hf_modules import base


class Rouge(base.TextMetric):
    """Mean ROUGE-1, ROUGE-2 and ROUGE-L."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("ROUGE F1, from 0 to 1", "string", "https://aclanthology.org/W04-1013")

    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """Return score name -> score of one prediction against one reference."""
        return {
            "rouge1": text_similarity.rouge_n(prediction, reference, 1),
            "rouge2": text_similarity.rouge_n(prediction, reference, 2),
            "rougeL": text_similarity.rouge_l(prediction, reference),
        }
