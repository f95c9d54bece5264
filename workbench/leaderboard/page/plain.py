"""Converts a board's values into JSON values whose texts have no control characters."""

import math
from typing import Any

import numpy as np

from workbench.shown import Message, clean

DIGITS = 6
"""Significant digits of a number on the page."""

DEEPEST = 8
"""Nesting level below which values are converted to text."""


def page_value(value: Any, depth: int = 0) -> Any:
    """Convert a value to JSON: strings, numbers, lists and objects; NaN and infinity become None.

    A translatable message becomes a list of its English text, its template and its values. Lists and objects
    nested more deeply than `DEEPEST`, and values of other types, become texts.
    """
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return rounded(float(value))
    if isinstance(value, Message):
        return [clean(value), value.template, page_value(value.values, depth + 1)]
    if isinstance(value, dict) and depth < DEEPEST:
        return {clean(str(name)): page_value(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple) and depth < DEEPEST:
        return [page_value(inner, depth + 1) for inner in value]
    return clean(str(value))


def rounded(value: float | None) -> float | int | None:
    """Return a number with six significant digits, a whole one as int; None if it is None or not finite."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def column_of(values: Any) -> list[float | int | None]:
    """Return numbers with six significant digits each; None for those that aren't finite."""
    return [rounded(value) for value in values]


def shortened(text: str, longest: int) -> str:
    """Cut the start of a text longer than `longest` characters, and write how many are cut in its place."""
    if len(text) > longest:
        text = f"… ({len(text) - longest:,})\n{text[-longest:]}"
    return clean(text)
