"""Loads rows from files, folders and the hub, and renames their columns as `data.columns` says."""

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.config.data import DataConfig
from workbench.config.names import key_of
from workbench.data.classes import ClassList, class_list, is_unlabelled, with_named_class
from workbench.data.notices import say_once
from workbench.data.readers.folder_files import DEFAULT_SPLIT, folder_files
from workbench.data.readers.hub_datasets import hub_rows, is_hub_id
from workbench.data.readers.layout import Layout
from workbench.data.readers.modelscope_files import place_of
from workbench.data.readers.read_rows import TABLES, file_rows
from workbench.data.readers.row import Row as Row
from workbench.data.readers.row_store import keep_rows, select
from workbench.data.readers.unfold import unfolded
from workbench.errors import ConfigError, DataError
from workbench.files import local_path
from workbench.modelscope.download import is_on_modelscope

ANSWERS = ("output", "completion", "label")
"""Columns of answers, which rows to be predicted may lack."""


def load_rows(data: DataConfig, seed: int = 0, *, answered: bool = True) -> list[Row]:
    """Read the rows of `data.path`, or of each of `data.sources` in turn, with columns and classes renamed.

    Args:
        data: The section `data` of the configuration.
        seed: Seed of the random choice of rows for a fractional weight.
        answered: False for rows to be predicted: they may lack answers; each line of a text file is a row.

    Raises:
        DataError: A path doesn't exist, a row is malformed, a column is missing, or there are no rows.
        ConfigError: A key doesn't apply, as `check_places` and `check_table_keys` say.
    """
    if answered:
        check_places(data)
    rows: list[Row] = []
    for name, source, weight in sourced(data):
        source_rows = list(limited_rows(source, name, answered=answered))
        rows += [source_rows[number] for number in weighted(len(source_rows), name, weight, seed)]
    return rows


def load_kept_rows(data: DataConfig, seed: int) -> Sequence[Row]:
    """Read the same rows as `load_rows`; more than 20,000 are kept in a temporary file, not in memory.

    Raises:
        DataError, ConfigError: As `load_rows` says.
        DeviceError: The disk is full.
    """
    check_places(data)
    counts: dict[str, int] = {}

    def counted() -> Iterator[Row]:
        for name, source, _ in sourced(data):
            for row in limited_rows(source, name):
                counts[name] = counts.get(name, 0) + 1
                yield row

    rows = keep_rows(counted())
    numbers: list[int] = []
    first = 0
    for name, _, weight in sourced(data):
        numbers += [first + number for number in weighted(counts[name], name, weight, seed)]
        first += counts[name]
    return select(rows, numbers) if data.sources else rows


def given_rows(values: Iterable[Mapping[str, Any]], data: DataConfig) -> list[Row]:
    """Convert mappings (column -> value) to rows "row 1" and so on, by limit, columns and classes of `data`.

    Raises:
        DataError: There are no rows, a row isn't a mapping, or a renamed column is missing.
    """
    rows: list[Row] = []
    for number, columns in enumerate(islice(values, data.limit), 1):
        if not isinstance(columns, Mapping):
            raise DataError(f"data: row {number} is {columns!r:.80} (a mapping of columns to values)")
        rows.append(renamed(Row(dict(columns), f"row {number}"), data.columns))
    rows = list(classed(iter(rows), data))
    if not rows:
        raise DataError("data: no rows")
    return rows


def sourced(data: DataConfig) -> Iterator[tuple[str, DataConfig, float]]:
    """Yield (name, section `data` with the source's values, weight) of each source; ("", data, 1) without."""
    if not data.sources:
        yield "", data, 1.0
    for name, source in data.sources.items():
        yield name, data.of_source(name), source.weight


def limited_rows(data: DataConfig, source: str = "", *, answered: bool = True) -> Iterator[Row]:
    """Yield the first rows of one source, at most `data.limit`; a DataError if none. See `read_rows`."""
    rows = islice(read_rows(data, source, answered=answered), data.limit)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{key_of('path', source)}: no rows in {data.path!r}")
    yield first
    yield from rows


def weighted(count: int, name: str, weight: float, seed: int) -> list[int]:
    """Return the indices of a source's rows, repeated by its weight: with 2.5, each twice and a half again.

    Args:
        count: Number of rows of the source.
        name: Name of the source, which is part of the seed.
        weight: Weight of the source.
        seed: Seed of the random choice of the half.

    Raises:
        DataError: The weight leaves no row.
    """
    whole, rest = divmod(weight, 1)
    drawn = sorted(random.Random(f"{seed} {name}").sample(range(count), round(rest * count)))
    numbers = [*list(range(count)) * int(whole), *drawn]
    if not numbers:
        raise DataError(f"data.sources.{name}.weight: {weight} of {count} rows leaves none")
    return numbers


def split_rows(rows: Sequence[Row], fraction: float) -> tuple[Sequence[Row], Sequence[Row]]:
    """Split rows into (training rows, held-out rows), both in the given order; equal rows stay in one part.

    A hash of the content chooses `fraction` of the different rows, at least one; with 0, none.

    Raises:
        DataError: No row would be left to train on.
    """
    if fraction == 0:
        return rows, []
    keys = [row.content() for row in rows]
    different = list(dict.fromkeys(keys))
    count = max(1, round(len(different) * fraction))
    if count >= len(different):
        raise DataError(f"data.validation_fraction: {fraction} of {len(different)} rows leaves none")
    held_out = set(sorted(different, key=digest)[:count])
    sides: tuple[list[int], list[int]] = ([], [])
    for number, key in enumerate(keys):
        sides[key in held_out].append(number)
    return select(rows, sides[0]), select(rows, sides[1])


