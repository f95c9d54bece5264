"""Compares trained models with their parents subject by subject, as a separate family of tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.leaderboard.board import SubjectDifference
from workbench.leaderboard.board_tests.family import Pair
from workbench.leaderboard.board_tests.verdicts import exact_tests, verdict_on
from workbench.leaderboard.items.metric_kinds import MetricKind
from workbench.leaderboard.items.outcomes import Answered
from workbench.statistics.family import Family
from workbench.statistics.paired import PairedTest, compare_paired
from workbench.statistics.power import detectable, detectable_damage


@dataclass(frozen=True)
class Subject:
    """One subset of a column's items, or a group of subsets."""

    name: str
    is_group: bool
    indices: NDArray[np.intp]
    """Indices of its items in the column."""


def subject_differences(columns: Sequence[Answered], pairs: Sequence[Pair]) -> list[SubjectDifference]:
    """Test each pair of models in each subject and group of subjects, all together as one family of tests.

    Args:
        columns: All columns; used are those with subsets whose metric is a mean of item scores.
        pairs: Keys of the models to compare, as (first, second); used where both answered the column's items.
    """
    planned = [
        (column, list(subjects_of(column)), [pair for pair in pairs if set(pair) <= set(column.main)])
        for column in columns
        if column.kind is MetricKind.mean
    ]
    family = Family("subjects", sum(len(subjects) * len(own) for _, subjects, own in planned))
    return [
        _difference(column, subject, pair, test, family)
        for column, subjects, own in planned
        for subject in subjects
        for pair, test in zip(own, _tests(column, subject, own, family.alpha), strict=True)
    ]


def subjects_of(column: Answered) -> Iterator[Subject]:
    """Yield each subset of a column's items, then each group of subsets; none with fewer than two subsets."""
    if column.first is None:
        return
    subsets = np.array(column.first.subsets.to_pylist(), dtype=object)
    names = [name for name in dict.fromkeys(subsets.tolist()) if name]
    if len(names) < 2:
        return
    places = {name: np.flatnonzero(subsets == name) for name in names}
    for name, indices in places.items():
        yield Subject(name, False, indices)
    members = next(
        (cell.score.group_members for cell in column.cells.values() if cell.score.group_members), {}
    )
    for group, own in members.items():
        known = [places[name] for name in own if name in places]
        if known:
            yield Subject(group, True, np.sort(np.concatenate(known)))


def _tests(column: Answered, subject: Subject, pairs: Sequence[Pair], alpha: float) -> list[PairedTest]:
    """Test all pairs in one subject; by the exact McNemar test if items are independent, right or wrong."""
    is_macro = subject.is_group and column.subsets is not None
    if is_macro or column.clusters is not None or not pairs:
        return [_tested(column, subject, pair, alpha) for pair in pairs]
    models = list(dict.fromkeys(model for pair in pairs for model in pair))
    values = np.array([column.items[model].values[subject.indices] for model in models])
    if not np.isin(values, (0.0, 1.0)).all():
        return [_tested(column, subject, pair, alpha) for pair in pairs]
    place = {model: index for index, model in enumerate(models)}
    first, second = (values[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return exact_tests((second > first).sum(axis=1), (second < first).sum(axis=1), values.shape[1], alpha)


def _tested(column: Answered, subject: Subject, pair: Pair, alpha: float) -> PairedTest:
    first, second = (column.items[model].values[subject.indices] for model in pair)
    clusters = None if column.clusters is None else column.clusters[subject.indices]
    subsets = None
    if subject.is_group and column.subsets is not None:
        subsets = column.subsets[subject.indices]
    return compare_paired(first, second, alpha=alpha, clusters=clusters, subsets=subsets)


def _difference(
    column: Answered, subject: Subject, pair: Pair, test: PairedTest, family: Family
) -> SubjectDifference:
    numbers = verdict_on(test, family.size, lower_is_better=column.column.lower_is_better)
    return SubjectDifference(
        first=pair[0],
        second=pair[1],
        column=column.column.key,
        subject=subject.name,
        is_group=subject.is_group,
        value=test.difference,
        low=numbers.low,
        high=numbers.high,
        p_adjusted=numbers.p_adjusted,
        num_pairs=test.num_items,
        detectable=_detectable(test),
        verdict=numbers.verdict,
        problem=test.reason,
    )


def _detectable(test: PairedTest) -> float | None:
    """Return the smallest loss of score that a test detects with a power of 80%; None if it detects none."""
    if test.test == "mcnemar-exact":
        return detectable_damage(test.num_items, test.num_differing, test.alpha)
    return None if test.reason else detectable(test)
