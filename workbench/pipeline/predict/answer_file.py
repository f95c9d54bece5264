"""Writes and reads the file of answers of the predict step: JSONL, or a CSV that Excel opens."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROBABILITIES = "probabilities"
PROBABILITY = "probability "
"""Start of a CSV column with the probability of a class."""


def is_table(output: Path) -> bool:
    """Return whether answers are written as CSV, by the file's ending."""
    return output.suffix.casefold() == ".csv"


def file_text(rows: Sequence[Mapping[str, Any]], output: Path) -> str:
    """Return the content of the file of answers: JSONL, or CSV if `output` ends with `.csv`.

    CSV begins with a byte order mark, without which Excel misreads Chinese.

    Args:
        rows: For each row the columns of the input and of the answer.
        output: The file, for its ending.
    """
    if not is_table(output):
        return "".join(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in rows)
    cells = [flat(row) for row in rows]
    columns = dict.fromkeys(name for row in cells for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writeheader()
    writer.writerows(cells)
    return "\N{ZERO WIDTH NO-BREAK SPACE}" + text.getvalue()


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's cells for a CSV: a column `probability CLASS` per class, other nested values as JSON."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith(PROBABILITIES) and isinstance(value, Mapping):
            prefix = name.removesuffix(PROBABILITIES)
            cells |= {f"{prefix}{PROBABILITY}{label}": share for label, share in value.items()}
        else:
            cells[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
    return cells


def read_answers(output: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that `file_text` has made; of a CSV, only probabilities become numbers."""
    text = output.read_text(encoding="utf-8-sig")
    if not is_table(output):
        return [json.loads(line) for line in text.split("\n") if line]
    return [nested(row) for row in csv.DictReader(io.StringIO(text, newline=""))]


def nested(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return a CSV's row with the columns of class probabilities as one mapping: the inverse of `flat`.

    The mapping is the column `probabilities` or `predicted_probabilities`.
    """
    row: dict[str, Any] = {}
    for name, value in cells.items():
        prefix, between, label = name.partition(PROBABILITY)
        if between and prefix in ("", "predicted_"):
            row.setdefault(f"{prefix}{PROBABILITIES}", {})[label] = float(value)
        else:
            row[name] = value
    return row
