"""Reads rows from files of every supported kind, for training and benchmarks; errors name file and line."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from workbench.data.readers.columnar import arrow_rows, parquet_rows
from workbench.data.readers.delimited import table_rows
from workbench.data.readers.json_files import json_rows
from workbench.data.readers.layout import Layout
from workbench.data.readers.row import Row
from workbench.data.readers.text_lines import numbered_lines, whole_text
from workbench.data.readers.unfold import unfolded
from workbench.errors import DataError


def file_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """Return an iterator over the rows of a file; with `layout.unfold`, over the objects in a nested list.

    Raises:
        DataError: As for `whole_rows`; while iterating, a row is malformed or can't be unfolded.
    """
    rows = whole_rows(path, layout)
    return unfolded(rows, layout.unfold, f"{layout.key}.unfold") if layout.unfold else rows


def whole_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """Return an iterator over the rows of a file as they are written, before nested lists are unfolded.

    The suffix decides between JSON, tables, columnar files and text; the content decides the rest.

    Raises:
        DataError: The suffix is unknown, or the file doesn't exist; while iterating, it can't be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown kind of file {path.suffix!r} (known: {', '.join(READERS)})")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    return (replace(row, file=str(path)) for row in reader(path, layout))


def text_rows(path: Path, layout: Layout) -> Iterator[Row]:
    """Yield one row with a file's text as column `text`, nothing if it is blank.

    With `layout.text_lines`, yield a row for each line that is not blank.

    Raises:
        DataError: The file can't be read, or is not text, or a line is too long.
    """
    if layout.text_lines:
        for number, line in numbered_lines(path):
            if line.strip():
                yield Row({"text": line.rstrip("\r\n")}, f"{path}:{number}")
        return
    text = whole_text(path)
    if text.strip():
        yield Row({"text": text}, f"{path}:1")


READERS: dict[str, Callable[[Path, Layout], Iterator[Row]]] = {
    ".jsonl": json_rows,
    ".json": json_rows,
    ".csv": table_rows,
    ".tsv": table_rows,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
    ".feather": arrow_rows,
    ".txt": text_rows,
    ".md": text_rows,
}
"""Suffix of a file name -> function that yields the file's rows."""

TABLES = (".csv", ".tsv")
IN_FOLDERS = tuple(suffix for suffix in READERS if suffix != ".md")
"""Suffixes of files that are read from folders; Markdown files in a data folder are documentation."""
