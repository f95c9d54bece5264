"""Tests whether trained models got worse on benchmarks that they were not trained for."""

from collections.abc import Sequence

from workbench.leaderboard.board import Forgetting, Model
from workbench.leaderboard.board_tests.family import Pair
from workbench.leaderboard.board_tests.verdicts import verdict_on
from workbench.leaderboard.items.outcomes import Answered
from workbench.statistics.family import Family
from workbench.statistics.means import Column, compare_means


def forgetting(
    columns: Sequence[Answered], models: Sequence[Model], trained_for: Sequence[str] | None
) -> list[Forgetting]:
    """Test each trained model's mean score against its parent's on the benchmarks outside of `trained_for`.

    All tests form one family. A model without a parent, or without such a benchmark, isn't in the list.

    Args:
        columns: All columns; of a benchmark with several, only the first that both models have counts.
        models: All rows.
        trained_for: Benchmarks that the models were trained for; None: not declared, so nothing is tested.
    """
    if trained_for is None:
        return []
    planned: list[tuple[Pair, list[Answered]]] = []
    for model in models:
        pair = (model.parent or "", model.key)
        own = _others(columns, pair, trained_for) if model.parent else []
        if own:
            planned.append((pair, own))
    family = Family("forgetting", len(planned))
    return [_tested(pair, own, family) for pair, own in planned]


def _others(columns: Sequence[Answered], pair: Pair, trained_for: Sequence[str]) -> list[Answered]:
    by_benchmark: dict[str, Answered] = {}
    for column in columns:
        if column.is_averaged and set(pair) <= set(column.main):
            by_benchmark.setdefault(column.column.benchmark, column)
    return [column for name, column in by_benchmark.items() if name not in trained_for]


def _tested(pair: Pair, columns: Sequence[Answered], family: Family) -> Forgetting:
    values = [
        Column(
            first=column.items[pair[0]].values,
            second=column.items[pair[1]].values,
            clusters=column.clusters,
            subsets=column.subsets,
        )
        for column in columns
    ]
    test = compare_means(values, alpha=family.alpha)
    numbers = verdict_on(test, family.size)
    return Forgetting(
        model=pair[1],
        parent=pair[0],
        columns=tuple(column.column.key for column in columns),
        value=test.difference,
        low=test.low,
        high=test.high,
        p_adjusted=1.0 if numbers.p_adjusted is None else numbers.p_adjusted,
        verdict=numbers.verdict,
    )
