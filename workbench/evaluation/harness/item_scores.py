"""What an item scores in a metric of lm-evaluation-harness, and totals that no number can hold."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

from workbench.evaluation.records import ITEM_ALONE

Combine = Callable[[list[Any]], float]


def item_score(value: Any, combine: Combine) -> float | None:
    """The score of one item, given what the metric gave for it; None where there is none.

    A number is the score, of a log-likelihood with its weight the first; of two labels (F1, Matthews
    correlation) it is 1 where they are equal; of anything else (BLEU, chrF, Brier) the metric of this item
    alone.

    Args:
        value: what the metric gave for the item.
        combine: the metric's score of several items.
    """
    if (number := _number(value)) is not None:
        return number if math.isfinite(number) else None
    if _are_labels(value):
        return float(value[0] == value[1])
    try:
        alone = float(combine([value]))
    except (TypeError, ValueError, LookupError, ArithmeticError):
        return None
    return alone if math.isfinite(alone) else None


def meaning(name: str, values: Sequence[Any]) -> str:
    """What `item_score` gives, in words, for a metric whose score is not the mean of its items."""
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
    """Make a total that is more than a number can hold infinite, where the harness would end in an error."""
    combined: Mapping[str, Combine] = task.aggregation()
    bounded = {name: partial(_bounded, combine=combine) for name, combine in combined.items()}
    task.aggregation = lambda: bounded


def _bounded(items: list[Any], combine: Combine) -> float:
    try:
        return combine(items)
    except OverflowError:
        return math.inf
