"""Computes scores from imported items, and checks them against the totals that the other tool reports."""

import math
from collections.abc import Sequence
from typing import Any

from workbench.evaluation.records import Score, prompt_hash
from workbench.leaderboard.imported_items import ImportedItems
from workbench.leaderboard.items.answers import imported_items
from workbench.leaderboard.items.metric_kinds import MetricKind, kind_of, recomputed
from workbench.statistics import intervals

TOLERANCE = 1e-6
"""Relative difference between a reported mean and that of the items that counts as rounding."""


def contradiction(items: ImportedItems, metric: str, reported: Any, average: str) -> str:
    """Return a message if a reported mean differs from the items' mean (`averaged`); else an empty text.

    Empty also for a metric that isn't a mean, and if `reported` is not a number.
    """
    if not isinstance(reported, int | float) or metric in items.meanings:
        return ""
    return _difference(metric, reported, averaged(items, metric, average))


def contradiction_jointly(items: ImportedItems, score: Score) -> str:
    """Return a message if a score's value, reported by the tool, differs from that recomputed from the items.

    Empty if it doesn't differ, and for a metric that is a mean or that only the tool can compute.
    """
    if kind_of(score) not in (MetricKind.labels, MetricKind.ratio):
        return ""
    value = recomputed(imported_items(items, score.metric, score.benchmark), score)
    return "" if value is None else _difference(score.metric, score.value, value)


def _difference(metric: str, reported: float, value: float) -> str:
    if math.isclose(value, reported, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return ""
    return f"the results say {metric} {reported:.6g}, the items {value:.6g}"


def averaged(items: ImportedItems, metric: str, average: str) -> float:
    """Return the mean of the items' scores (micro), or of the subsets' means (macro)."""
    if average == "micro":
        return intervals.mean(items.values[metric])
    return intervals.mean([intervals.mean(values) for values in by_subset(items, metric).values()])


def by_subset(items: ImportedItems, metric: str) -> dict[str, list[float]]:
    """Return subset -> scores of its items in a metric."""
    parts: dict[str, list[float]] = {}
    for subset, value in zip(items.subsets, items.values[metric], strict=True):
        parts.setdefault(subset, []).append(value)
    return parts


def score_of(
    items: ImportedItems, metric: str, reported: float | None = None, average: str = "micro", **facts: Any
) -> Score:
    """Return the score of a model in one metric: the mean of its items, with error and interval.

    A metric that isn't a mean has the value `reported`, without an error; without `reported`, the mean.

    Args:
        items: The model's items.
        metric: Name of the metric.
        reported: The total that the tool reports; not used if the metric is the mean of its items.
        average: micro or macro.
        facts: Further fields of `Score`: model, benchmark, language, num_fewshot, protocol, ...
    """
    is_mean = metric not in items.meanings
    parts = by_subset(items, metric) if average == "macro" else {"": items.values[metric]}
    stderr, interval = intervals.error_and_interval(parts, items.clusters) if is_mean else (None, None)
    value = averaged(items, metric, average) if is_mean or reported is None else float(reported)
    return Score(
        metric=metric,
        value=value,
        stderr=stderr,
        interval=list(interval) if interval else None,
        num_items=len(items.ids),
        prompts=prompt_hash(items.prompts),
        chance=_chance(items.num_choices) if metric.startswith("acc") else None,
        average=average,
        subsets=_subsets(items, metric) if is_mean else {},
        item_score=items.meanings.get(metric, ""),
        **facts,
    )


def _chance(num_choices: Sequence[int]) -> float | None:
    """Return the expected score of guessing among the choices; None if an item has fewer than two choices."""
    if not num_choices or min(num_choices) < 2:
        return None
    return intervals.mean([1 / count for count in num_choices])


def _subsets(items: ImportedItems, metric: str) -> dict[str, dict[str, float]]:
    return {
        subset: {"value": intervals.mean(values), "num_items": len(values)}
        for subset, values in by_subset(items, metric).items()
        if subset
    }
