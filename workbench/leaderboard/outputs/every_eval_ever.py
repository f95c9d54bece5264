"""Writes one record per model in the JSON format of Every Eval Ever, with intervals.

Source: every-eval-ever 0.3.0, schemas/eval.schema.json; folders as its datastore has them.
"""

import hashlib
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.evaluation.records import Score
from workbench.files import write_if_other
from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Cell, Column, Model
from workbench.leaderboard.outputs.board_json import dumps
from workbench.leaderboard.outputs.texts import one_line

SCHEMA_VERSION = "0.3.0"
COLLECTION = "open-llama-workbench"
FOLDER = Path("every_eval_ever", "data", COLLECTION)
UNKNOWN = "unknown"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
OURS = (ADAPTER, MERGED, TRAINED)
"""Roles of models that whoever scored them also made."""


def write(board: Board, folder: Path) -> None:
    """Write a record per scored model below `folder`, in `FOLDER`, and delete all other records there."""
    root = folder / FOLDER
    cells_of: dict[str, list[Cell]] = {}
    for cell in board.cells:
        cells_of.setdefault(cell.model, []).append(cell)
    paths = set()
    for model in board.models:
        if cells := cells_of.get(model.key):
            values = record(board, model, cells)
            text = _text(values)
            path = root / values["model_info"]["id"] / f"{_uuid(text)}.json"
            write_if_other(path, text)
            paths.add(path)
    halves = root.glob("*/*/.*.json.????????")  # of a killed process
    for path in {*root.glob("*/*/*.json"), *halves} - paths:
        path.unlink()
        _remove_empty(path.parent, root)


def _text(values: dict[str, Any]) -> str:
    """Format a record as JSON with one line per key and per result."""
    results = ",\n    ".join(map(dumps, values["evaluation_results"]))
    rest = [f"  {dumps(key)}: {dumps(value)}" for key, value in values.items() if key != "evaluation_results"]
    return "{\n" + ",\n".join([*rest, f'  "evaluation_results": [\n    {results}\n  ]']) + "\n}\n"


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _uuid(text: str) -> str:
    """Return a UUID of version 4 that is computed from a text, so that equal records get equal file names."""
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16], version=4))


def record(board: Board, model: Model, cells: list[Cell]) -> dict[str, Any]:
    """Return the record of one model, in the schema of Every Eval Ever.

    Args:
        board: The board.
        model: One of its models.
        cells: The model's cells.
    """
    columns = {column.key: column for column in board.columns}
    identity, time = model_id(model), _time(board, model)
    library, _, version = one_line(model.tool).rpartition(" ")
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{COLLECTION}/{identity}/{time}",
        "retrieved_timestamp": time,
        "source_metadata": {
            "source_name": one_line(board.title),
            "source_type": "evaluation_run",
            "source_organization_name": UNKNOWN,
            "evaluator_relationship": "first_party" if model.role in OURS else "other",
        },
        "eval_library": {"name": library or version or UNKNOWN, "version": version if library else UNKNOWN},
        "model_info": _model_info(model, identity),
        "evaluation_results": [result for cell in cells for result in _results(cell, columns[cell.column])],
    }


def model_id(model: Model) -> str:
    """Return the Hub id of a base or imported model from the Hub; for all other models `local/NAME-KEY`.

    NAME is the model's name as a file name, KEY the start of its key on the board.
    """
    path = str(model.facts.get("path", ""))
    if model.role not in OURS and HUB_ID.fullmatch(path) and not Path(path).exists():
        return path
    name = re.sub(r"[^\w.-]+", "-", one_line(model.name))[:80].strip("-. ")
    return f"local/{name or 'model'}-{model.key[:6]}"


def _time(board: Board, model: Model) -> str:
    """Return the date of the model's newest run as text, in seconds since 1970; `unknown` without a date."""
    dates = [str(board.provenance.get(label, {}).get("date", "")) for label in model.sources]
    try:
        return str(datetime.fromisoformat(max(dates, default="")).timestamp())
    except ValueError:
        return UNKNOWN


def _model_info(model: Model, identity: str) -> dict[str, Any]:
    is_from_hub = not identity.startswith("local/")
    facts = {name: value for name, value in model.facts.items() if isinstance(value, str | int | float)}
    return {
        "name": one_line(model.name),
        "id": identity,
        "additional_details": {
            **{one_line(name): one_line(str(value)) for name, value in facts.items()},
            "deployment_type": "self_deployed",
            "model_availability": "open_weights" if is_from_hub else UNKNOWN,
            "role": one_line(model.role),
            "key": model.key,
        },
    }


def _results(cell: Cell, column: Column) -> Iterator[dict[str, Any]]:
    """Yield a result per score of a cell: the main metric, then the other metrics."""
    for score in (cell.score, *cell.further.values()):
        metric = one_line(score.metric)
        yield {
            "evaluation_result_id": f"{column.key}/{metric}",
            "evaluation_name": one_line(column.benchmark),
            "source_data": {"dataset_name": one_line(column.benchmark), "source_type": "other"},
            "metric_config": {
                "evaluation_description": one_line(f"{column.label}, {formatting.asked(score)}"),
                "metric_id": metric,
                "metric_name": formatting.metric(metric),
                "lower_is_better": score.lower_is_better,
                "score_type": "continuous",
                **_bounds(score, column),
            },
            "score_details": {"score": score.value, "uncertainty": _uncertainty(score)},
            "generation_config": {"additional_details": _setting(score, cell, column)},
        }


def _bounds(score: Score, column: Column) -> dict[str, Any]:
    """Return unit (of shares only), lowest and highest possible value of a metric; infinite if unknown."""
    if score.metric == column.metric and column.is_share:
        return {"metric_unit": "proportion", "min_score": 0, "max_score": 1}
    return {"min_score": "-Infinity", "max_score": "Infinity"}


def _uncertainty(score: Score) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": score.num_items}
    if score.stderr is not None:
        found["standard_error"] = {"value": score.stderr}
    if score.interval is not None:
        low, high = score.interval
        found["confidence_interval"] = {"lower": low, "upper": high, "confidence_level": score.confidence}
    return found


def _setting(score: Score, cell: Cell, column: Column) -> dict[str, str]:
    """Return the settings of a score as texts: protocol, number of shots, rule, number of items, ..."""
    setting = {
        "protocol": score.protocol,
        "num_fewshot": score.num_fewshot,
        "language": score.language,
        "average": score.average,
        "num_items": score.num_items,
        "num_total": column.num_total,
        "rule": score.rule,
        "prompts": score.prompts,
        "chance": score.chance,
        "generated_texts": formatting.texts(score),
        "apart": cell.apart,
    }
    return {name: one_line(str(value)) for name, value in setting.items() if value not in (None, "")}
