"""Whether what a run's files say can be shown: every field holds what its name says, in bounds."""

from typing import Any

from workbench.errors import DataError
from workbench.evaluation.records import Score

TEXTS = ("model", "benchmark", "language", "metric", "protocol", "prompts", "average", "rule", "note")

LARGEST = 1e100
"""Numbers beyond it are no scores, and their squares no numbers."""

DEEPEST = 5
"""Levels of objects below which nothing measured is looked for."""


def check_score(score: Score, where: str) -> None:
    """Refuse a score whose fields don't hold what their names say.

    Raises:
        DataError: names the field and its value; `where` stands before it.
    """
    for name in TEXTS:
        if not isinstance(getattr(score, name), str):
            raise DataError(f"{where}: {name} is {shown(getattr(score, name))} (a text)")
    if not isinstance(score.letters, dict):
        raise DataError(f"{where}: letters are {shown(score.letters)} (letter: count)")
    if score.interval is not None and (not isinstance(score.interval, list) or len(score.interval) != 2):
        raise DataError(f"{where}: interval is {shown(score.interval)} (two numbers, or null)")
    for parts in (score.subsets, score.groups):
        if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
            raise DataError(f"{where}: subsets or groups are {shown(parts)} (name: value and num_items)")
    for name, value in _numbers(score).items():
        if not _is_number(value):
            raise DataError(f"{where}: {name} is {shown(value)} (a number)")
    for name, value in _counts(score).items():
        if not isinstance(value, int) or value < 0:
            raise DataError(f"{where}: {name} is {shown(value)} (a whole number, 0 or more)")
    if not 0 < score.confidence < 1:
        raise DataError(f"{where}: confidence is {shown(score.confidence)} (between 0 and 1)")


def _numbers(score: Score) -> dict[str, Any]:
    """Every number of a score, by its field's name."""
    numbers: dict[str, Any] = {"value": score.value, "confidence": score.confidence, **_counts(score)}
    optional = {"stderr": score.stderr, "chance": score.chance, "majority": score.majority}
    numbers |= {name: value for name, value in optional.items() if value is not None}
    if score.interval is not None:
        numbers |= {"interval": score.interval[0], "interval's end": score.interval[1]}
    for parts in (score.subsets, score.groups):
        numbers |= {f"{name}.value": part.get("value") for name, part in parts.items()}
    return numbers


def _counts(score: Score) -> dict[str, Any]:
    """Every whole number of a score, by its field's name."""
    counts: dict[str, Any] = {
        "num_items": score.num_items,
        "num_fewshot": score.num_fewshot,
        "permutations": score.permutations,
        "num_shots_dropped": score.num_shots_dropped,
    }
    counts |= {f"letters.{letter}": count for letter, count in score.letters.items()}
    for parts in (score.subsets, score.groups):
        counts |= {f"{name}.num_items": part.get("num_items") for name, part in parts.items()}
    return counts


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -LARGEST <= value <= LARGEST  # which is false of NaN


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def sound_facts(value: Any, depth: int = 0) -> dict[str, Any]:
    """What of a JSON object can be shown: texts, and numbers that are finite, some levels deep."""
    facts: dict[str, Any] = {}
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            if depth < DEEPEST:
                facts[name] = sound_facts(inner, depth + 1)
        elif inner is None or isinstance(inner, str | bool) or _is_number(inner):
            facts[name] = inner
    return facts
