"""What the metric modules have in common: their features, and the mean over pairs of texts."""

from abc import abstractmethod
from collections.abc import Sequence

import datasets
import evaluate


def info(description: str, dtype: str, source: str = "") -> evaluate.MetricInfo:
    """About a metric whose predictions and references are of one type: `string` or `int64`."""
    features = datasets.Features({name: datasets.Value(dtype) for name in ("predictions", "references")})
    return evaluate.MetricInfo(
        description=description,
        citation=source,
        inputs_description="predictions and references, one each an item",
        features=features,
    )


class TextMetric(evaluate.Metric):  # type: ignore[misc]
    """The mean over pairs of a prediction and its reference."""

    @abstractmethod
    def scores(self, prediction: str, reference: str) -> dict[str, float]:
        """What one pair scores, by name."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        found = [self.scores(*pair) for pair in zip(predictions, references, strict=True)]
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}
