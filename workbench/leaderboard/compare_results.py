"""Compares the results of two models benchmark by benchmark, on the items that both answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config.leaderboard import FamilyKind, LeaderboardConfig
from workbench.errors import ConfigError
from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Column, Difference
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import Collection, Run
from workbench.leaderboard.formatting import is_shown_as_share
from workbench.leaderboard.results import Results
from workbench.leaderboard.shown_table import Shown, Table
from workbench.run_dir import RunDir

OTHER_RULES = "asked by different rules, so not compared"
NUMBERS = ("low", "high", "p_value", "p_adjusted", "test", "gained", "lost", "num_pairs", "num_clusters")


@dataclass(frozen=True, kw_only=True)
class ComparedBenchmark:
    """Scores of two models on one benchmark, and their tested difference."""

    benchmark: str
    metric: str
    first: float
    second: float
    is_share: bool
    difference: Difference | None
    """Second model's score minus the first's, with its test and verdict; None if the rules differ."""
    problem: str
    """Why there is no difference, why it was not tested, or a remark on its test; else empty."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """Score differences of two models (second minus first) on every benchmark that both were scored on."""

    first: str
    second: str
    rows: list[ComparedBenchmark]
    """One entry per benchmark."""
    means: list[Difference]
    """Differences of the mean scores over several benchmarks, after normalizing by the score of guessing."""
    left_out: list[str]
    """Benchmarks that only one of the models was scored on."""
    alarms: list[str]
    """Contradictions between scores and predictions."""

    def table(self) -> Table:
        """Return the comparison as a table with one line per benchmark and mean."""
        header = ["benchmark", "metric", self.first, self.second, "difference", "p (corrected)", "verdict"]
        rows = [self._cells(row) for row in self.rows]
        rows += [
            [f"mean {formatting.language(mean.column)}", "", "", "", *_numbers(mean, True)]
            for mean in self.means
        ]
        notes = [f"{row.benchmark}: {row.problem}" for row in self.rows if row.problem]
        notes += [f"{name}: only one of the two was scored on it" for name in self.left_out]
        title = f"{self.second} against {self.first}"
        return Table(title=title, header=header, rows=rows, notes=[*notes, *self.alarms])

    def _cells(self, row: ComparedBenchmark) -> list[str]:
        values = [formatting.number(value, row.is_share) for value in (row.first, row.second)]
        return [row.benchmark, row.metric, *values, *_numbers(row.difference, row.is_share)]

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row per benchmark: both scores, and the difference if there is one.

        The columns are benchmark, metric, first, second, difference, `NUMBERS`, verdict and problem.

        Raises:
            ImportError: pandas isn't installed.
        """
        import pandas

        return pandas.DataFrame(
            {
                "benchmark": row.benchmark,
                "metric": row.metric,
                "first": row.first,
                "second": row.second,
                "difference": row.difference.value if row.difference else None,
                **{name: getattr(row.difference, name, None) for name in NUMBERS},
                "verdict": row.difference.verdict if row.difference else None,
                "problem": row.problem,
            }
            for row in self.rows
        )


def _numbers(found: Difference | None, is_share: bool) -> list[str]:
    """Return three table cells: difference with interval, corrected p-value, verdict.

    All are empty for None; the first two also if the difference was not tested.
    """
    if found is None or found.value is None or found.p_adjusted is None:
        return ["", "", "" if found is None else found.verdict]
    change = formatting.change(found.value, is_share)
    if found.low is not None and found.high is not None:
        change = f"{change} ({formatting.interval((found.low, found.high), is_share, signed=True)})"
    return [change, formatting.p_value(found.p_adjusted), found.verdict]


def compare(first: Results, second: Results) -> Comparison:
    """Compare two models on the items that both answered from the same prompt.

    Each benchmark is compared by its main metric: the difference with its interval and an exact test
    (McNemar's where items are right or wrong, else a sign-flip test; of F1 and the like a test of the metric
    itself). All benchmarks and means are one family: the chance of any false verdict is at most 3%.

    Args:
        first: Results of the reference, such as the base.
        second: Results of the other model.

    Raises:
        ConfigError: The two have no benchmark in common.
    """
    [comparison] = compare_all(first, [second])
    return comparison


