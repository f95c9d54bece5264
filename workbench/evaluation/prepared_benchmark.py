"""A benchmark ready to be asked, and the interface of what asks it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from workbench.config.benchmark import BenchmarkConfig
from workbench.config.evaluate import EvaluateConfig
from workbench.evaluation.answer_cache import AnswerCache
from workbench.evaluation.records import Answer, Example, Prediction, Score
from workbench.evaluation.tasks.requests import Item
from workbench.evaluation.tasks.select_answerer import Model


@dataclass(frozen=True)
class PreparedBenchmark:
    """A benchmark ready to be asked: its protocol resolved, its items rendered."""

    name: str
    config: BenchmarkConfig
    """With the protocol's facts in place."""
    examples: list[Example]
    warnings: list[str]
    interviewer: "Interviewer"
    """What asks a model the items and judges its answers."""
    num_total: int | None = None
    """Items of the benchmark without a limit; None: not known."""


@dataclass(frozen=True)
class Asked:
    """A question in all orders of its options: items and answers, the original order first."""

    items: list[Item]
    answers: list[Answer]


@dataclass(frozen=True)
class Outcome:
    """What a model gave on one benchmark."""

    predictions: list[Prediction]
    scores: list[Score]
    num_asked: int
    asked: Sequence[Asked] = ()
    """The questions where they can be asked again, one by one or in another way."""
    measured: dict[str, float] = field(default_factory=dict)


class Interviewer(Protocol):
    """Asks models the items of a benchmark and judges the answers: this project, or lm-evaluation-harness."""

    @property
    def rule(self) -> str:
        """Fingerprint of how answers are had and judged; empty: the benchmark's configuration says it all."""

    def main_metric(self, benchmark: PreparedBenchmark) -> str:
        """The metric that the benchmark's first score will be of."""

    def generates(self, benchmark: PreparedBenchmark) -> bool:
        """Whether some answers may be generated texts."""

    def check_chat(self, benchmark: PreparedBenchmark, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find prompts that the tokenizer's chat template can't write.

        Raises:
            DataError: names the benchmark.
        """

    def check(self, benchmark: PreparedBenchmark, lm: Model, config: EvaluateConfig) -> None:
        """Find what the model can't be asked, before it is asked anything.

        Raises:
            ConfigError: a key that doesn't fit the model.
            DataError: a question alone is too long for the model.
        """

    def judged(
        self,
        benchmark: PreparedBenchmark,
        lm: Model,
        config: EvaluateConfig,
        kept: AnswerCache,
        model_name: str,
    ) -> Outcome:
        """The model's answers, those that are kept not asked again, and what they score.

        Raises:
            WorkbenchError: the model can't answer, or the answers can't be judged.
        """
