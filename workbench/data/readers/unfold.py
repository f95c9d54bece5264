"""A row for each object in lists within lists, such as the questions of all paragraphs of all articles."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from workbench.data.readers.row import Row
from workbench.errors import DataError

TOP = ""
"""The level of the file's own rows, which no column leads to."""


def unfolded(rows: Iterable[Row], path: str, key: str) -> Iterator[Row]:
    """A row for each object that a path of columns leads to, with the columns of all objects above it.

    Each object above is also there as a whole under the name of its list: in `data.paragraphs.qas`,
    `paragraphs.id` is the paragraph's id. A name that several levels have means none of them by itself.

    Args:
        rows: The rows to unfold.
        path: Names of columns, divided by dots; each holds a list of objects, or one object.
        key: Of the configuration, for messages.

    Raises:
        DataError: A column is missing, or holds something else.
    """
    steps = path.split(".")
    for row in rows:
        yield from descended(row, steps, {TOP: row.values}, row.values, key)


def descended(
    row: Row, steps: list[str], levels: Mapping[str, dict[str, Any]], last: dict[str, Any], key: str
) -> Iterator[Row]:
    """The rows below one object."""
    if not steps:
        yield joined(row, levels)
        return
    step, *others = steps
    inner = last.get(step)
    objects = [inner] if isinstance(inner, dict) else inner
    if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
        has = ", ".join(last)
        raise DataError(f"{row.where}: column {step!r}, of {key}, holds no list of objects (columns: {has})")
    *above, level = levels
    without = {name: value for name, value in last.items() if name != step}
    for number, each in enumerate(objects, start=1):
        where = f"{row.where}, {step} {number}"
        below = {**{name: levels[name] for name in above}, level: without, step: each}
        yield from descended(replace(row, where=where), others, below, each, key)


def joined(row: Row, levels: Mapping[str, dict[str, Any]]) -> Row:
    """The columns of all levels in one row; a name that several levels have is left out and noted."""
    values: dict[str, Any] = {}
    owners: dict[str, list[str]] = {}
    for level, columns in levels.items():
        for name, value in columns.items():
            owners.setdefault(name, []).append(level)
            values[name] = value
    clashes = {name: whose for name, whose in owners.items() if len(whose) > 1}
    for name in clashes:
        del values[name]
    whole = {level: columns for level, columns in levels.items() if level != TOP and level not in owners}
    told = {
        name: " or ".join(f"{level}.{name}" if level != TOP else f"the file's own {name}" for level in whose)
        for name, whose in clashes.items()
    }
    return replace(row, values={**values, **whole}, clashes=told)