def compare_all(first: Results, others: Sequence[Results]) -> list[Comparison]:
    """Compare several models with one reference, as `compare` does; all comparisons form one family.

    Returns:
        One comparison per entry of `others`, in their order.

    Args:
        first: Results of the reference.
        others: Results of the other models, which have different names.

    Raises:
        ConfigError: One of them has no benchmark in common with the reference.
    """
    common = [_common(first, other) for other in others]
    is_ambiguous = any(other.model == first.model for other in others)
    names = [f"{first.model} (1)" if is_ambiguous else first.model]
    names += [f"{other.model} (2)" if is_ambiguous else other.model for other in others]
    asked = [list(dict.fromkeys(name for own in common for name in own)), *common]
    runs = [
        _as_run(f"{number}", results, name, benchmarks)
        for number, (results, name, benchmarks) in enumerate(
            zip((first, *others), names, asked, strict=True), 1
        )
    ]
    # the board's default reference is the first model, since no model has a parent
    board = build(Collection(runs=runs, skipped=[]), LeaderboardConfig(family=FamilyKind.reference))
    keys = {model.sources[0]: model.key for model in board.models}
    return [
        _comparison(first, other, (names[0], name), keys[run.label], own, board)
        for other, name, run, own in zip(others, names[1:], runs[1:], common, strict=True)
    ]


def _common(first: Results, second: Results) -> list[str]:
    """Return the benchmarks that both models were scored on.

    Raises:
        ConfigError: They have no benchmark in common.
    """
    scored = [dict.fromkeys(score.benchmark for score in results.scores) for results in (first, second)]
    common = [name for name in scored[0] if name in scored[1]]
    if not common:
        known = " and ".join(", ".join(names) or "none" for names in scored)
        raise ConfigError(f"compare: no benchmark in common ({known})")
    return common


def _comparison(
    first: Results,
    second: Results,
    names: tuple[str, str],
    key: str,
    common: Sequence[str],
    board: Board,
) -> Comparison:
    """Pick the differences of the second model (`key`) to the reference from a board of several models."""
    differences = [difference for difference in board.differences if difference.second == key]
    means = {mean.name for mean in board.means}
    scored = dict.fromkeys(score.benchmark for results in (first, second) for score in results.scores)
    return Comparison(
        first=names[0],
        second=names[1],
        rows=[_compared(first, second, name, differences, board.columns) for name in common],
        means=[difference for difference in differences if difference.column in means],
        left_out=[name for name in scored if name not in common],
        alarms=list(board.alarms),
    )


def _as_run(label: str, results: Results, name: str, benchmarks: Sequence[str]) -> Run:
    """Wrap one model's results in memory as a run, so that a board can be built of them."""
    return Run(
        label=label,
        files=RunDir(Path(label)),
        recipe="",
        task="",
        base_model="",
        models={results.model: {"role": "base", "name": name}},
        scores=[score for score in results.scores if score.benchmark in benchmarks],
        answers={(results.model, benchmark): results.predictions[benchmark] for benchmark in benchmarks},
    )


def _compared(
    first: Results,
    second: Results,
    benchmark: str,
    differences: Sequence[Difference],
    columns: Sequence[Column],
) -> ComparedBenchmark:
    """Return two models' scores on one benchmark, with the board's difference if there is one."""
    score, other = first[benchmark], second[benchmark]
    by_key = {column.key: column for column in columns if column.benchmark == benchmark}
    difference = next((difference for difference in differences if difference.column in by_key), None)
    return ComparedBenchmark(
        benchmark=benchmark,
        metric=score.metric,
        first=score.value,
        second=other.value,
        is_share=by_key[difference.column].is_share if difference else is_shown_as_share(score),
        difference=difference,
        problem=OTHER_RULES if difference is None else difference.problem,
    )
