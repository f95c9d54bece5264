"""Rows from files, folders and the hub, their columns named by the roles that they play."""

import json
import logging
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.config.data import DataConfig, key_of
from workbench.data.files import READERS, Found, file_rows, first_line
from workbench.errors import DataError

log = logging.getLogger("workbench")

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
        found = all_rows(data.of_source(name), name)
        chosen = weighted(found, source.weight, random.Random(f"{seed} {name}"))
        if not chosen:
            raise DataError(f"data.sources.{name}.weight: {source.weight} of {len(found)} rows leaves none")
        rows += chosen
    return rows


def sourced(data: DataConfig) -> Iterator[tuple[str, DataConfig, float]]:
    """Each source's name, section and weight; without `data.sources` the only one has no name."""
    if not data.sources:
        yield "", data, 1.0
    for name, source in data.sources.items():
        yield name, data.of_source(name), source.weight


def all_rows(data: DataConfig, source: str = "") -> list[Row]:
    """The rows of one source, at least one."""
    rows = list(islice(read_rows(data, source), data.limit))
    if not rows:
        raise DataError(f"{key_of('path', source)}: no rows in {data.path!r}")
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


def read_rows(data: DataConfig, source: str = "") -> Iterator[Row]:
    """The rows of `data.path`, one at a time; `source` is the name of the section in `data.sources`."""
    if not data.path:
        raise DataError(f"{key_of('path', source)}: not given (a file, a folder or a hub id)")
    path = Path(data.path).expanduser()
    if path.is_dir():
        files = folder_files(path, data.split, source)
    elif path.is_file():
        files = [path]
    elif is_hub_id(data.path):
        return (renamed(Row(*found, source), data.columns) for found in hub_rows(data, source))
    else:
        raise DataError(f"{key_of('path', source)}: no such file or folder, {data.path!r}")
    return (renamed(Row(*found, source), data.columns) for file in files for found in file_rows(file))


def is_hub_id(path: str) -> bool:
    """Whether a path that isn't here can be meant as `owner/name` on the hub."""
    shaped = re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None
    return shaped and Path(path).suffix.lower() not in READERS and not Path(path).parent.is_dir()


def renamed(row: Row, columns: dict[str, str]) -> Row:
    """The row with its columns under the names of their roles."""
    if not columns:
        return row
    values = dict(row.values)
    for role, column in columns.items():
        if column not in row.values:
            has = ", ".join(row.values)
            key = f"{key_of('columns', row.source)}.{role}"
            raise DataError(f"{row.where}: no column {column!r}, as {key} says (has: {has})")
        values.pop(column, None)
    values.update({role: row.values[column] for role, column in columns.items()})
    return replace(row, values=values)


def folder_files(folder: Path, split: str, source: str) -> list[Path]:
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
        key = key_of("path", source)
        raise DataError(f"{key}: no data files in {str(folder)!r} (known: {', '.join(READERS)})")
    names = {file: str(file.relative_to(folder)) for file in files}
    words = {file: set(re.split(r"[^a-z]+", name.lower())) for file, name in names.items()}
    if not any(words[file] & SPLIT_WORDS for file in files):
        return files
    chosen = [file for file in files if split.lower() in words[file]]
    key, has = key_of("split", source), listed(list(names.values()))
    if not chosen:
        raise DataError(f"{key}: no file of {str(folder)!r} is named after {split!r} (has: {has})")
    left_out = listed([name for file, name in names.items() if file not in chosen])
    if left_out:
        say_once(f"{key}: of {str(folder)!r}, the files not named after {split!r} are left out: {left_out}")
    return chosen


def listed(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join([*names[:8], *["..."][: len(names) > 8]])


@cache
def say_once(words: str) -> None:
    """Tell the user; rows are read more than once in a run, by the checks and by the steps."""
    log.info(words)


def hub_rows(data: DataConfig, source: str) -> Iterator[Found]:
    """The rows of a data set of the Hugging Face Hub, or of its cache."""
    import datasets

    try:
        dataset = datasets.load_dataset(
            data.path, name=data.subset, split=data.split, streaming=data.streaming
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        what = f"{data.path!r} is no file here, and the hub gave none"
        raise DataError(f"{key_of('path', source)}: {what}, {first_line(error)}") from error
    for number, values in enumerate(dataset, start=1):
        yield dict(values), f"{data.path}: row {number}"


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
