"""What a Parquet file announces, held against its own size before anything is allocated for it.

Source: parquet-format, src/main/thrift/parquet.thrift (PageHeader), and Thrift's compact protocol.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet

MOST_BYTES = 256 * 2**20
"""A file may unfold to so many bytes whatever its size."""

MOST_TIMES = 1000
"""And to so many times its own size."""

LARGEST_PAGE_BYTES = 64 * 2**20
"""A page may be so large whatever its compressed size."""

PAGE_TIMES = 100
"""And so many times its compressed size; real texts shrink to about a fifth."""

BATCH_BYTES = 64 * 2**20
"""Rows are read a few at a time, so that a batch has about as many bytes."""

VALUE_BYTES = 64
"""What a value costs at least once it is a Python object."""

DICTIONARY_PAGE = 2
BY_DICTIONARY = (2, 8)
"""Encodings that name a value of the dictionary: PLAIN_DICTIONARY and RLE_DICTIONARY."""
BY_PREFIX = 7
"""DELTA_BYTE_ARRAY: a value begins like the one before it."""


@dataclass(frozen=True)
class Page:
    """What the header of a page says."""

    kind: int
    size: int
    """Bytes once decompressed."""
    compressed: int
    """Bytes in the file."""
    num_values: int
    encoding: int
    start: int
    """Where its content begins in the file."""


@dataclass
class Announced:
    """What the pages of some columns unfold to, at most."""

    num_values: int = 0
    num_bytes: int = 0
    is_exact: bool = True
    """Whether a smaller number of bytes is out of the question."""
    largest: int = 1
    """Bytes of the largest value there can be."""


def most_unfolded(path: Path) -> int:
    """The most bytes that a file of this size may unfold to."""
    return max(MOST_BYTES, MOST_TIMES * path.stat().st_size)


def too_large(path: Path, num_bytes: int) -> DataError:
    """What is said of a file that would fill the memory."""
    size = path.stat().st_size
    return DataError(
        f"{path}: a file of {size:,} bytes that unfolds to {num_bytes / 2**30:,.1f} GiB or more "
        f"(at most {MOST_TIMES:,} times its size, or {MOST_BYTES // 2**20} MiB; write it as JSONL)"
    )


def check_parquet_sizes(path: Path, file: "pyarrow.parquet.ParquetFile") -> int:
    """Refuse a Parquet file that unfolds to far more than it holds.

    Returns:
        How many rows may be read at once.

    Raises:
        DataError: It unfolds to too much, or a page header is damaged.
    """
    most, total = most_unfolded(path), Announced()
    with path.open("rb") as content:
        for chunk in column_chunks(file.metadata):
            add_chunk(total, chunk, content, path)
    if total.num_values * VALUE_BYTES > most:
        raise too_large(path, total.num_values * VALUE_BYTES)
    rows_at_once = max(1, min(1000, BATCH_BYTES // total.largest))
    if total.num_bytes <= most:
        return rows_at_once
    has_lists = any(file.schema.column(n).max_repetition_level for n in range(file.metadata.num_columns))
    if has_lists:  # one row can be all of it
        raise too_large(path, total.num_bytes)
    num_bytes = 0
    for batch in file.iter_batches(batch_size=rows_at_once):
        num_bytes += batch.nbytes
        if num_bytes > most:
            raise too_large(path, num_bytes)
    return rows_at_once


def column_chunks(metadata: "pyarrow.parquet.FileMetaData") -> Iterator[Any]:
    """What the file's footer says of each column in each group of rows."""
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        yield from (row_group.column(number) for number in range(row_group.num_columns))


