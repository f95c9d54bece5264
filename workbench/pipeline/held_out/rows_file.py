"""Reads and writes the held-out rows in a run's folder."""

import json
from collections.abc import Sequence
from typing import Any

from workbench.data.holdout import HoldOut
from workbench.data.rows import Row
from workbench.errors import DataError
from workbench.run_dir import RunDir, file_fingerprint, read_json, write_atomic
from workbench.run_record import RunRecord

MOST_ITEMS = 500
"""Largest number of held-out rows that models are scored on; the validation loss is computed on all held-out
rows."""


def write_rows(hold_out: HoldOut, run_dir: RunDir) -> dict[str, Any]:
    """Write the first `MOST_ITEMS` distinct held-out rows to held_out.jsonl; if there are none, delete it.

    Returns:
        For train.json: the numbers `rows` (held out), `left_out` (in neither part) and `scored` (written),
        the `reason` why none are held out, and if the file was written, its `sha256`.
    """
    rows = distinct(hold_out.held_out)[:MOST_ITEMS]
    lines = [readable_json({"where": row.where, "source": row.source, "values": row.values}) for row in rows]
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


def readable_json(value: Any) -> str:
    """Encode a value as JSON with Chinese and other characters unescaped.

    If the value has a lone surrogate, which UTF-8 doesn't have, characters are escaped.
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if is_encodable(text) else json.dumps(value, default=str)


def is_encodable(text: str) -> bool:
    """Return whether a text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without those whose columns equal those of an earlier row of the same source."""
    first_rows: dict[str, Row] = {}
    for row in rows:
        first_rows.setdefault(f"{row.source} {row.content()}", row)
    return list(first_rows.values())


def read_rows(run_dir: RunDir) -> list[Row]:
    """Read the held-out rows of a finished training from held_out.jsonl; [] if there is no file.

    They have `values`, `where` and `source`, but not `file`.

    Raises:
        DataError: The file, or train.json, was changed since the training.
    """
    path, about = run_dir.held_out_jsonl, train_report(run_dir).get("held_out") or {}
    if not path.is_file():
        return []
    if not isinstance(about, dict) or about.get("sha256") != file_fingerprint(path):
        raise DataError(
            f"{path}: was changed since the training wrote it (force=true 'steps=[train]' trains again)"
        )
    lines = path.read_text(encoding="utf-8").split("\n")
    values = [json.loads(line) for line in lines if line]
    return [Row(value["values"], value["where"], value["source"]) for value in values]


def train_report(run_dir: RunDir) -> dict[str, Any]:
    """Read train.json as a dict; {} if nothing was trained.

    Raises:
        DataError: It was changed or deleted since the training.
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
        raise DataError(f"{path}: was changed since the training wrote it ('steps=[train]' makes it again)")
    return values
