"""Rows from files, folders and the hub, their columns named by the roles that they play."""

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.config.data import DataConfig, key_of
from workbench.data.classes import ClassList, class_list, is_unlabelled, with_named_class
from workbench.data.notices import say_once
from workbench.data.readers.hub_datasets import hub_rows
from workbench.data.readers.layout import Layout
from workbench.data.readers.read_rows import IN_FOLDERS, READERS, TABLES, file_rows
from workbench.data.readers.row import Row as Row
from workbench.data.readers.row_store import chosen, keep_rows
from workbench.data.readers.unfold import unfolded
from workbench.errors import ConfigError, DataError
from workbench.files import local_path

SPLIT_WORDS = {"train", "dev", "val", "valid", "validation", "eval", "test"}

DEFAULT_SPLIT = DataConfig().split

ABOUT = re.compile(
    r"(read_?me|licen[cs]e|copying|notice|sources?|changelog|changes|citation|authors|credits|requirements|"
    r"说明|许可)(?![^\W_])",
    re.IGNORECASE,
)
"""Names of text files that say something about the data beside them."""

ANSWERS = ("output", "completion", "label")
"""Roles whose columns rows that are to be answered may lack."""


def load_rows(data: DataConfig, seed: int = 0, *, answered: bool = True) -> list[Row]:
    """All rows of `data.path` or of `data.sources`, with the columns named as `data.columns` says.

    Args:
        data: Where they lie.
        seed: Decides which rows come of a source whose weight is no whole number.
        answered: False for rows to be predicted, which may lack their answers; a text file's lines are then
            rows.

    Raises:
        DataError: Nothing there, a malformed row, a mapped column that is missing, or no row at all.
    """
    if answered:
        check_places(data)
    rows: list[Row] = []
    for name, source, weight in sourced(data):
        found = list(limited_rows(source, name, answered=answered))
        rows += [found[number] for number in weighted(len(found), name, weight, seed)]
    return rows


def load_kept_rows(data: DataConfig, seed: int) -> Sequence[Row]:
    """The same rows as `load_rows` for as long as a run lasts: many of them stay on the disk.

    Raises:
        DataError: As `load_rows` says.
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
    return chosen(rows, numbers) if data.sources else rows


def given_rows(values: Iterable[Mapping[str, Any]], data: DataConfig) -> list[Row]:
    """Rows that are in memory, with the columns named as `data.columns` says.

    Raises:
        DataError: No rows, one that isn't a mapping, or a mapped column that is missing.
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
    """Each source's name, section and weight; without `data.sources` the only one has no name."""
    if not data.sources:
        yield "", data, 1.0
    for name, source in data.sources.items():
        yield name, data.of_source(name), source.weight


def limited_rows(data: DataConfig, source: str = "", *, answered: bool = True) -> Iterator[Row]:
    """The rows of one source up to its limit, at least one."""
    rows = islice(read_rows(data, source, answered=answered), data.limit)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{key_of('path', source)}: no rows in {data.path!r}")
    yield first
    yield from rows


def weighted(count: int, name: str, weight: float, seed: int) -> list[int]:
    """The numbers of a source's rows: each as often as the weight's whole part says, of its rest some.

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
    """The rows to train on and those held out, both in their order; equal rows stay on one side.

    Which ones depends on the rows alone.

    Raises:
        DataError: There are too few different rows to hold some out.
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
    return chosen(rows, sides[0]), chosen(rows, sides[1])


