"""Writes the whole board as JSON, except the scores of single items, which items.parquet has."""

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from workbench.leaderboard.board import Board, Outcomes
from workbench.shown import clean

SCHEMA_VERSION = 2


def text(board: Board) -> str:
    """Return leaderboard.json, with one line for each model, column, cell, difference, ..."""
    values = {"schema_version": SCHEMA_VERSION}
    values |= plain(board)
    return "{\n" + ",\n".join(f"{_dumps(name)}: {_lines(value)}" for name, value in values.items()) + "\n}\n"


def plain(value: Any) -> Any:
    """Return a value of the board as JSON has it: texts cleaned, numbers that aren't finite as None."""
    kind = type(value)
    if kind is str:
        return clean(value)
    if kind is float:  # these two first: most values are
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Outcomes):
        return _without_items(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(entry) for name, entry in vars(value).items()}
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return plain(value.item()) if hasattr(value, "item") else clean(str(value))


def _without_items(outcomes: Outcomes) -> dict[str, Any]:
    """Return which models have item scores in a column, and of how many items and clusters."""
    return {
        "models": list(outcomes.models),
        "num_items": len(outcomes.ids),
        "num_clusters": len(set(outcomes.clusters.tolist())),
    }


def _lines(value: Any) -> str:
    """Return a JSON value with one line for each entry of a list or an object."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_dumps, value)) + "\n]"
    if isinstance(value, dict) and value:
        entries = (f"{_dumps(key)}: {_dumps(entry)}" for key, entry in value.items())
        return "{\n" + ",\n".join(entries) + "\n}"
    return _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
