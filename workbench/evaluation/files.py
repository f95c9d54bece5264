"""Rows of benchmark files, each with the place it came from, so that an error can name file and line."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config.benchmark import LocalConfig
from workbench.errors import DataError


@dataclass(frozen=True)
class Row:
    """The columns of one row, and where it stands: `file:line`, or the number in a JSON list or hub split."""

    values: dict[str, Any]
    where: str


def read_rows(path: Path, local: LocalConfig) -> list[Row]:
    """All rows of a CSV, TSV, JSON, JSONL, Parquet or plain text file, by its suffix.

    Raises:
        DataError: the file is missing, of an unknown kind or malformed; the message names file and line.
    """
    try:
        reader = _READERS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(sorted(_READERS))
        raise DataError(f"{path}: unknown kind of file {path.suffix!r} (known: {known})") from None
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        rows = list(reader(path, local))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from error
    for column, pattern in local.beside.items():
        rows = _with_column(rows, column, path.parent / pattern.replace("{stem}", path.stem), path)
    return _unfolded(rows, local.unfold) if local.unfold else rows


def _csv(path: Path, local: LocalConfig) -> Iterator[Row]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        if local.quoting:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
        else:
            reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        header = local.header or next(reader, [])
        if not header:
            raise DataError(f"{path}: empty file")
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{path}: two columns are called {twice!r} (rename one)")
        line = reader.line_num + 1
        try:
            for cells in reader:
                where = f"{path}:{line}"
                line = reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{where}: {len(cells)} cells ({len(header)} columns: {_names(header)})")
                yield Row(dict(zip(header, cells, strict=True)), where)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: malformed row ({error})") from error


def _names(header: list[str]) -> str:
    return ", ".join(name or "''" for name in header)


def _json(path: Path, local: LocalConfig) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        yield from _json_lines(path, text, local)
        return
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: malformed JSON ({error.msg})") from error
    for number, item in enumerate(items, 1):
        where = f"{path} item {number}"
        yield Row(_object(item, local, where), where)


def _json_lines(path: Path, text: str, local: LocalConfig) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield Row(_object(json.loads(line), local, where), where)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: malformed JSON ({error.msg})") from error


def _object(value: object, local: LocalConfig, where: str) -> dict[str, Any]:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise DataError(f"{where}: {half!a} is half a character, the other half is missing") from error
    if isinstance(value, list) and len(value) == len(local.header):
        return dict(zip(local.header, value, strict=True))
    if not isinstance(value, dict):
        raise DataError(f"{where}: {type(value).__name__} instead of an object with columns")
    return value


def _text(path: Path, local: LocalConfig) -> Iterator[Row]:
    yield Row({"text": path.read_text(encoding="utf-8-sig")}, f"{path}:1")


def _parquet(path: Path, local: LocalConfig) -> Iterator[Row]:
    import pyarrow.parquet  # costs a second, and most benchmarks have none

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from error
    for number, values in enumerate(rows, 1):
        yield Row(values, f"{path} row {number}")


_READERS = {
    ".csv": _csv,
    ".tsv": _csv,
    ".json": _json,
    ".jsonl": _json,
    ".txt": _text,
    ".md": _text,
    ".parquet": _parquet,
}


def _unfolded(rows: list[Row], column: str) -> list[Row]:
    """A row for each object in a column's list, with the other columns beside its own."""
    found = []
    for row in rows:
        inner = row.values.get(column)
        if not isinstance(inner, list) or not all(isinstance(one, dict) for one in inner):
            raise DataError(f"{row.where}: column {column!r} holds no list of objects")
        others = {name: value for name, value in row.values.items() if name != column}
        found += [Row({**others, **one}, f"{row.where}, {column} {n}") for n, one in enumerate(inner, 1)]
    return found


def _with_column(rows: list[Row], column: str, beside: Path, path: Path) -> list[Row]:
    """Rows with one more column, whose values are the lines of another file."""
    if not beside.is_file():
        raise DataError(f"{beside}: no such file (it holds the column {column!r} of {path})")
    lines = beside.read_text(encoding="utf-8").splitlines()
    if len(lines) != len(rows):
        raise DataError(f"{beside}: {len(lines)} lines for the {len(rows)} rows of {path}")
    return [Row({**row.values, column: line}, row.where) for row, line in zip(rows, lines, strict=True)]
