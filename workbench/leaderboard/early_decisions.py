"""Reads compare.json of comparisons that could stop early: two models, and the decision on each benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.errors import DataError
from workbench.evaluation.metric_directions import lower_is_better
from workbench.files import read_json
from workbench.leaderboard.board import BETTER, WORSE, EarlyDecision, Model, Skipped
from workbench.leaderboard.checks import shown
from workbench.leaderboard.run_files import files_below
from workbench.run_record import DIGEST, self_digest
from workbench.shown import in_one_line, message, message_of
from workbench.statistics.sequential import UNDECIDED, WITHIN_MARGIN

COMPARE_JSON = "compare.json"
VERDICTS = (BETTER, WORSE, WITHIN_MARGIN, UNDECIDED)
IDENTITY = ("weights", "adapter", "quantization")
"""Facts that must be equal for a model of compare.json to be a row of the board."""
NOT_A_COMPARISON = message("not a comparison of two models")


@dataclass(frozen=True)
class EarlyComparison:
    """Contents of one compare.json: facts of its two models, and a decision for each benchmark."""

    sides: tuple[dict[str, Any], dict[str, Any]]
    """Facts of the first and of the second model: model (its name), weights, adapter, quantization, ..."""
    decisions: list[EarlyDecision]
    """Decisions, still without the keys of the models' rows."""


def comparisons_below(folder: Path) -> tuple[list[EarlyComparison], list[Skipped]]:
    """Read the compare.json files below a folder whose comparison could stop early.

    Returns:
        The comparisons, and the compare.json files that can't be read or were changed. A compare.json of two
        finished results is in neither list.
    """
    found: list[EarlyComparison] = []
    skipped: list[Skipped] = []
    for path in files_below(folder, COMPARE_JSON):
        name = path.relative_to(folder).as_posix()
        try:
            values = read_json(path)
            if not _is_of_results(values):
                found.append(_comparison(values, name))
        except (DataError, OSError, ValueError) as error:
            skipped.append(Skipped(path=name, reason=in_one_line(message_of(error))))
    return found, skipped


def decisions_on(comparisons: Sequence[EarlyComparison], models: Sequence[Model]) -> list[EarlyDecision]:
    """Return copies of all comparisons' decisions that name the rows of their models.

    The key is empty if no row, or more than one, has the model's weights, adapter and quantization.
    """
    return [
        replace(decision, first=first, second=second)
        for comparison in comparisons
        for first, second in [[_row_of(side, models) for side in comparison.sides]]
        for decision in comparison.decisions
    ]


def _is_of_results(values: Any) -> bool:
    """Return whether a compare.json is of finished results, so that the comparison could not stop early."""
    return isinstance(values, dict) and "until" not in values and "comparisons" in values


def _comparison(values: Any, source: str) -> EarlyComparison:
    """Check the contents of one compare.json and return the comparison; `source` is the file's path.

    Raises:
        DataError: The contents are not what recipe=compare writes.
    """
    if isinstance(values, dict) and DIGEST in values and values[DIGEST] != self_digest(values):
        raise DataError(message("{file}: was changed since it was written", file=COMPARE_JSON))
    first, second = ((values.get(side) if isinstance(values, dict) else None) for side in ("a", "b"))
    if not isinstance(first, dict) or not isinstance(second, dict):
        raise DataError(NOT_A_COMPARISON)
    if not isinstance(values.get("decisions"), list):
        raise DataError(NOT_A_COMPARISON)
    shared = {
        "first": "",
        "second": "",
        "first_name": _text(first, "model"),
        "second_name": _text(second, "model"),
        "alpha": _number(values, "alpha_each"),
        "margin": None if values.get("margin") is None else _number(values, "margin"),
        "seed": _count(values, "seed"),
        "source": source,
    }
    return EarlyComparison((first, second), [_decision(each, shared) for each in values["decisions"]])


def _decision(values: Any, shared: dict[str, Any]) -> EarlyDecision:
    """Check one entry of compare.json's `decisions` and return the decision; `shared` has its other fields.

    Raises:
        DataError: A value is missing or impossible.
    """
    if not isinstance(values, dict) or values.get("verdict") not in VERDICTS:
        raise DataError(NOT_A_COMPARISON)
    decision = EarlyDecision(
        **shared,
        benchmark=_text(values, "benchmark"),
        metric=_text(values, "metric"),
        difference=_number(values, "difference"),
        verdict=values["verdict"],
        num_decided=_count(values, "num_decided"),
        num_asked=_count(values, "num_asked"),
        num_total=_count(values, "num_total"),
    )
    if not decision.num_decided <= decision.num_asked <= decision.num_total:
        raise _wrong("num_asked", decision.num_asked)
    sign = -decision.difference if lower_is_better(decision.metric) else decision.difference
    if {BETTER: sign < 0, WORSE: sign > 0}.get(decision.verdict):
        raise _wrong("verdict", decision.verdict)
    return decision


def _row_of(side: dict[str, Any], models: Sequence[Model]) -> str:
    """Return the key of the row with the weights, adapter and quantization of one model in a compare.json.

    Empty if no row or more than one has them.
    """
    if not side.get("weights"):
        return ""
    same = [model for model in models if all(model.facts.get(key) == side.get(key) for key in IDENTITY)]
    return same[0].key if len(same) == 1 else ""


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise _wrong(key, value)
    return value


def _number(values: dict[str, Any], key: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1:
        raise _wrong(key, value)
    return float(value)


def _count(values: dict[str, Any], key: str) -> int:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(key, value)
    return value


def _wrong(key: str, value: object) -> DataError:
    return DataError(message("{key} is {value}", key=key, value=shown(value)))
