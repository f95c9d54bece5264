"""Computes BLEU and chrF by sacrebleu, which the optional extra `metrics` installs."""

from collections.abc import Sequence

import evaluate

from workbench.evaluation.metrics import text_similarity
from workbench.evaluation.metrics.hf_modules import base


class Translation(evaluate.Metric):  # type: ignore[misc]
    """Corpus BLEU and corpus chrF of all predictions."""

    def _info(self) -> evaluate.MetricInfo:
        return base.info("BLEU and chrF, from 0 to 1", "string", "https://aclanthology.org/W18-6319")

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str | Sequence[str]]
    ) -> dict[str, float]:
        return {
            "bleu": text_similarity.bleu(predictions, references),
            "chrf": text_similarity.chrf(predictions, references),
        }