def digest(text: str) -> bytes:
    """SHA-256 of a text, by which texts come in an order as good as random."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def read_rows(data: DataConfig, source: str = "", *, answered: bool = True) -> Iterator[Row]:
    """The rows of `data.path`, one at a time; `source` is the name of the section in `data.sources`."""
    if not data.path:
        raise DataError(f"{key_of('path', source)}: not given (a file, a folder or a hub id)")
    path = local_path(data.path)
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
        hub = (replace(row, source=source) for row in rows)
        return classed((renamed(row, data.columns, answered) for row in hub), data if answered else None)
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
    local = (replace(row, source=source) for file in files for row in file_rows(file, layout))
    return classed((renamed(row, data.columns, answered) for row in local), data if answered else None)


def check_table_keys(data: DataConfig, files: Sequence[Path]) -> None:
    """Refuse what says how tables are written, where there is no table.

    Raises:
        ConfigError: With the key.
    """
    if any(file.suffix.lower() in TABLES for file in files):
        return
    for key, value in (("delimiter", data.delimiter or None), ("quoting", data.quoting)):
        if value is not None:
            known = ", ".join(TABLES)
            raise ConfigError(f"data.{key}: {value!r} is of tables, and {data.path!r} has none ({known})")


def classed(rows: Iterator[Row], data: DataConfig | None) -> Iterator[Row]:
    """The rows with classes by name as `data.labels_file` numbers them, without those that have none."""
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
        say_once(f"data.drop_unlabelled: {num_dropped:,} rows of {data.path!r} without a class are left out")


def check_places(data: DataConfig) -> None:
    """Refuse a split or subset that is asked of files, which have none.

    Raises:
        ConfigError: With the key.
    """
    for name, source in data.sources.items() or {"": data}.items():
        path = local_path(source.path)
        asked_split = source.split if name else source.split != DEFAULT_SPLIT
        if source.subset is not None and path.exists():
            key = key_of("subset", name)
            raise ConfigError(f"{key}: {source.subset!r} is of a hub data set, but {source.path!r} is here")
        if asked_split and path.is_file():
            raise ConfigError(
                f"{key_of('split', name)}: {source.split!r} is of a folder or hub data set, but "
                f"{source.path!r} is one file"
            )
    paths = [local_path(source.path) for source in data.sources.values()]
    if paths and data.subset is not None and all(path.exists() for path in paths):
        raise ConfigError(
            f"data.subset: {data.subset!r} is of a hub data set, and none of data.sources is one"
        )
    if paths and data.split != DEFAULT_SPLIT and all(path.is_file() for path in paths):
        raise ConfigError(
            f"data.split: {data.split!r} is of a folder or hub data set, and all sources are files"
        )


def is_hub_id(path: str) -> bool:
    """Whether a path that isn't here can be meant as `owner/name` on the hub."""
    shaped = re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None
    return shaped and Path(path).suffix.lower() not in READERS and not Path(path).parent.is_dir()


def renamed(row: Row, columns: dict[str, str], answered: bool = True) -> Row:
    """The row with its columns under the names of their roles.

    Rows to be answered may lack the columns of answers, and a line of a text file has no columns at all.
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
            has = ", ".join(row.values)
            key = f"{key_of('columns', row.source)}.{role}"
            raise DataError(f"{row.where}: no column {column!r}, as {key} says (has: {has})")
    values.update({role: row.values[column] for role, column in present.items()})
    return replace(row, values=values, renamed=present)


def folder_files(folder: Path, split: str, source: str) -> list[Path]:
    """The data files below a folder, in the order of their names.

    Where file or folder names tell splits apart (train.jsonl, test.jsonl), only those of `split` are taken,
    so that a folder never trains on its own test rows.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix.lower() in IN_FOLDERS and not path.name.startswith(".")
    )
    notes = [path for path in files if path.suffix.lower() == ".txt" and ABOUT.match(path.name)]
    if notes and len(notes) < len(files):
        about = listed([note.name for note in notes])
        say_once(f"{key_of('path', source)}: of {str(folder)!r}, {about} is taken as a note on the data")
        files = [path for path in files if path not in notes]
    if not files:
        key = key_of("path", source)
        raise DataError(f"{key}: no data files in {str(folder)!r} (known: {', '.join(IN_FOLDERS)})")
    names = {file: str(file.relative_to(folder)) for file in files}
    words = {file: set(re.split(r"[^a-z]+", name.lower())) for file, name in names.items()}
    if not any(words[file] & SPLIT_WORDS for file in files):
        if split != DEFAULT_SPLIT:
            has = listed(list(names.values()))
            raise DataError(
                f"{key_of('split', source)}: no file of {str(folder)!r} is named after {split!r} (has: {has})"
            )
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
