"""Defines prepared benchmarks, the outcome of asking one, and the interface of interviewers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.records import Answer, Example, Prediction, Score
from workbench.evaluation.tasks.requests import ChatFormat, Item
from workbench.evaluation.tasks.select_answerer import Model


@dataclass(frozen=True)
class PreparedBenchmark:
    """Benchmark that a model can be asked: its items are rendered, its protocol's settings filled in."""

    name: str
    config: BenchmarkConfig
    """The benchmark's section, with the values of its protocol filled in."""
    examples: list[Example]
    """The items that its limit selects."""
    warnings: list[str]
    """Warnings about the items, one line each, for the log."""
    interviewer: "Interviewer"
    """Asks a model the items and scores the answers."""
    num_total: int | None = None
    """Number of items of the benchmark without a limit; None: unknown."""


@dataclass(frozen=True)
class Asked:
    """Question with its items and their answers: one per order of its options, the original order first.

    Of a question with several sampled answers, there is one item per answer.
    """

    items: list[Item]
    answers: list[Answer]


@dataclass(frozen=True)
class Outcome:
    """Predictions, scores and measurements of one model on one benchmark."""

    predictions: list[Prediction]
    scores: list[Score]
    num_asked: int
    """Number of items that this process asked; the others had cached answers, or other ranks asked them."""
    asked: Sequence[Asked] = ()
    """Questions that can be asked again, as a check of the answers; empty for tasks of a harness."""
    measured: dict[str, float] = field(default_factory=dict)
    """Further measurements, for run.json."""


class Interviewer(Protocol):
    """Asks models the items of a benchmark and scores the answers."""

    @property
    def rule(self) -> str:
        """Fingerprint of all that scores depend on besides the benchmark's configuration; "" if nothing."""

    def main_metric(self, benchmark: PreparedBenchmark) -> str:
        """Return the name of the benchmark's main metric, which is that of its first score."""

    def generates(self, benchmark: PreparedBenchmark) -> bool:
        """Return whether some answers may be generated texts."""

    def check_chat(self, benchmark: PreparedBenchmark, chat: ChatFormat) -> None:
        """Check that the tokenizer's chat template can render the prompts.

        Raises:
            DataError: The template can't render them; the message names the benchmark.
        """

    def check(self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig) -> None:
        """Check that the model can be asked all items, before the first is asked.

        Raises:
            ConfigError: A setting doesn't fit the model.
            DataError: A question without few-shot examples is too long for the model.
        """

    def check_kept(
        self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig, cache: AnswerCache
    ) -> bool:
        """Compare some cached answers with those of an endpoint now; return whether there are any.

        Raises:
            WorkbenchError: The endpoint answers otherwise, or fails.
        """

    def evaluate(
        self,
        benchmark: PreparedBenchmark,
        lm: Model,
        config: EvaluateConfig,
        cache: AnswerCache,
        model_name: str,
    ) -> Outcome:
        """Ask a model the items that have no cached answer, and return predictions and scores of all.

        Raises:
            WorkbenchError: The model can't answer, or the answers can't be scored.
        """
