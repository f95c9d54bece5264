"""Checks the values of fields read from files of answers or predictions, and lists those of predictions."""

from collections.abc import Callable

Check = Callable[[object], bool]

LARGEST = 1e100
"""Upper bound of the absolute value of a score."""


def is_text(value: object) -> bool:
    """Return whether the value is a text."""
    return isinstance(value, str)


def is_text_or_none(value: object) -> bool:
    """Return whether the value is a text or null."""
    return value is None or isinstance(value, str)


def is_bool(value: object) -> bool:
    """Return whether the value is true or false."""
    return isinstance(value, bool)


def is_bool_or_none(value: object) -> bool:
    """Return whether the value is true, false or null."""
    return value is None or isinstance(value, bool)


def is_count(value: object) -> bool:
    """Return whether the value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_likelihood(value: object) -> bool:
    """Return whether the value is a number or an infinity, but not NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def is_score(value: object) -> bool:
    """Return whether the value is a number with an absolute value below `LARGEST`."""
    return isinstance(value, int | float) and is_likelihood(value) and abs(value) < LARGEST


def is_answer(value: object) -> bool:
    """Return whether the value is the index of a choice or a text."""
    return isinstance(value, int | str)


def is_answer_or_none(value: object) -> bool:
    """Return whether the value is the index of a choice, a text or null."""
    return value is None or is_answer(value)


def list_of(is_valid: Check) -> Check:
    """Return the check of a list whose entries all pass `is_valid`."""
    return lambda value: isinstance(value, list) and all(map(is_valid, value))


def is_target(value: object) -> bool:
    """Return whether the value is an answer (a text or the index of a choice) or a list of answers."""
    return is_answer(value) or list_of(is_answer)(value)


def are_scores(value: object) -> bool:
    """Return whether the value maps metrics to scores."""
    return isinstance(value, dict) and all(map(is_score, value.values()))


def is_sample(value: object) -> bool:
    """Return whether the value is one of several answers to an item: text, prediction and scores."""
    return (
        isinstance(value, dict)
        and is_text_or_none(value.get("generation"))
        and is_answer_or_none(value.get("prediction"))
        and are_scores(value.get("scores"))
    )


PREDICTION_TYPES: dict[str, Check] = {
    "id": is_text,
    "subset": is_text,
    "prompt_hash": is_text,
    "context": is_text,
    "choices": list_of(is_text),
    "loglikelihoods": list_of(is_likelihood),
    "generation": is_text_or_none,
    "prediction": is_answer_or_none,
    "target": is_target,
    "scores": are_scores,
    "num_shots_dropped": is_count,
    "cluster": is_text,
    "finish_reason": is_text_or_none,
    "thought_cut": is_bool,
    "samples": list_of(is_sample),
}
"""Field of a prediction -> check of its value."""
LATER = ("cluster", "finish_reason", "thought_cut", "samples")
"""Fields of a prediction that earlier versions didn't have; they aren't written where they are empty."""
