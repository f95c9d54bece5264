"""Turns nested lists of objects into rows, such as the questions of all paragraphs of all articles."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from workbench.data.readers.row import Row
from workbench.errors import DataError

TOP = ""
"""Name of the outermost level, the rows of the file."""


def unfolded(rows: Iterable[Row], path: str, key: str) -> Iterator[Row]:
    """Yield a row for each object at the end of a path of columns, with the columns of all objects around it.

    Each object on the way is also a column of its own, under the name of its list: in `data.paragraphs.qas`,
    `paragraphs.id` is the paragraph's id. A column name that several levels have is left out, and listed in
    `Row.clashes`. A row with an empty list yields nothing.

    Args:
        rows: The rows to unfold.
        path: Column names separated by dots; the value of each is a list of objects, or one object.
        key: Configuration key, for messages.

    Raises:
        DataError: A column of the path is missing, or has another value.
    """
    steps = path.split(".")
    for row in rows:
        yield from descended(row, steps, {TOP: row.values}, row.values, key)


def descended(
    row: Row, steps: list[str], levels: Mapping[str, dict[str, Any]], last: dict[str, Any], key: str
) -> Iterator[Row]:
    """Yield the rows of the objects at the end of the column path `steps`, which starts in the object `last`.

    Args:
        row: The row of the file; its position is extended at each step.
        steps: Rest of the column path.
        levels: Columns of each object on the way, by the name of its list.
        last: The innermost of these objects.
        key: Configuration key, for messages.

    Raises:
        DataError: A column of the path is missing, or has another value than a list of objects or an object.
    """
    if not steps:
        yield joined(row, levels)
        return
    step, *next_steps = steps
    inner = last.get(step)
    objects = [inner] if isinstance(inner, dict) else inner
    if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
        columns = ", ".join(last)
        raise DataError(
            f"{row.where}: column {step!r}, of {key}, is not a list of objects (columns: {columns})"
        )
    *parents, level = levels
    without = {name: value for name, value in last.items() if name != step}
    for number, item in enumerate(objects, start=1):
        where = f"{row.where}, {step} {number}"
        inner_levels = {**{name: levels[name] for name in parents}, level: without, step: item}
        inner_row = replace(row, where=where, parent=row.where)
        yield from descended(inner_row, next_steps, inner_levels, item, key)


def joined(row: Row, levels: Mapping[str, dict[str, Any]]) -> Row:
    """Return a copy of `row` with the columns of all levels, and each level's object as a column of its own.

    A column name that several levels have is left out, and listed in `Row.clashes` with its full names.

    Args:
        row: The row, of which all but its columns is kept.
        levels: Name of a list -> columns of its object; TOP -> columns of the file's row.
    """
    values: dict[str, Any] = {}
    owners: dict[str, list[str]] = {}
    for level, columns in levels.items():
        for name, value in columns.items():
            owners.setdefault(name, []).append(level)
            values[name] = value
    clashes = {name: levels_of_name for name, levels_of_name in owners.items() if len(levels_of_name) > 1}
    for name in clashes:
        del values[name]
    parents = {level: columns for level, columns in levels.items() if level != TOP and level not in owners}
    full_names = {
        name: " or ".join(f"{level}.{name}" if level != TOP else f"the file's own {name}" for level in where)
        for name, where in clashes.items()
    }
    return replace(row, values={**values, **parents}, clashes=full_names)
