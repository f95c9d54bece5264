"""Tests what a fine-tuned model lost on the benchmarks that it wasn't trained for."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from workbench.statistics.means import Column, compare_means
from workbench.statistics.paired import PairedTest


def compare_forgetting(
    columns: Mapping[str, Column], trained_for: Collection[str], *, alpha: float = 0.01
) -> PairedTest | None:
    """Test the equal-weight mean of the differences over all benchmarks that a model wasn't trained for.

    Args:
        columns: Benchmark -> scores of the parent (first) and of its child (second).
        trained_for: Benchmarks that the child was trained for, declared before looking at scores.
        alpha: Level of the test.

    Returns:
        The test, below 0 if the child is worse; None if nothing is declared or no other benchmark is left.
    """
    others = [replace(column, chance=0.0) for name, column in columns.items() if name not in trained_for]
    return compare_means(others, alpha=alpha) if trained_for and others else None
