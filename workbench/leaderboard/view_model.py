"""What the leaderboard shows: runs, their benchmarks, and the differences between their models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.evaluation.records import Prediction, Score, lower_is_better, metric_name
from workbench.leaderboard.collect import Run, Skipped

MAJORITY = "majority class"

ALPHA = 0.05
"""Adjusted p-values from here on show no difference."""

BETTER, WORSE, UNSURE = "better", "worse", "no difference shown"

OF_100 = ("bleu", "chrf")
"""Metrics that lm-evaluation-harness gives from 0 to 100."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The trained model less the reference, on the items that both answered from the same prompt."""

    reference: str
    """`base`, or `majority class` where the base has no trained head."""
    model: str
    value: float
    """In the metric's own unit."""
    stderr: float | None
    interval: tuple[float, float] | None
    """With the coverage of the scores'; None where the metric is no mean of its items."""
    p_value: float
    """Two-sided, of the item scores."""
    adjusted_p_value: float
    """The same after Holm's correction over the benchmarks of the run."""
    test: str
    wins: int
    losses: int
    num_items: int
    num_unpaired: int
    """Items that only one of the two answered, or from different prompts."""
    detectable: float | None
    """The smallest true difference that so many items would show in four cases of five."""
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Flips:
    """The merged model against the adapter model."""

    answers: int
    """Items with another answer."""
    scores: int
    """Items that score otherwise."""
    num_items: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One item as two models answered it."""

    first: Prediction
    second: Prediction


@dataclass(frozen=True, kw_only=True)
class Row:
    """One benchmark of one run."""

    run: str
    benchmark: str
    language: str
    metric: str
    scores: dict[str, Score]
    """Model -> its score by the main metric."""
    further: dict[str, dict[str, Score]] = field(default_factory=dict)
    """Metric -> model -> score."""
    difference: Difference | None = None
    flips: Flips | None = None
    gained: list[Sample] = field(default_factory=list)
    """Reference wrong, trained model right."""
    lost: list[Sample] = field(default_factory=list)
    problem: str = ""
    """Why there is no difference, or not of all items."""

    @property
    def any_score(self) -> Score:
        """What holds for all models: protocol, shots, chance."""
        return next(iter(self.scores.values()))

    @property
    def same_rule(self) -> bool:
        """Whether all models were asked and scored by one rule; scores of older versions name none."""
        asked = {(score.protocol, score.num_fewshot) for score in self.scores.values()}
        rules = {score.rule for score in self.scores.values()} - {""}
        return len(asked) <= 1 and len(rules) <= 1

    @property
    def same_prompts(self) -> bool:
        """Whether all models were asked the same items with the same prompts."""
        return len({score.prompts for score in self.scores.values()}) <= 1

    @property
    def is_share(self) -> bool:
        """Whether the metric is a share between 0 and 1."""
        return is_share(self.metric, self.any_score.protocol)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean over the benchmarks of a language, every benchmark counting the same."""

    value: float
    interval: tuple[float, float] | None
    num_benchmarks: int


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run with its rows."""

    run: Run
    rows: list[Row]
    means: dict[str, dict[str, Mean]]
    """Language -> model -> mean of the main metrics."""
    gains: dict[str, Mean]
    """Language -> mean difference of the trained model from its reference."""

    def count(self, verdict: str) -> int:
        """How many benchmarks got this verdict."""
        return sum(row.difference is not None and row.difference.verdict == verdict for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything that the leaderboard shows."""

    runs: list[RunView]
    skipped: list[Skipped]

    @property
    def languages(self) -> list[str]:
        """Languages of the benchmarks, Chinese first."""
        return languages([row for view in self.runs for row in view.rows])


def is_share(metric: str, protocol: str) -> bool:
    """Whether a metric is a share between 0 and 1; others are neither shown in percent nor averaged."""
    name = metric_name(metric)
    is_of_100 = name in OF_100 and protocol.startswith("lm-eval ")  # with a version: a task of the harness
    return not (lower_is_better(metric) or name.endswith("mcc") or is_of_100)


def languages(rows: Iterable[Row]) -> list[str]:
    """Languages of the benchmarks, Chinese first."""
    return sorted({row.language for row in rows}, key=lambda language: (language != "zh", language))


def trained_and_base(means: Mapping[str, object]) -> list[str]:
    """Names of the base and of the model that was trained on it, as far as they are there."""
    trained = [name for name in (ADAPTER, TRAINED, MERGED) if name in means][:1]
    return [name for name in (BASE,) if name in means] + trained
