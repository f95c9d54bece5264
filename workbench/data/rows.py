"""Rows from files, folders and the hub; every complaint names the file and the line."""

import codecs
import csv
import json
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from workbench.config.data import DataConfig
from workbench.errors import DataError

LONGEST_LINE_BYTES = 32 * 2**20
SPLIT_WORDS = {"train", "dev", "val", "valid", "validation", "eval", "test"}


@dataclass(frozen=True)
class Row:
    """One row as it stands in its file."""

    values: dict[str, Any]
    where: str
    """`file:line`, or `file: row n` where lines mean nothing."""
    source: str = ""
    """Its name in `data.sources`."""


def load_rows(data: DataConfig, seed: int = 0) -> list[Row]:
    """All rows of `data.path` or of `data.sources`, with the columns named as `data.columns` says.

    Args:
        data: Where they lie.
        seed: Decides which rows come of a source whose weight is no whole number.

    Raises:
        DataError: Nothing there, a malformed row, a mapped column that is missing, or no row at all.
    """
    if not data.sources:
        return all_rows(data)
    rows: list[Row] = []
    for name, source in data.sources.items():
        found = [replace(row, source=name) for row in all_rows(data.of_source(name))]
        rows += weighted(found, source.weight, random.Random(f"{seed} {name}"))
    return rows


def sourced(data: DataConfig) -> Iterator[tuple[str, DataConfig, float]]:
    """Each source's name, section and weight; without `data.sources` the only one has no name."""
    if not data.sources:
        yield "", data, 1.0
    for name, source in data.sources.items():
        yield name, data.of_source(name), source.weight


def all_rows(data: DataConfig) -> list[Row]:
    """The rows of one source, at least one."""
    rows = list(islice(read_rows(data), data.limit))
    if not rows:
        raise DataError(f"data.path: no rows in {data.path!r}")
    return rows


def weighted(rows: Sequence[Row], weight: float, generator: random.Random) -> list[Row]:
    """Each row as often as the weight's whole part says, and of its rest a random choice, in their order."""
    whole, rest = divmod(weight, 1)
    chosen = sorted(generator.sample(range(len(rows)), round(rest * len(rows))))
    return [*list(rows) * int(whole), *(rows[number] for number in chosen)]


