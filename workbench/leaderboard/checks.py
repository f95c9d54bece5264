"""Checks types and bounds of the values in a run's files before the leaderboard shows them."""

from typing import Any, TypeGuard

from workbench.errors import DataError
from workbench.evaluation.records import Score

TEXTS = (
    "model",
    "benchmark",
    "language",
    "metric",
    "protocol",
    "prompts",
    "average",
    "rule",
    "note",
    "item_score",
)

LARGEST = 1e100
"""Numbers beyond this are not accepted as scores, since their squares overflow."""

DEEPEST = 5
"""Nesting level of a JSON object below which values are dropped."""


def check_score(score: Score, where: str) -> None:
    """Check the types and bounds of a score's fields.

    Raises:
        DataError: A field is wrong; the message starts with `where`.
    """
    for name in TEXTS:
        if not isinstance(getattr(score, name), str):
            raise DataError(f"{where}: {name} is {shown(getattr(score, name))} (text)")
    for name in ("letters", "texts"):
        if not isinstance(getattr(score, name), dict):
            raise DataError(f"{where}: {name} are {shown(getattr(score, name))} (name: count)")
    if score.interval is not None and (not isinstance(score.interval, list) or len(score.interval) != 2):
        raise DataError(f"{where}: interval is {shown(score.interval)} (two numbers, or null)")
    for subsets in (score.subsets, score.groups):
        if not isinstance(subsets, dict) or not all(isinstance(facts, dict) for facts in subsets.values()):
            raise DataError(f"{where}: subsets or groups are {shown(subsets)} (name: value and num_items)")
    members = score.group_members
    if not isinstance(members, dict) or not all(are_texts(names) for names in members.values()):
        raise DataError(f"{where}: group_members are {shown(members)} (group: its subsets)")
    for name, value in _numbers(score).items():
        if not _is_number(value):
            raise DataError(f"{where}: {name} is {shown(value)} (a number)")
    for name, value in _counts(score).items():
        if not isinstance(value, int) or value < 0:
            raise DataError(f"{where}: {name} is {shown(value)} (an integer, 0 or more)")
    if score.higher_is_better not in (None, True, False):
        raise DataError(
            f"{where}: higher_is_better is {shown(score.higher_is_better)} (true, false, or null)"
        )
    if not 0 < score.confidence < 1:
        raise DataError(f"{where}: confidence is {shown(score.confidence)} (between 0 and 1)")


def _numbers(score: Score) -> dict[str, Any]:
    """Return the numbers of a score by name, as {"value": 0.5, "physics.value": 0.4, ...}, without None."""
    numbers: dict[str, Any] = {"value": score.value, "confidence": score.confidence, **_counts(score)}
    optional = {"stderr": score.stderr, "chance": score.chance, "majority": score.majority}
    numbers |= {name: value for name, value in optional.items() if value is not None}
    if score.interval is not None:
        numbers |= {"lower end of interval": score.interval[0], "upper end of interval": score.interval[1]}
    for subsets in (score.subsets, score.groups):
        numbers |= {f"{name}.value": facts.get("value") for name, facts in subsets.items()}
    return numbers


def _counts(score: Score) -> dict[str, Any]:
    """Return the integer fields of a score, as {"num_items": 100, "letters.A": 25, ...}."""
    counts: dict[str, Any] = {
        "num_items": score.num_items,
        "num_fewshot": score.num_fewshot,
        "permutations": score.permutations,
        "num_shots_dropped": score.num_shots_dropped,
        "num_truncated": score.num_truncated,
        "num_skipped": score.num_skipped,
        "num_samples": score.num_samples,
    }
    counts |= {} if score.num_total is None else {"num_total": score.num_total}
    counts |= {f"letters.{letter}": count for letter, count in score.letters.items()}
    counts |= {f"texts.{name}": count for name, count in score.texts.items()}
    for subsets in (score.subsets, score.groups):
        counts |= {f"{name}.num_items": facts.get("num_items") for name, facts in subsets.items()}
    return counts


def are_texts(values: object) -> TypeGuard[list[str]]:
    """Return whether a JSON value is a list of texts."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -LARGEST <= value <= LARGEST  # false for NaN


def shown(value: object) -> str:
    """Return a value's repr for an error message, truncated to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def sound_facts(value: Any, depth: int = 0) -> dict[str, Any]:
    """Return a copy of a JSON object without lists, without NaN and too large numbers, to a bounded depth.

    Objects more than `DEEPEST` levels down are left out. A value that isn't an object gives an empty copy.
    """
    facts: dict[str, Any] = {}
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            if depth < DEEPEST:
                facts[name] = sound_facts(inner, depth + 1)
        elif inner is None or isinstance(inner, str | bool) or _is_number(inner):
            facts[name] = inner
    return facts
