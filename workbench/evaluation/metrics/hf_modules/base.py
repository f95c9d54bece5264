"""Provides the base of the metric modules: their features, and the mean over pairs of texts."""

from abc import abstractmethod
from collections.abc import Sequence

import datasets
import evaluate


def info(description: str, dtype: str, source: str = "") -> evaluate.MetricInfo:
    """Return the MetricInfo of a metric whose predictions and references have the type `dtype`.

    `dtype` is `string` or `int64`. A prediction that is a string may have a list of references.
    """
    value = datasets.Value(dtype)
    features = [datasets.Features({"predictions": value, "references": value})]
    if dtype == "string":
        features.append(datasets.Features({"predictions": value, "references": datasets.Sequence(value)}))
    return evaluate.MetricInfo(
        description=description,
        citation=source,
        inputs_description="predictions and references: one prediction per item, one or several references",
        features=features,
    )


class TextMetric(evaluate.Metric):  # type: ignore[misc]
    """Base of metrics that are means over predictions; of several references, the best one counts."""

    @abstractmethod
    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """Return score name -> score of one prediction against one reference."""

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str | Sequence[str]]
    ) -> dict[str, float]:
        scores = [self._best(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}

    def _best(self, prediction: str, references: str | Sequence[str]) -> dict[str, float]:
        """Return score name -> the highest score of a prediction against any of its references."""
        texts = [references] if isinstance(references, str) else references
        scores = [self.scores(prediction, text) for text in texts]
        return {name: max(score[name] for score in scores) for name in scores[0]}
