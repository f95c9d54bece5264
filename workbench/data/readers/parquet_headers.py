"""The footer and the page headers of a Parquet file, read without allocating what they announce.

pyarrow's own view of a damaged footer can end the whole process, so that it is read here.

Source: parquet-format, src/main/thrift/parquet.thrift, and the compact protocol of Thrift.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import DataError

DAMAGED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of bytes that are no Thrift, or of values where others are expected."""

BYTE_ARRAY = 6
REPEATED = 2


@dataclass(frozen=True)
class Chunk:
    """One column in one group of rows, as the footer has it."""

    physical_type: int
    codec: int
    start: int
    """Where its first page begins in the file."""
    size: int
    """Bytes of all its pages in the file."""


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


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says."""

    chunks: list[Chunk]
    has_lists: bool
    """Whether a row can have several values of a column."""


def footer(content: BinaryIO, path: Path) -> Footer:
    """The footer of a Parquet file.

    Raises:
        DataError: It is damaged.
    """
    size = path.stat().st_size
    content.seek(max(0, size - 8))
    length = int.from_bytes(content.read(4), "little")
    content.seek(max(0, size - 8 - length))
    try:
        about = ThriftReader(content.read(length)).struct()
        columns = [column[3] for group in about[4] for column in group[1]]
        repeated = any(element.get(3) == REPEATED for element in about[2])
        return Footer([chunk(column) for column in columns], repeated)
    except DAMAGED as error:
        raise DataError(f"{path}: not a readable Parquet file, its footer is damaged") from error


def chunk(about: dict[int, Any]) -> Chunk:
    """A column of the footer; a dictionary, where it has one, comes before its first page of values."""
    start, dictionary = about[9], about.get(11)
    first = dictionary if dictionary is not None and 0 < dictionary < start else start
    return Chunk(int(about[1]), int(about[4]), int(first), int(about[7]))


def pages(column: Chunk, content: BinaryIO, path: Path) -> Iterator[Page]:
    """The headers of a column's pages.

    Raises:
        DataError: One is damaged, or lies outside of the file.
    """
    start, end = column.start, column.start + column.size
    if not 0 <= start <= end <= path.stat().st_size:
        raise DataError(f"{path}: not a readable Parquet file, a column lies outside of it")
    while start < end:
        page = page_at(start, content, path)
        yield page
        start = page.start + page.compressed


def page_at(start: int, content: BinaryIO, path: Path) -> Page:
    """The header that begins at a byte of the file.

    Raises:
        DataError: It is damaged.
    """
    for window in (2**14, 2**24):  # the longest and shortest values of the page may stand in it
        content.seek(start)
        reader = ThriftReader(content.read(window))
        try:
            header = reader.struct()
            about = header.get(5) or header.get(7) or header.get(8) or {}
            encoding = about.get(4) if 8 in header else about.get(2)
            kind, size, compressed = int(header[1]), int(header[2]), int(header[3])
            count, behind = int(about.get(1, 0)), start + reader.place
            page = Page(kind, size, compressed, count, int(encoding or 0), behind)
        except DAMAGED:
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

    def listed(self, depth: int) -> list[Any]:
        """The values of a list."""
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self.varint()
        if count > len(self.content) - self.place:  # each takes a byte at least
            raise ValueError("a list longer than the rest")
        if head & 0x0F in (1, 2):  # truth values take a byte each within lists
            return [self.byte() == 1 for _ in range(count)]
        return [self.value(head & 0x0F, depth + 1) for _ in range(count)]
