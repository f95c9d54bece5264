"""Rows from files of six kinds, as they stand there; every complaint names the file and the line."""

import codecs
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from workbench.errors import DataError

LONGEST_LINE_BYTES = 32 * 2**20

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Half a character, as JSON escapes it; whole ones are two of them in a row."""

Found = tuple[dict[str, Any], str]
"""A row's columns and its place: `file:line`, or `file: row n` where lines mean nothing."""


def file_rows(file: Path) -> Iterator[Found]:
    """The rows of one file, read as its name says."""
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file}: unknown kind of file {file.suffix!r} (known: {', '.join(READERS)})")
    return reader(file)


def jsonl_rows(path: Path) -> Iterator[Found]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in numbered_lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield (
                checked_object(parsed(line.rstrip(), path, number), where, HALF.search(line) is not None),
                where,
            )


def json_rows(path: Path) -> Iterator[Found]:
    """A JSON array of objects, or JSON lines under the name .json."""
    lines = numbered_lines(path, limit=None)  # an array may stand on a single line
    first = next((line for _, line in lines if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from jsonl_rows(path)
        return
    text = "".join(line for _, line in numbered_lines(path, limit=None))
    has_half = HALF.search(text) is not None
    for number, value in enumerate(parsed(text, path), start=1):
        where = f"{path}: row {number}"
        yield checked_object(value, where, has_half), where


def table_rows(path: Path, *, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Found]:
    """A table with a header line; every cell is text."""
    csv.field_size_limit(sys.maxsize)
    lines = (line for _, line in numbered_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(reader, [])
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{path}:{reader.line_num}: two columns are called {twice!r} (rename one)")
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells under {len(header)} column names")
            yield dict(zip(header, cells, strict=True)), where
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: malformed table, {error}") from error


def csv_rows(path: Path) -> Iterator[Found]:
    """Comma-separated, quoted where needed."""
    return table_rows(path, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def tsv_rows(path: Path) -> Iterator[Found]:
    """Tab-separated; a quotation mark is a character like any other."""
    return table_rows(path, delimiter="\t", quoting=csv.QUOTE_NONE)


def parquet_rows(path: Path) -> Iterator[Found]:
    """The rows of a Parquet file, a batch of them in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        values = (value for batch in batches for value in batch.to_pylist())
        yield from ((value, f"{path}: row {number}") for number, value in enumerate(values, start=1))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # of a damaged page: OSError
        raise DataError(f"{path}: no readable Parquet file, {first_line(error)}") from error


def text_rows(path: Path) -> Iterator[Found]:
    """The whole file as one document."""
    text = "".join(line for _, line in numbered_lines(path, limit=None))
    if text.strip():
        yield {"text": text}, str(path)


READERS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".jsonl": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".parquet": parquet_rows,
    ".txt": text_rows,
}


def numbered_lines(path: Path, limit: int | None = LONGEST_LINE_BYTES) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file from 1 on, with their line ends."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if limit is not None and len(line) > limit:
                    size = f"{len(line) / 2**20:.0f} MiB"
                    raise DataError(f"{path}:{number}: a line of {size} (at most {limit // 2**20} MiB)")
                yield number, decoded(line, path, number)
    except OSError as error:
        raise DataError(f"{path}: can't be read, {error.strerror}") from error


def decoded(line: bytes, path: Path, number: int) -> str:
    """The line's text, without a byte order mark at the beginning of the file."""
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at position {error.start}"
        raise DataError(f"{path}:{number}: not UTF-8, {byte}") from error


def parsed(text: str, path: Path, number: int = 1) -> Any:
    """The JSON value of a text that begins on line `number` of the file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{number + error.lineno - 1}"
        raise DataError(f"{where}: malformed JSON, {error.msg} at column {error.colno}") from error
    except ValueError as error:
        most = sys.get_int_max_str_digits()
        line = number + text.count("\n", 0, longest_number(text))
        raise DataError(f"{path}:{line}: a number of more than {most:,} digits") from error
    except RecursionError as error:
        raise DataError(f"{path}:{number}: lists or objects too deep in each other") from error


def longest_number(text: str) -> int:
    """Where the longest number begins."""
    return max(re.finditer(r"\d+", text), key=lambda digits: len(digits[0])).start()


def checked_object(value: Any, where: str, has_half: bool) -> dict[str, Any]:
    """The value, known to be an object; with `has_half`, its texts are looked through for half characters."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: a row must be a JSON object, not {repr(value)[:60]}")
    try:
        if has_half:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise DataError(f"{where}: {half!a} is half a character, the other half is missing") from error
    return value


def first_line(error: BaseException) -> str:
    """The first line of another library's complaint."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
