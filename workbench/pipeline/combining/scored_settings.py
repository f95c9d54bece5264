"""Scores a model with any factors on its adapters' weights; cached answers let a search continue."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation import engine
from workbench.evaluation.prepared_benchmark import PreparedBenchmark
from workbench.evaluation.records import read_predictions
from workbench.models.combining.switched_weights import SwitchedWeights
from workbench.models.ops.prepacked_linear import prepacked
from workbench.pipeline.combining.choice import Factors, Values
from workbench.run_dir import fingerprint


@dataclass(frozen=True, kw_only=True)
class ScoredSettings:
    """A loaded model that is scored with different factors on its adapters' weights."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    weights: SwitchedWeights
    identity: dict[str, Any]
    """Everything besides the factors that the answers depend on."""
    evaluate: EvaluateConfig
    cache: Path
    """Folder of cached answers, from which a search that was killed continues."""
    answers: Path
    """Folder for the predictions of the setting that is scored at the moment."""

    def values(self, factors: Factors, benchmarks: Mapping[str, PreparedBenchmark]) -> Values:
        """Score the model with these factors, which it has until the next call.

        Returns benchmark -> score of each item by the benchmark's first metric, negated if lower is better.

        Raises:
            WorkbenchError: The model can't answer the items, see `engine.evaluate`.
        """
        self.weights.set(factors)
        evaluation = engine.evaluate(
            self.model,
            self.tokenizer,
            benchmarks,
            self.evaluate,
            model_name="search",
            fingerprint=fingerprint([self.identity, factors]),
            predictions=lambda _, name: self._file(name),
            cache=self.cache,
            decoding=prepacked,
        )
        losses = {(score.benchmark, score.metric) for score in evaluation.scores if score.lower_is_better}
        return {
            name: self._values(name, metric := benchmark.config.metrics[0], (name, metric) in losses)
            for name, benchmark in benchmarks.items()
        }

    def _values(self, benchmark: str, metric: str, is_loss: bool) -> list[float]:
        sign = -1 if is_loss else 1
        return [sign * prediction.scores[metric] for prediction in read_predictions(self._file(benchmark))]

    def _file(self, benchmark: str) -> Path:
        return self.answers / f"{benchmark}.jsonl"
