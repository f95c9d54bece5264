"""Defines the leaderboard's data: models, columns (benchmark and metric), scores, and tested differences.

`build.py` builds a `Board` once from the run folders; the terminal, the page and the output files only show
the board. What a reader chooses afterwards (filter, order, reference) changes no verdict.
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
    """One row of the leaderboard: a model, identified by its weights and not by its path."""

    key: str
    """First 16 hex digits of a hash of weights, adapter, quantization, dtype and the like."""
    name: str
    """Name that is unique on the board: `evaluate.name`, or the facts that tell this model from others."""
    role: str
    """base, adapter, merged, trained, or imported."""
    parent: str | None
    """Key of the model that was trained or merged to make this model; None if it isn't on the board."""
    tool: str
    """Program that scored the model, with its version."""
    facts: dict[str, Any]
    """path, quantization, dtype, method, rank, learning_rate, seed, trained_on, num_parameters,
    size_bytes, peak_bytes, tokens_per_second, ...; unknown facts are missing."""
    sources: tuple[str, ...]
    """Labels of the runs that scored the model."""
    recipe_key: str
    """Equal for models whose trainings differ only in the seed; empty if this project didn't train the
    model."""
    remarks: tuple[str, ...] = ()
    """Warnings that a reader needs before trusting the row."""
    failure: str = ""
    """Reason why the model could not be scored (it then has no scores); empty if it was scored."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the leaderboard: a benchmark, asked with one set of settings and scored by one metric."""

    key: str
    """First 16 hex digits of a hash of the settings that all scores of the column share, rule included."""
    label: str
    """Heading that is unique on the board: the benchmark, and the settings in which its columns differ."""
    benchmark: str
    language: str
    metric: str
    protocol: str
    num_fewshot: int
    rule: str
    """Fingerprint of the rules of answering and scoring (`Score.rule`); empty if no score has one."""
    prompts: str
    """Hash of the prompts that most models answered; scores on other prompts are not compared."""
    num_items: int
    num_total: int
    """Items of the benchmark without a limit; equal to num_items where the total isn't known."""
    average: str
    """micro (mean of all items) or macro (mean of the subsets' means)."""
    chance: float | None
    majority: float | None
    is_share: bool
    """Whether scores are shares between 0 and 1; only shares are shown in percent and enter means."""
    lower_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Score of one model in one column."""

    model: str
    column: str
    score: Score
    """Score in the column's metric."""
    further: dict[str, Score]
    """Other metric of the same benchmark -> score."""
    source: str
    """Label of the run that the score comes from."""
    apart: str = ""
    """Why the score is not compared, ranked or averaged, such as "2,680 of 11,582 items"; empty if it is."""
    best_rank: int | None = None
    """Best rank, from 1, that the tests leave possible; None, like `worst_rank`: the score isn't ranked."""
    worst_rank: int | None = None
    letters: str = ""
    """Letters of ties: no difference was shown between two models that share a letter."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Item scores of one column, for the models that answered the same items in the same order."""

    column: str
    models: tuple[str, ...]
    ids: tuple[str, ...]
    subsets: tuple[str, ...]
    clusters: NDArray[np.int32]
    """(num_items,) number of each item's cluster (items on one text, say); 0, 1, 2, ... where items are
    independent."""
    values: NDArray[np.float64]
    """(num_models, num_items) score of each item in the column's metric."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Score of `second` minus score of `first`; if tested, on items that both answered from one prompt."""

    first: str
    second: str
    column: str
    """Key of a column, or name of a mean (zh, en, all)."""
    value: float | None
    """None if the two scores can't be compared."""
    low: float | None
    high: float | None
    """`low` to `high` is a simultaneous interval for the family: the verdict is whether 0 lies outside."""
    p_value: float | None
    p_adjusted: float | None
    family: int
    """Number of comparisons in the family."""
    test: str
    num_pairs: int
    num_clusters: int
    gained: int
    """Items on which `second` is better; on `lost` items `first` is."""
    lost: int
    detectable: float | None
    """Smallest true difference that the corrected test detects with a power of 80%; None: it detects none."""
    verdict: str
    """Verdict on `second`: better, worse, no difference shown, or not tested."""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """Mean score of one model over the columns of a `Mean`, with its rank."""

    raw: float
    raw_stderr: float
    normalized: float
    """Mean of (score - chance) / (1 - chance), where chance is the score of guessing; may be negative."""
    normalized_stderr: float
    best_rank: int
    worst_rank: int
    letters: str


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean over several columns, for the models that have a score in all of these columns."""

    name: str
    """Language of the columns (zh, en), or all."""
    columns: tuple[str, ...]
    left_out: dict[str, str]
    """Key of a column that is not in the mean -> the reason."""
    scores: dict[str, MeanScore]
    """Key of a model -> its mean."""


@dataclass(frozen=True, kw_only=True)
class SubjectDifference:
    """Score of `second` minus score of `first` in one subject (subset) or group of subjects."""

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
    """Smallest damage that the test detects with a power of 80%."""
    verdict: str
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """A trained model's mean score minus its parent's, over benchmarks that the model was not trained for."""

    model: str
    parent: str
    columns: tuple[str, ...]
    value: float
    """Mean of the paired differences; every column has the same weight."""
    low: float
    high: float
    p_adjusted: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Models whose trainings differ only in the seed, compared with their parent in one column."""

    name: str
    models: tuple[str, ...]
    column: str
    mean: float
    low: float
    """`low` to `high` is the 95% interval of the recipe's mean score."""
    high: float
    seed_stderr: float
    """Standard error of the mean over seeds; `item_stderr` is that over items, for the seeds at hand."""
    item_stderr: float
    against: str
    """Key of the parent that the models are compared with; empty if it isn't in the column."""
    checkpoints_verdict: str
    """Verdict on these checkpoints: items are random, seeds are fixed."""
    recipe_verdict: str
    """Verdict on training by this recipe with any seed: items and seeds are random; "descriptive" with
    fewer than 5 seeds. Both verdicts are empty where `against` is, unless it says "descriptive"."""


