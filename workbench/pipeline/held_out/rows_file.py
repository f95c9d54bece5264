"""The rows that a training held out, in a file of the run's folder."""

import json
from collections.abc import Sequence
from typing import Any

from workbench.config import Config
from workbench.data.holdout import HoldOut
from workbench.data.rows import Row
from workbench.errors import DataError
from workbench.run_dir import RunDir, file_fingerprint, read_json, write_atomic
from workbench.run_record import RunRecord

MOST_ITEMS = 500
"""Held-out rows that are scored; the validation loss is that of all of them."""


def holds_out(config: Config, run_dir: RunDir) -> bool:
    """Whether rows may be held out by themselves: no benchmark is named, or this run has begun that way."""
    return config.data.validation_fraction is None and (
        not config.benchmarks or run_dir.held_out_jsonl.is_file()
    )


def write_rows(hold_out: HoldOut, run_dir: RunDir) -> dict[str, Any]:
    """Write the held-out rows into the run's folder; what train.json says of them."""
    rows = distinct(hold_out.held_out)[:MOST_ITEMS]
    lines = [
        json.dumps({"where": row.where, "source": row.source, "values": row.values}, default=str)
        for row in rows
    ]
    about = {
        "rows": len(hold_out.held_out),
        "left_out": hold_out.num_near,
        "scored": len(rows),
        "reason": hold_out.reason,
    }
    if not rows:
        run_dir.held_out_jsonl.unlink(missing_ok=True)
        return about
    write_atomic(run_dir.held_out_jsonl, "".join(f"{line}\n" for line in lines))
    return about | {"sha256": file_fingerprint(run_dir.held_out_jsonl)}


def distinct(rows: Sequence[Row]) -> list[Row]:
    """The rows without those that say the same as an earlier one."""
    found: dict[str, Row] = {}
    for row in rows:
        key = row.content()
        found.setdefault(f"{row.source} {key}", row)
    return list(found.values())


def read_rows(run_dir: RunDir) -> list[Row]:
    """The held-out rows of a finished training; none where it held none out.

    Raises:
        DataError: the file is not the one that the training left.
    """
    path, about = run_dir.held_out_jsonl, train_report(run_dir).get("held_out") or {}
    if not path.is_file():
        return []
    if not isinstance(about, dict) or about.get("sha256") != file_fingerprint(path):
        raise DataError(
            f"{path}: not as the training left it (force=true 'steps=[train]' trains again and writes it)"
        )
    lines = path.read_text(encoding="utf-8").split("\n")
    values = [json.loads(line) for line in lines if line]
    return [Row(value["values"], value["where"], value["source"]) for value in values]


def train_report(run_dir: RunDir) -> dict[str, Any]:
    """What train.json says; empty where nothing was trained.

    Raises:
        DataError: it isn't as the training left it.
    """
    path = run_dir.train_json
    entry = RunRecord(run_dir.run_json).values["steps"].get("train", {})
    expected = entry.get("files", {}).get(path.name)
    if expected is None and not path.is_file():
        return {}
    try:
        is_changed = expected is not None and file_fingerprint(path) != expected
        values = None if is_changed else read_json(path)
    except (ValueError, FileNotFoundError):
        values = None
    if not isinstance(values, dict):
        raise DataError(f"{path}: not as the training left it ('steps=[train]' makes it again)")
    return values