def add_chunk(total: Announced, chunk: Any, content: BinaryIO, path: Path) -> None:
    """Count in what the pages of a column announce.

    Raises:
        DataError: A page is out of proportion, or its header is damaged.
    """
    longest = 0
    for page in pages(chunk, content, path):
        if page.size > max(LARGEST_PAGE_BYTES, PAGE_TIMES * page.compressed):
            raise DataError(
                f"{path}: a page of {page.compressed:,} bytes that unfolds to {page.size:,} (at most "
                f"{PAGE_TIMES} times its size, or {LARGEST_PAGE_BYTES // 2**20} MiB; write it as JSONL)"
            )
        if page.kind == DICTIONARY_PAGE:
            longest = longest_entry(page, chunk, content)
            total.num_bytes += page.size
            total.largest = max(total.largest, longest)
            continue
        total.num_values += page.num_values
        if page.encoding in BY_DICTIONARY:
            total.num_bytes += page.num_values * longest
        elif page.encoding == BY_PREFIX:
            total.num_bytes += page.num_values * page.size
            total.largest = max(total.largest, page.size)
        else:
            total.num_bytes += page.size
            total.largest = max(total.largest, page.size // max(1, page.num_values))


def longest_entry(page: Page, chunk: Any, content: BinaryIO) -> int:
    """Bytes of the longest value of a dictionary; of the whole dictionary where it can't be read."""
    import pyarrow

    if chunk.physical_type != "BYTE_ARRAY":
        return 16
    content.seek(page.start)
    packed = content.read(page.compressed)
    try:
        if chunk.compression != "UNCOMPRESSED":
            packed = pyarrow.decompress(packed, page.size, codec=chunk.compression.lower(), asbytes=True)
    except (pyarrow.ArrowException, ValueError, OSError):
        return page.size
    longest = place = 0
    while place + 4 <= len(packed):
        size = int.from_bytes(packed[place : place + 4], "little")
        longest, place = max(longest, size), place + 4 + size
    return min(longest, page.size)


def pages(chunk: Any, content: BinaryIO, path: Path) -> Iterator[Page]:
    """The headers of a column's pages.

    Raises:
        DataError: One is damaged, or lies outside of the file.
    """
    first = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < first:
        first = chunk.dictionary_page_offset
    end = first + chunk.total_compressed_size
    if not 0 <= first <= end <= path.stat().st_size:
        raise DataError(f"{path}: not a readable Parquet file, a column lies outside of it")
    while first < end:
        page = page_at(first, content, path)
        yield page
        first = page.start + page.compressed


def page_at(start: int, content: BinaryIO, path: Path) -> Page:
    """The header that begins at a byte of the file."""
    for window in (2**14, 2**24):
        content.seek(start)
        reader = ThriftReader(content.read(window))
        try:
            header = reader.struct()
            about = header.get(5) or header.get(7) or header.get(8) or {}
            encoding = about.get(4) if 8 in header else about.get(2)
            page = Page(
                kind=header[1],
                size=header[2],
                compressed=header[3],
                num_values=about.get(1, 0),
                encoding=encoding or 0,
                start=start + reader.place,
            )
        except (IndexError, KeyError, RecursionError, ValueError):
            continue
        if min(page.size, page.compressed, page.num_values) >= 0:
            return page
    raise DataError(f"{path}: not a readable Parquet file, the page header at byte {start:,} is damaged")


class ThriftReader:
    """Reads a struct of Thrift's compact protocol: field number to value."""

    def __init__(self, content: bytes) -> None:
        """Begin at the first byte."""
        self.content = content
        self.place = 0

    def byte(self) -> int:
        """The next byte."""
        value = self.content[self.place]
        self.place += 1
        return value

    def varint(self) -> int:
        """An unsigned number, seven bits a byte."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def zigzag(self) -> int:
        """A signed number."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields of a struct."""
        if depth > 16:
            raise ValueError("structs too deep in each other")
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            fields[number] = self.value(head & 0x0F, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        """A value of a kind that the protocol numbers."""
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            return self.passed_over(8)
        if kind == 8:
            return self.passed_over(self.varint())
        if kind in (9, 10):
            return self.listed(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"a value of kind {kind}")

    def passed_over(self, size: int) -> None:
        """Go on behind bytes whose content doesn't matter."""
        self.place += size
        if self.place > len(self.content):
            raise IndexError("beyond the end")

    def listed(self, depth: int) -> None:
        """Go on behind a list."""
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self.varint()
        for _ in range(count):
            self.value(head & 0x0F, depth + 1)
