"""Writes the whole board as JSON, except the scores of single items, which are in items.parquet."""

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from workbench.leaderboard.board import Board, Outcomes
from workbench.shown import clean

SCHEMA_VERSION = 2


def text(board: Board) -> str:
    """Return the contents of leaderboard.json: one line per model, column, cell, difference and so on."""
    values = {"schema_version": SCHEMA_VERSION}
    values |= json_value(board)
    return "{\n" + ",\n".join(f"{dumps(name)}: {_lines(value)}" for name, value in values.items()) + "\n}\n"


def json_value(value: Any) -> Any:
    """Convert a value of the board to JSON values; dataclasses become objects, NaN and infinity None.

    Texts are cleaned by `shown.clean`. `Outcomes` lose the scores of their items.
    """
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
        return {name: json_value(entry) for name, entry in vars(value).items()}
    if isinstance(value, Mapping):
        return {clean(str(key)): json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    return json_value(value.item()) if hasattr(value, "item") else clean(str(value))


def _without_items(outcomes: Outcomes) -> dict[str, Any]:
    """Return a column's outcomes without item scores: keys of models, number of items and of clusters."""
    return {
        "models": list(outcomes.models),
        "num_items": len(outcomes.ids),
        "num_clusters": len(set(outcomes.clusters.tolist())),
    }


def _lines(value: Any) -> str:
    """Format a value as JSON text with one line per entry of the outermost list or object."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(dumps, value)) + "\n]"
    if isinstance(value, dict) and value:
        entries = (f"{dumps(key)}: {dumps(entry)}" for key, entry in value.items())
        return "{\n" + ",\n".join(entries) + "\n}"
    return dumps(value)


def dumps(value: Any) -> str:
    """Format a value as JSON text on one line; NaN is an error."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
