"""Computes means over several columns, and tests their differences between models."""

from collections.abc import Sequence

from workbench.leaderboard.board import BoardFamily, Difference, Mean, MeanScore
from workbench.leaderboard.board_tests.family import Pair, level
from workbench.leaderboard.board_tests.ranking import ranks
from workbench.leaderboard.board_tests.verdicts import as_difference
from workbench.leaderboard.items.metric_kinds import MetricKind
from workbench.leaderboard.items.outcomes import Answered
from workbench.shown import message
from workbench.statistics import means as statistics
from workbench.statistics.paired import PairedTest

ALL = "all"
"""Name of the mean over the columns of all languages."""
FEWEST = 2
"""Least number of columns of a mean."""

SOLVED_BY_GUESSING = 0.999
"""From this expected score of guessing on, a column's scores can't be normalized."""


class Averaged:
    """A mean over the columns of one language or of all, with the models that have a score in each column."""

    def __init__(self, name: str, columns: Sequence[Answered], models: Sequence[str]) -> None:
        """Choose the columns that at least half of the models have, then the models with all these columns.

        Args:
            name: zh, en, or all.
            columns: All columns of this language, or of all languages.
            models: Keys of all rows, in the board's order.
        """
        self.name = name
        self.left_out = _unfit(columns)
        fit = [column for column in columns if column.column.key not in self.left_out]
        having = {column.column.key: set(column.main) for column in fit}
        anywhere = {model for own in having.values() for model in own}
        self.columns = [column for column in fit if 2 * len(having[column.column.key]) >= len(anywhere)]
        for column in fit:
            if column not in self.columns:
                count = len(having[column.column.key])
                self.left_out[column.column.key] = message(
                    "only {count} of {total} models have it", count=count, total=len(anywhere)
                )
        common = [having[column.column.key] for column in self.columns]
        self.models = [model for model in models if common and all(model in own for own in common)]

    @property
    def exists(self) -> bool:
        """Whether the mean has two or more columns, and a model with a score in each."""
        return len(self.columns) >= FEWEST and bool(self.models)

    def has(self, pair: Pair) -> bool:
        """Return whether both models of a pair are among the models of the mean."""
        return set(pair) <= set(self.models)

    def chances(self) -> list[float]:
        """Return the expected score of guessing for each of `columns`; 0 where none is known (generation)."""
        return [column.column.chance or 0.0 for column in self.columns]

    def scores(self, differences: Sequence[Difference], reference: str) -> dict[str, MeanScore]:
        """Return key of a model -> its raw and normalized means, and its rank by the normalized mean.

        Args:
            differences: Tested differences in this mean, which decide the ranks.
            reference: Key of the model that all others were compared with; empty if there is none.
        """
        raw = {model: self._mean(model, [0.0] * len(self.columns)) for model in self.models}
        normalized = {model: self._mean(model, self.chances()) for model in self.models}
        values = {model: value for model, (value, _) in normalized.items()}
        places = ranks(values, differences, reference, False)
        return {
            model: MeanScore(
                raw=raw[model][0],
                raw_stderr=raw[model][1],
                normalized=normalized[model][0],
                normalized_stderr=normalized[model][1],
                best_rank=places[model].best,
                worst_rank=places[model].worst,
                letters=places[model].letters,
            )
            for model in self.models
        }

    def _mean(self, model: str, chances: Sequence[float]) -> tuple[float, float]:
        cells = [column.cells[model].score for column in self.columns]
        errors = [_stderr(cell.stderr, cell.interval) for cell in cells]
        return statistics.mean_of_scores([cell.value for cell in cells], errors, chances)

    def test(self, pair: Pair, alpha: float) -> PairedTest:
        """Test, at level `alpha`, the difference of two models' normalized means: second minus first.

        Raises:
            DataError: Guessing is always right on a benchmark, or the scores can't be compared.
        """
        columns = [
            statistics.Column(
                first=column.items[pair[0]].values,
                second=column.items[pair[1]].values,
                chance=chance,
                clusters=column.clusters,
                subsets=column.subsets,
            )
            for column, chance in zip(self.columns, self.chances(), strict=True)
        ]
        return statistics.compare_means(columns, alpha=alpha)


def _unfit(columns: Sequence[Answered]) -> dict[str, str]:
    """Return key -> reason for each column that can't enter a mean.

    Reasons: its scores aren't shares of right items, guessing is always right, or another column of the same
    benchmark is in the mean.
    """
    unfit: dict[str, str] = {}
    by_benchmark: dict[str, list[Answered]] = {}
    for column in columns:
        if column.kind is not MetricKind.mean or not column.column.is_share:
            unfit[column.column.key] = message(
                "{metric} isn't a share of right items", metric=column.column.metric
            )
        elif (column.column.chance or 0.0) >= SOLVED_BY_GUESSING:
            unfit[column.column.key] = message("guessing is always right")
        else:
            by_benchmark.setdefault(column.column.benchmark, []).append(column)
    for same in by_benchmark.values():
        first, *others = sorted(same, key=lambda column: -len(column.main))
        for other in others:
            unfit[other.column.key] = message(
                "{column} is in it, one column a benchmark", column=first.column.label
            )
    return unfit


def _stderr(stderr: float | None, interval: Sequence[float] | None) -> float:
    """Return the standard error of a score; if it is 0 or missing, a quarter of the interval's width.

    The standard error is 0 where all items score the same.
    """
    if stderr or interval is None:
        return stderr or 0.0
    return (interval[1] - interval[0]) / 4


def averaged(columns: Sequence[Answered], models: Sequence[str]) -> list[Averaged]:
    """Return the means that exist: one for each language, and one over all languages if there are several."""
    by_language: dict[str, list[Answered]] = {}
    for column in columns:
        by_language.setdefault(column.column.language, []).append(column)
    means = [Averaged(language, own, models) for language, own in by_language.items()]
    if len(by_language) > 1:
        means.append(Averaged(ALL, columns, models))
    return [mean for mean in means if mean.exists]


def differences_of(mean: Averaged, pairs: Sequence[Pair], family: BoardFamily) -> list[Difference]:
    """Return the tested difference in a mean for each of `pairs` whose models both have the mean."""
    return [
        as_difference(mean.test(pair, level(family)), pair, mean.name, family)
        for pair in pairs
        if mean.has(pair)
    ]


def as_mean(mean: Averaged, differences: Sequence[Difference], reference: str) -> Mean:
    """Convert a mean into the board's `Mean`.

    Args:
        mean: The mean.
        differences: Tested differences in all means; those in this mean decide the ranks.
        reference: Key of the model that all others were compared with; empty if there is none.
    """
    own = [difference for difference in differences if difference.column == mean.name]
    return Mean(
        name=mean.name,
        columns=tuple(column.column.key for column in mean.columns),
        left_out=dict(mean.left_out),
        scores=mean.scores(own, reference),
    )