def digest(text: str) -> bytes:
    """Return the SHA-256 of a text, as the sort key of a reproducible pseudorandom order."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_rows(data: DataConfig, source: str = "", *, answered: bool = True) -> Iterator[Row]:
    """Return an iterator over all rows of `data.path`: a file, a folder, a hub id or modelscope:OWNER/NAME.

    Columns and classes are renamed; `data.limit` doesn't apply here.

    Args:
        data: The section `data` of the configuration, or of one source.
        source: Name of the source; empty: none.
        answered: False for rows to be predicted, see `load_rows`.

    Raises:
        DataError: The path is missing or doesn't exist; while iterating: a row is malformed.
        ConfigError: `data.delimiter` or `data.quoting` is set, but no file is a table.
    """
    if not data.path:
        raise DataError(f"{key_of('path', source)}: not given (a file, a folder or a hub id)")
    path = place_of(data.path, data.subset, key_of("path", source))
    if path.is_dir():
        files = folder_files(path, data.split, source)
    elif path.is_file():
        files = [path]
    elif is_hub_id(data.path):
        if not source:
            check_table_keys(data, [])
        rows = hub_rows(
            data.path, data.subset, data.split, streaming=data.streaming, key=key_of("path", source)
        )
        if data.unfold:
            rows = unfolded(rows, data.unfold, key_of("unfold", source))
        with_source = (replace(row, source=source) for row in rows)
        return classed(
            (renamed(row, data.columns, answered) for row in with_source), data if answered else None
        )
    else:
        raise DataError(f"{key_of('path', source)}: no such file or folder, {data.path!r}")
    if answered and not source:
        check_table_keys(data, files)
    layout = Layout(
        key=f"data.sources.{source}" if source else "data",
        delimiter=data.delimiter,
        quoting=data.quoting,
        unfold=data.unfold,
        text_lines=not answered,
    )
    with_source = (replace(row, source=source) for file in files for row in file_rows(file, layout))
    return classed((renamed(row, data.columns, answered) for row in with_source), data if answered else None)


def check_table_keys(data: DataConfig, files: Sequence[Path]) -> None:
    """Raise a ConfigError if `data.delimiter` or `data.quoting` is set, but no file is a table (CSV, TSV)."""
    if any(file.suffix.lower() in TABLES for file in files):
        return
    for key, value in (("delimiter", data.delimiter or None), ("quoting", data.quoting)):
        if value is not None:
            known = ", ".join(TABLES)
            raise ConfigError(f"data.{key}: {value!r} is for tables, and {data.path!r} has none ({known})")


def classed(rows: Iterator[Row], data: DataConfig | None) -> Iterator[Row]:
    """Yield rows with class names in place of class numbers, and without rows that have no class.

    Numbers are looked up in `data.labels_file`; rows are dropped if `data.drop_unlabelled` is set. `data` is
    None for rows to be predicted, which stay as they are. A damaged file or unknown number raises DataError.
    """
    if data is None or not (data.labels_file or data.drop_unlabelled):
        yield from rows
        return
    path = local_path(data.labels_file)
    classes = class_list(path, "data.labels_file") if data.labels_file else ClassList(list(data.labels), {})
    num_dropped = 0
    for row in rows:
        if data.drop_unlabelled and is_unlabelled(row, classes.names):
            num_dropped += 1
        else:
            yield with_named_class(row, classes)
    if num_dropped:
        say_once(f"data.drop_unlabelled: {num_dropped:,} rows of {data.path!r} without a class are dropped")


def check_places(data: DataConfig) -> None:
    """Raise a ConfigError if a source sets `subset` for a local path, or `split` for a single file."""
    for name, source in data.sources.items() or {"": data}.items():
        if is_on_modelscope(source.path):
            continue
        path = local_path(source.path)
        has_split = source.split if name else source.split != DEFAULT_SPLIT
        if source.subset is not None and path.exists():
            key = key_of("subset", name)
            raise ConfigError(
                f"{key}: {source.subset!r} is a subset of a hub data set, but {source.path!r} is a local path"
            )
        if has_split and path.is_file():
            raise ConfigError(
                f"{key_of('split', name)}: {source.split!r} is a split of a folder or hub data set, but "
                f"{source.path!r} is one file"
            )
    paths = [local_path(source.path) for source in data.sources.values()]
    if paths and data.subset is not None and all(path.exists() for path in paths):
        raise ConfigError(
            f"data.subset: {data.subset!r} is a subset of a hub data set, but all sources are local paths"
        )
    if paths and data.split != DEFAULT_SPLIT and all(path.is_file() for path in paths):
        raise ConfigError(
            f"data.split: {data.split!r} is a split of a folder or hub data set, but all sources are files"
        )


def renamed(row: Row, columns: dict[str, str], answered: bool = True) -> Row:
    """Return a copy of a row with its columns renamed, as `columns` (new name -> name in the file) says.

    Rows to be predicted (`answered=False`) may lack ANSWERS; lines of their text files are not renamed.
    Raise a DataError if a column is missing.
    """
    if not columns or (not answered and Path(row.file).suffix.lower() == ".txt"):
        return row
    values = dict(row.values)
    present: dict[str, str] = {}
    for role, column in columns.items():
        if column in row.values:
            present[role] = column
            values.pop(column, None)
        elif answered or role not in ANSWERS:
            columns_of_row = ", ".join(row.values)
            key = f"{key_of('columns', row.source)}.{role}"
            raise DataError(f"{row.where_named}: no column {column!r}, as {key} says (has: {columns_of_row})")
    values.update({role: row.values[column] for role, column in present.items()})
    return replace(row, values=values, renamed=present)


def texts_within(value: Any) -> Iterator[str]:
    """Yield all strings in a JSON value, however deeply nested; names of fields aren't included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_within(inner)
