"""Defines what the leaderboard shows: runs, their benchmarks, and the differences between their models."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from workbench.config.names import ADAPTER, BASE, MERGED, TRAINED
from workbench.evaluation.records import Prediction, Score, lower_is_better, metric_name
from workbench.leaderboard.collect import Run, Skipped

MAJORITY = "majority class"

ALPHA = 0.05
"""Significance level: adjusted p-values below it show a difference."""

BETTER, WORSE, UNSURE = "better", "worse", "no difference shown"

OF_100 = ("bleu", "chrf")
"""Metrics that lm-evaluation-harness reports from 0 to 100."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of the trained model minus the reference's, on items that both answered from the same prompt."""

    reference: str
    """`base`, or `majority class` if the base has no trained head."""
    model: str
    value: float
    """Difference in the metric's unit."""
    stderr: float | None
    interval: tuple[float, float] | None
    """Interval with the coverage of the scores'; None if the metric is not a mean over items."""
    p_value: float
    """Two-sided p-value of the item scores."""
    adjusted_p_value: float
    """p-value after Holm's correction over the benchmarks of the run."""
    test: str
    wins: int
    losses: int
    num_items: int
    num_unpaired: int
    """Items that only one of the two answered, or that had different prompts."""
    detectable: float | None
    """Smallest true difference that the corrected test detects with a power of 80%; None: there is none."""
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Items on which the merged model differs from the adapter model."""

    answers: int
    """Items with different answers."""
    scores: int
    """Items with different scores."""
    num_items: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One item with the answers of two models."""

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
    """Model -> score in the main metric."""
    further: dict[str, dict[str, Score]] = field(default_factory=dict)
    """Metric -> model -> score."""
    difference: Difference | None = None
    flips: Flips | None = None
    gained: list[Sample] = field(default_factory=list)
    """Items that the reference answered wrong and the trained model right."""
    lost: list[Sample] = field(default_factory=list)
    """Items that the reference answered right and the trained model wrong."""
    problem: str = ""
    """Why there is no difference, or why it leaves items out."""

    @property
    def any_score(self) -> Score:
        """Return any score, for what all models share: protocol, shots, chance."""
        return next(iter(self.scores.values()))

    @property
    def same_rule(self) -> bool:
        """Return whether all models were scored by the same rule; scores of older versions have none."""
        protocols = {(score.protocol, score.num_fewshot) for score in self.scores.values()}
        rules = {score.rule for score in self.scores.values()} - {""}
        return len(protocols) <= 1 and len(rules) <= 1

    @property
    def same_prompts(self) -> bool:
        """Return whether all models had the same items and prompts."""
        return len({score.prompts for score in self.scores.values()}) <= 1

    @property
    def is_share(self) -> bool:
        """Return whether the metric is a share between 0 and 1."""
        return is_share(self.metric, self.any_score.protocol)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Unweighted mean over the benchmarks of a language."""

    value: float
    interval: tuple[float, float] | None
    num_benchmarks: int


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run with its benchmarks."""

    run: Run
    rows: list[Row]
    means: dict[str, dict[str, Mean]]
    """Language -> model -> mean of the main metrics."""
    gains: dict[str, Mean]
    """Language -> mean difference between the trained model and its reference."""

    def count(self, verdict: str) -> int:
        """Return how many benchmarks have this verdict."""
        return sum(row.difference is not None and row.difference.verdict == verdict for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything that the leaderboard shows."""

    runs: list[RunView]
    skipped: list[Skipped]

    @property
    def languages(self) -> list[str]:
        """Return the languages of the benchmarks, Chinese first."""
        return languages([row for view in self.runs for row in view.rows])


def is_share(metric: str, protocol: str) -> bool:
    """Return whether a metric is a share between 0 and 1; others are not shown in percent or averaged."""
    name = metric_name(metric)
    is_of_100 = name in OF_100 and protocol.startswith(
        "lm-eval "
    )  # such a protocol is followed by the harness's version
    return not (lower_is_better(metric) or name.endswith("mcc") or is_of_100)


def languages(rows: Iterable[Row]) -> list[str]:
    """Return the languages of the benchmarks, Chinese first."""
    return sorted({row.language for row in rows}, key=lambda language: (language != "zh", language))


def trained_and_base(means: Mapping[str, object]) -> list[str]:
    """Return the names of the base and of the model trained on it, of those that have means."""
    trained = [name for name in (ADAPTER, TRAINED, MERGED) if name in means][:1]
    return [name for name in (BASE,) if name in means] + trained
