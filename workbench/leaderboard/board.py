"""Defines what the leaderboard holds: models, columns of equal questions, scores, and tested differences.

A `Board` is built once from the runs found (`build.py`) and then only shown: by the terminal, the page, and
the files for other programs. Nothing that a reader chooses afterwards (filter, order, reference) changes a
verdict.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.records import Score

BETTER, WORSE, UNSURE = "better", "worse", "no difference shown"
UNTESTED = "not tested"
"""Verdict of a difference that has no test; `Difference.problem` says why."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One row: a model that was scored, known by the content of its weights."""

    key: str
    """16 hex digits of weights, adapter, quantization and dtype."""
    name: str
    """Unique on the board: what tells this model from the others, or `evaluate.name`."""
    role: str
    """base, adapter, merged, trained, or imported."""
    parent: str | None
    """Key of the model that this one was made from; None if it isn't on the board."""
    tool: str
    """Program that scored it, with its version."""
    facts: dict[str, Any]
    """path, quantization, dtype, method, rank, learning_rate, seed, trained_on, num_parameters,
    size_bytes, peak_bytes, tokens_per_second, ...; only those that are known."""
    sources: tuple[str, ...]
    """Labels of the runs that scored it."""
    recipe_key: str
    """Equal for models that were trained alike but for the seed; empty if it wasn't trained here."""
    remarks: tuple[str, ...] = ()
    """Warnings that a reader needs before trusting the row."""
    failure: str = ""
    """Why it could not be scored; then it has no scores."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Questions asked alike: one benchmark and metric under one rule."""

    key: str
    """16 hex digits of benchmark, metric, protocol, number of examples and rule."""
    label: str
    """Unique on the board: the benchmark, with what tells it from other columns of the same benchmark."""
    benchmark: str
    language: str
    metric: str
    protocol: str
    num_fewshot: int
    rule: str
    prompts: str
    """Fingerprint of the prompts of the items that most models answered; other cells are set apart."""
    num_items: int
    num_total: int
    """Items of the benchmark without a limit; num_items where it isn't known."""
    average: str
    """micro or macro."""
    chance: float | None
    majority: float | None
    is_share: bool
    """Whether scores are shares between 0 and 1, which may enter a mean."""
    lower_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Score of one model in one column."""

    model: str
    column: str
    score: Score
    """The score in the main metric."""
    further: dict[str, Score]
    """Further metric -> score."""
    source: str
    """Label of the run that it is from."""
    apart: str = ""
    """Why it is not compared, ranked or averaged, such as "2,680 of 11,582 items"; empty if it is."""
    best_rank: int | None = None
    worst_rank: int | None = None
    letters: str = ""
    """Models that share a letter aren't told apart."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Item scores of all comparable models of a column, on the same items in the same order."""

    column: str
    models: tuple[str, ...]
    ids: tuple[str, ...]
    subsets: tuple[str, ...]
    clusters: NDArray[np.int32]
    """(num_items,) number of each item's cluster; 0, 1, 2, ... where items are independent."""
    values: NDArray[np.float64]
    """(num_models, num_items) score of each item in the main metric."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of `second` minus score of `first` on items that both answered from the same prompt."""

    first: str
    second: str
    column: str
    """Key of a column, or name of a mean."""
    value: float | None
    low: float | None
    high: float | None
    """Simultaneous interval over the whole family: the verdict is exactly whether it excludes 0."""
    p_value: float | None
    p_adjusted: float | None
    family: int
    """Number of comparisons in the family."""
    test: str
    num_pairs: int
    num_clusters: int
    gained: int
    """Items on which `second` is better."""
    lost: int
    detectable: float | None
    """Smallest true difference that this test finds 4 times out of 5, corrected; None: there is none."""
    verdict: str
    """About `second`: better, worse, no difference shown, or not tested."""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """Mean of one model over the columns of a mean."""

    raw: float
    raw_stderr: float
    normalized: float
    """Mean of (score - chance) / (1 - chance), not clipped."""
    normalized_stderr: float
    best_rank: int
    worst_rank: int
    letters: str


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over the columns that all its models have."""

    name: str
    """zh, en, or all."""
    columns: tuple[str, ...]
    left_out: dict[str, str]
    """Column -> why it isn't in the mean."""
    scores: dict[str, MeanScore]
    """Model key -> mean."""


@dataclass(frozen=True, kw_only=True)
class SubjectDifference:
    """Difference of two models in one subject (subset) or group of subjects of a column."""

    first: str
    second: str
    column: str
    subject: str
    is_group: bool
    value: float
    low: float | None
    high: float | None
    p_adjusted: float | None
    num_pairs: int
    detectable: float | None
    """Smallest damage that would be found 4 times out of 5."""
    verdict: str
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What a trained model lost against its parent on the benchmarks that it was not trained for."""

    model: str
    parent: str
    columns: tuple[str, ...]
    value: float
    """Equal-weight mean of the paired differences."""
    low: float
    high: float
    p_adjusted: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Models of one recipe with several seeds, against their parent, in one column."""

    name: str
    models: tuple[str, ...]
    column: str
    mean: float
    low: float
    """Interval of the recipe's mean score."""
    high: float
    seed_stderr: float
    item_stderr: float
    against: str
    """Key of the model it is compared with; empty without one."""
    checkpoints_verdict: str
    """About these checkpoints: items are random, seeds are given."""
    recipe_verdict: str
    """About the recipe: items and seeds are random; "descriptive" below 5 seeds a side."""


@dataclass(frozen=True, kw_only=True)
class EarlyDecision:
    """Two models that were asked the items of a benchmark until a test decided between them."""

    first: str
    """Key of the first model's row; empty if it isn't on the board."""
    second: str
    first_name: str
    second_name: str
    benchmark: str
    metric: str
    difference: float
    """Estimate from the items until the decision: the second model's score less the first's."""
    verdict: str
    """About the second model: better, worse, within the margin, or undecided."""
    num_decided: int
    """Items until the decision."""
    num_asked: int
    num_total: int
    alpha: float
    """Largest chance of a false decision."""
    margin: float | None
    """Differences below it were of no interest; None: only the direction was asked for."""
    seed: int
    """Seed of the order of the items."""
    source: str
    """Path of compare.json relative to the leaderboard's folder."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """All comparisons that the board tests, fixed before a reader sees it."""

    kind: str
    """pairs, reference, or names."""
    reference: str
    """Key of the reference; empty for pairs."""
    num_comparisons: int
    alpha: float
    """Error rate of all comparisons together."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that is left out, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything that the leaderboard shows."""

    title: str
    models: tuple[Model, ...]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    outcomes: dict[str, Outcomes]
    """Column key -> item scores."""
    family: Family
    differences: tuple[Difference, ...]
    means: tuple[Mean, ...]
    subjects: tuple[SubjectDifference, ...]
    forgetting: tuple[Forgetting, ...]
    seeds: tuple[SeedGroup, ...]
    alarms: tuple[str, ...]
    """What must not be: equal models with different answers, files that contradict each other."""
    skipped: tuple[Skipped, ...]
    decisions: tuple[EarlyDecision, ...] = ()
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Run label -> command, configuration, hashes of data and weights, commit, versions, machine, date."""