@dataclass(frozen=True, kw_only=True)
class EarlyDecision:
    """Result of recipe=compare on one benchmark, whose items were asked until a sequential test decided."""

    first: str
    """Key of the first model's row; empty if it isn't on the board."""
    second: str
    first_name: str
    second_name: str
    benchmark: str
    metric: str
    difference: float
    """Second model's score minus the first's, estimated from the items up to the decision."""
    verdict: str
    """Verdict on the second model: better, worse, within the margin, or undecided."""
    num_decided: int
    """Number of items after which the test decided."""
    num_asked: int
    num_total: int
    alpha: float
    """Largest probability of a false decision."""
    margin: float | None
    """Differences smaller than this count as equal; None: the test only looks for the direction."""
    seed: int
    """Seed of the order in which the items were asked."""
    source: str
    """Path of compare.json relative to the leaderboard's folder."""


@dataclass(frozen=True, kw_only=True)
class BoardFamily:
    """The set of comparisons that the board tests together; fixed before any result is shown."""

    kind: str
    """pairs (all pairs), reference (each model with the reference), or names (pairs of the named models)."""
    reference: str
    """Key of the reference model; empty for other kinds."""
    num_comparisons: int
    alpha: float
    """Largest probability of any false verdict in the family."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that the leaderboard leaves out wholly or in part, with the reason."""

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
    family: BoardFamily
    differences: tuple[Difference, ...]
    means: tuple[Mean, ...]
    subjects: tuple[SubjectDifference, ...]
    forgetting: tuple[Forgetting, ...]
    seeds: tuple[SeedGroup, ...]
    alarms: tuple[str, ...]
    """Contradictions, such as equal models with different answers, or scores that their items don't give."""
    skipped: tuple[Skipped, ...]
    decisions: tuple[EarlyDecision, ...] = ()
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Run label -> command, configuration, hashes of data and weights, commit, versions, machine and date
    of the run."""
