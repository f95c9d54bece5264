"""Whether a value read from a file of answers or predictions can stand in its field."""

from collections.abc import Callable

Check = Callable[[object], bool]

LARGEST = 1e100
"""Scores are smaller than that."""


def is_text(value: object) -> bool:
    """Whether the value is a text."""
    return isinstance(value, str)


def is_text_or_none(value: object) -> bool:
    """Whether the value is a text or null."""
    return value is None or isinstance(value, str)


def is_truth(value: object) -> bool:
    """Whether the value is true or false."""
    return isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether the value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_likelihood(value: object) -> bool:
    """Whether the value is a number, minus infinity included."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def is_score(value: object) -> bool:
    """Whether the value is a finite number of a score's size."""
    return isinstance(value, int | float) and is_likelihood(value) and abs(value) < LARGEST


def is_answer(value: object) -> bool:
    """Whether the value is a choice's number or a text."""
    return isinstance(value, int | str)


def is_answer_or_none(value: object) -> bool:
    """Whether the value is a choice's number, a text or null."""
    return value is None or is_answer(value)


def list_of(is_valid: Check) -> Check:
    """The check of a list whose entries all pass `is_valid`."""
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def is_target(value: object) -> bool:
    """Whether the value is an answer or a list of answers."""
    return is_answer(value) or list_of(is_answer)(value)


def are_scores(value: object) -> bool:
    """Whether the value maps metrics to scores."""
    return isinstance(value, dict) and all(map(is_score, value.values()))
