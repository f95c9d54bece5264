"""Packs tested differences as one list per field; if there are too many, better and worse ones go first."""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.leaderboard.board import BETTER, UNSURE, UNTESTED, WORSE, Difference, SubjectDifference
from workbench.leaderboard.page.plain import page_value, rounded

VERDICTS = (UNSURE, BETTER, WORSE, UNTESTED)

MOST = 40_000
"""Largest number of differences on a page; all are in differences.csv."""

NUMBERS = ("value", "low", "high", "p_value", "p_adjusted", "detectable")
COUNTS = ("num_pairs", "num_clusters", "gained", "lost")


def packed_differences(
    differences: Sequence[Difference], models: Mapping[str, int], columns: Mapping[str, int]
) -> dict[str, Any]:
    """Return differences as one list per field, at most `MOST`, and their `total` number.

    Differences of other models or columns than those in the mappings are left out.

    Args:
        differences: The differences.
        models: Key of a model -> its index on the page.
        columns: Key of a column, or name of a mean -> its index on the page.
    """
    known = [
        difference
        for difference in differences
        if difference.first in models and difference.second in models and difference.column in columns
    ]
    kept = _first_with_verdict(known)
    tests = list(dict.fromkeys(difference.test for difference in kept))
    problems = list(dict.fromkeys(difference.problem for difference in kept))
    return {
        "total": len(differences),
        "first": [models[difference.first] for difference in kept],
        "second": [models[difference.second] for difference in kept],
        "column": [columns[difference.column] for difference in kept],
        **{name: [rounded(getattr(difference, name)) for difference in kept] for name in NUMBERS},
        **{name: [getattr(difference, name) for difference in kept] for name in COUNTS},
        "family": [difference.family for difference in kept],
        "verdict": [VERDICTS.index(difference.verdict) for difference in kept],
        "test": [tests.index(difference.test) for difference in kept],
        "problem": [problems.index(difference.problem) for difference in kept],
        "tests": page_value(tests),
        "problems": page_value(problems),
    }


def packed_subjects(
    differences: Sequence[SubjectDifference], models: Mapping[str, int], columns: Mapping[str, int]
) -> dict[str, Any]:
    """Return tested differences in subjects as one list per field, at most `MOST`, and their `total` number.

    Args:
        differences: The differences.
        models: Key of a model -> its index on the page.
        columns: Key of a column -> its index on the page.
    """
    kept = _first_with_verdict(differences)
    names = list(dict.fromkeys(difference.subject for difference in kept))
    code = {name: number for number, name in enumerate(names)}
    numbers = ("value", "low", "high", "p_adjusted", "detectable")
    return {
        "total": len(differences),
        "first": [models[difference.first] for difference in kept],
        "second": [models[difference.second] for difference in kept],
        "column": [columns[difference.column] for difference in kept],
        "subject": [code[difference.subject] for difference in kept],
        "is_group": [int(difference.is_group) for difference in kept],
        "num_pairs": [difference.num_pairs for difference in kept],
        **{name: [rounded(getattr(difference, name)) for difference in kept] for name in numbers},
        "verdict": [VERDICTS.index(difference.verdict) for difference in kept],
        "subject_names": page_value(names),
    }


def _first_with_verdict(differences: Sequence[Any]) -> list[Any]:
    """Return at most `MOST` differences; if there are more, those judged better or worse come first."""
    if len(differences) <= MOST:
        return list(differences)
    return sorted(differences, key=lambda difference: difference.verdict not in (BETTER, WORSE))[:MOST]