def split_rows(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those held out, both in their order; equal rows stay on one side.

    Raises:
        DataError: There are too few different rows to hold some out.
    """
    if fraction == 0:
        return list(rows), []
    keys = [json.dumps(row.values, sort_keys=True, ensure_ascii=False, default=str) for row in rows]
    different = list(dict.fromkeys(keys))
    count = max(1, round(len(different) * fraction))
    if count >= len(different):
        raise DataError(f"data.validation_fraction: {fraction} of {len(different)} rows leaves none")
    held_out = set(random.Random(seed).sample(different, count))
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row, key in zip(rows, keys, strict=True):
        sides[key in held_out].append(row)
    return sides


def read_rows(data: DataConfig) -> Iterator[Row]:
    """The rows of `data.path`, one at a time."""
    if not data.path:
        raise DataError("data.path: not given (a file, a folder or a hub id)")
    path = Path(data.path).expanduser()
    if path.is_dir():
        files = folder_files(path, data.split)
    elif path.is_file():
        files = [path]
    elif is_hub_id(data.path):
        return (renamed(row, data.columns) for row in hub_rows(data))
    else:
        raise DataError(f"data.path: no such file or folder, {data.path!r}")
    return (renamed(row, data.columns) for file in files for row in file_rows(file))


def is_hub_id(path: str) -> bool:
    """Whether a path that isn't here can be meant as `owner/name` on the hub."""
    shaped = re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None
    return shaped and Path(path).suffix.lower() not in READERS and not Path(path).parent.is_dir()


def file_rows(file: Path) -> Iterator[Row]:
    """The rows of one file, read as its name says."""
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise DataError(f"{file}: unknown kind of file {file.suffix!r} (known: {', '.join(READERS)})")
    return reader(file)


def renamed(row: Row, columns: dict[str, str]) -> Row:
    """The row with its columns under the names of their roles."""
    if not columns:
        return row
    values = dict(row.values)
    for role, column in columns.items():
        if column not in row.values:
            has = ", ".join(row.values)
            raise DataError(f"{row.where}: no column {column!r}, as data.columns.{role} says (has: {has})")
        values.pop(column, None)
    values.update({role: row.values[column] for role, column in columns.items()})
    return replace(row, values=values)


def folder_files(folder: Path, split: str) -> list[Path]:
    """The data files below a folder, in the order of their names.

    Where file or folder names tell splits apart (train.jsonl, test.jsonl), only those of `split` are taken,
    so that a folder never trains on its own test rows.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in READERS and not path.name.startswith(".")
    )
    if not files:
        raise DataError(f"data.path: no data files in {str(folder)!r} (known: {', '.join(READERS)})")
    words = {file: set(re.split(r"[^a-z]+", str(file.relative_to(folder)).lower())) for file in files}
    if not any(words[file] & SPLIT_WORDS for file in files):
        return files
    chosen = [file for file in files if split.lower() in words[file]]
    if not chosen:
        names = ", ".join(str(file.relative_to(folder)) for file in files[:8])
        raise DataError(f"data.split: no file of {str(folder)!r} is named after {split!r} (has: {names})")
    return chosen


def jsonl_rows(path: Path) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in numbered_lines(path):
        if line.strip():
            yield Row(json_object(line, f"{path}:{number}"), f"{path}:{number}")


def json_rows(path: Path) -> Iterator[Row]:
    """A JSON array of objects, or JSON lines under the name .json."""
    lines = numbered_lines(path)
    first = next((line for _, line in lines if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from jsonl_rows(path)
        return
    text = "".join(line for _, line in numbered_lines(path, limit=None))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise DataError(f"{where}: malformed JSON, {error.msg} at column {error.colno}") from error
    for number, value in enumerate(values, start=1):
        yield Row(checked_object(value, f"{path}: row {number}"), f"{path}: row {number}")


def table_rows(path: Path, *, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Row]:
    """A table with a header line; every cell is text."""
    csv.field_size_limit(sys.maxsize)
    lines = (line for _, line in numbered_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(reader, [])
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells under {len(header)} column names")
            yield Row(dict(zip(header, cells, strict=True)), where)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: malformed table, {error}") from error


def csv_rows(path: Path) -> Iterator[Row]:
    """Comma-separated, quoted where needed."""
    return table_rows(path, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def tsv_rows(path: Path) -> Iterator[Row]:
    """Tab-separated; a quotation mark is a character like any other."""
    return table_rows(path, delimiter="\t", quoting=csv.QUOTE_NONE)


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file, a batch of them in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        values = (value for batch in batches for value in batch.to_pylist())
        yield from (Row(value, f"{path}: row {number}") for number, value in enumerate(values, start=1))
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: no readable Parquet file, {first_line(error)}") from error


def text_rows(path: Path) -> Iterator[Row]:
    """The whole file as one document."""
    text = "".join(line for _, line in numbered_lines(path, limit=None))
    if text.strip():
        yield Row({"text": text}, str(path))


def hub_rows(data: DataConfig) -> Iterator[Row]:
    """The rows of a data set of the Hugging Face Hub, or of its cache."""
    import datasets

    try:
        dataset = datasets.load_dataset(
            data.path, name=data.subset, split=data.split, streaming=data.streaming
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data.path: {data.path!r} is no file here, and the hub gave none, {first_line(error)}"
        ) from error
    for number, values in enumerate(dataset, start=1):
        yield Row(dict(values), f"{data.path}: row {number}")


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
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


def json_object(line: str, where: str) -> dict[str, Any]:
    """The line's JSON object."""
    try:
        return checked_object(json.loads(line), where)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: malformed JSON, {error.msg} at column {error.colno}") from error


def checked_object(value: Any, where: str) -> dict[str, Any]:
    """The value, known to be an object."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: a row must be a JSON object, not {repr(value)[:60]}")
    return value


def first_line(error: BaseException) -> str:
    """The first line of another library's complaint."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def texts_within(value: Any) -> Iterator[str]:
    """The strings inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts_within(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts_within(part)
