"""Chooses the setting of a search with the largest gain whose loss on the guard benchmarks is small."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.statistics.means import Column, compare_means
from workbench.statistics.non_inferiority import most_lost
from workbench.statistics.paired import PairedTest

Factors = tuple[float, ...]
"""A setting of the search: a factor on the weight of each adapter."""
Values = Mapping[str, Sequence[float]]
"""Benchmark -> score of each item; higher is better."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """Cluster and subset of each item in one half of a benchmark."""

    clusters: list[str] | None
    """None: the benchmark has no clusters."""
    subsets: list[str] | None
    """None: the benchmark's score isn't the mean over subsets."""

    def column(self, first: Sequence[float], second: Sequence[float]) -> Column:
        """Return two settings' scores of these items as a column of pairs, for a paired comparison."""
        return Column(first=first, second=second, clusters=self.clusters, subsets=self.subsets)


@dataclass(frozen=True, kw_only=True)
class JudgedSetting:
    """One setting's gain over the base, and an upper bound of its loss on the guard set (`most_lost`)."""

    factors: Factors
    gain: float
    """Mean over benchmarks of the setting's score less the base's, as a share."""
    low: float
    high: float
    """`low` to `high` is the 95% interval of the gain; NaN where too few items differ."""
    guard_gain: float | None
    """Gain on the guard set; None if there is no guard set."""
    guard_low: float
    guard_high: float
    """`guard_low` to `guard_high` is the 95% interval of the guard's gain; NaN without it."""
    most_lost: float | None
    """Upper bound of the loss on the guard set, one-sided with 95% confidence; None: no guard set."""


def judge(
    factors: Factors, values: Values, base: Values, items: Mapping[str, Items], guard: Sequence[str]
) -> JudgedSetting:
    """Compare a setting with the base on one half of the items.

    Args:
        factors: The setting.
        values: The setting's item scores.
        base: The base's item scores on the same items.
        items: Benchmark -> clusters and subsets of these items.
        guard: Benchmarks whose loss is bounded; the others give the gain.

    Raises:
        DataError: Guessing is always right on a benchmark, or the scores can't be compared.
    """
    gain = compare_means(columns(base, values, items, [name for name in items if name not in guard]))
    on_guard = columns(base, values, items, guard)
    guarded = compare_means(on_guard) if on_guard else None
    return JudgedSetting(
        factors=factors,
        gain=gain.difference,
        low=gain.low,
        high=gain.high,
        guard_gain=guarded.difference if guarded else None,
        guard_low=guarded.low if guarded else math.nan,
        guard_high=guarded.high if guarded else math.nan,
        most_lost=most_lost(on_guard) if on_guard else None,
    )


def columns(first: Values, second: Values, items: Mapping[str, Items], names: Sequence[str]) -> list[Column]:
    """Return two settings' item scores as pairs, one column for each benchmark in `names`.

    `items` has the clusters and subsets of these items.
    """
    return [items[name].column(first[name], second[name]) for name in names]


def is_safe(setting: JudgedSetting, margin: float) -> bool:
    """Return whether the upper bound of a setting's loss on the guard set is below the margin.

    True if there is no guard set.
    """
    return setting.most_lost is None or setting.most_lost < margin


def best(settings: Sequence[JudgedSetting], margin: float) -> JudgedSetting | None:
    """Return the setting with the largest gain among those that are safe (`is_safe`); None if none is.

    Of equal gains, the one with the smallest sum of absolute factors. The base (all factors 0) isn't a
    candidate.
    """
    safe = [setting for setting in settings if any(setting.factors) and is_safe(setting, margin)]
    return max(safe, key=lambda setting: (setting.gain, -sum(map(abs, setting.factors))), default=None)


def compare(first: Values, second: Values, items: Mapping[str, Items], guard: Sequence[str]) -> PairedTest:
    """Test the gain of a second setting over a first one, on the benchmarks that aren't in `guard`.

    Args:
        first: Item scores of the first setting.
        second: Item scores of the second setting.
        items: Benchmark -> clusters and subsets of these items.
        guard: Benchmarks of the guard set.

    Raises:
        DataError: Guessing is always right on a benchmark, or the scores can't be compared.
    """
    return compare_means(columns(first, second, items, [name for name in items if name not in guard]))
