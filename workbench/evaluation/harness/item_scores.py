"""Names and scores items in metrics of lm-evaluation-harness, and guards totals against overflow."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

from workbench.evaluation.records import ITEM_ALONE

NO_FILTER = "none"
"""Name of the harness's filter that changes nothing."""
Combine = Callable[[list[Any]], float]


def item_id(subset: str, row: int) -> str:
    """Return the id of an item: `TASK/ROW` in a group of tasks, else the row's index."""
    return f"{subset}/{row}" if subset else str(row)


def with_filter(metric: str, filter_name: str) -> str:
    """Return `METRIC,FILTER`, as in the harness; only `METRIC` for the filter `none`."""
    return metric if filter_name == NO_FILTER else f"{metric},{filter_name}"


def item_score(value: Any, combine: Combine) -> float | None:
    """Return the score of one item, given the value that the harness's metric stores for the item.

    A number is the score itself. For a log-likelihood with a weight, the score is the log-likelihood; for two
    labels (F1, Matthews correlation), it is 1 if they are equal, else 0; for any other value (BLEU, chrF,
    Brier), it is the metric computed from this item alone. None: no finite score can be computed.

    Args:
        value: the value that the metric stores for the item.
        combine: computes the metric's score from the values of several items.
    """
    if (number := _number(value)) is not None:
        return number if math.isfinite(number) else None
    if _are_labels(value):
        return float(value[0] == value[1])
    try:
        score = float(combine([value]))
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return None
    return score if math.isfinite(score) else None


def meaning(name: str, values: Sequence[Any]) -> str:
    """Describe in words the scores that `item_score` returns, for a metric that is not their mean.

    `values` are the values that the metric stores for the items.
    """
    first = values[0] if values else None
    if _number(first) is not None:
        return "the item's log-likelihood, in nats"
    return "1 where the label is right, else 0" if _are_labels(first) else f"{name} {ITEM_ALONE}"


def _number(value: Any) -> float | None:
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], float):
        value = value[0]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _are_labels(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(label, Integral) for label in value)
    )


def bound_totals(task: Any) -> None:
    """Make an overflow in the functions that compute a task's scores from its items give infinity.

    The method `aggregation` of the task is replaced.
    """
    aggregations: Mapping[str, Combine] = task.aggregation()
    bounded = {name: partial(_bounded, combine=combine) for name, combine in aggregations.items()}
    task.aggregation = lambda: bounded


def _bounded(items: list[Any], combine: Combine) -> float:
    try:
        return combine(items)
    except OverflowError:
        return math.inf
