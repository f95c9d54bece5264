"""Parses the footer and the page headers of a Parquet file without allocating the sizes that they announce.

Reading a damaged footer with pyarrow can crash the whole process, so it is parsed here first.

Source: parquet-format, src/main/thrift/parquet.thrift, and the compact protocol of Thrift.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from workbench.errors import DataError

DAMAGED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Exceptions raised by bytes that are not Thrift, or by values of unexpected types."""

BYTE_ARRAY = 6
REPEATED = 2


@dataclass(frozen=True)
class Chunk:
    """A column chunk as the footer describes it: the values of one column in one row group."""

    physical_type: int
    """Number of the values' type in the format, such as BYTE_ARRAY."""
    codec: int
    """Number of the compression in the format; 0: uncompressed."""
    start: int
    """Byte offset of its first page in the file."""
    size: int
    """Bytes of all its pages in the file."""


@dataclass(frozen=True)
class Page:
    """The header of a page, which describes the values after it."""

    kind: int
    """Number of the page type in the format; 2: dictionary page."""
    size: int
    """Uncompressed bytes."""
    compressed: int
    """Compressed bytes, as in the file."""
    num_values: int
    encoding: int
    """Number of the values' encoding in the format."""
    start: int
    """Byte offset of its content in the file."""


@dataclass(frozen=True)
class Footer:
    """The column chunks that a Parquet file's footer describes, and whether columns have lists."""

    chunks: list[Chunk]
    has_lists: bool
    """Whether a row can have several values in one column."""


def footer(content: BinaryIO, path: Path) -> Footer:
    """Parse the footer of the Parquet file at `path`; `content` is the open file.

    Raises:
        DataError: The footer is damaged.
    """
    size = path.stat().st_size
    content.seek(max(0, size - 8))
    length = int.from_bytes(content.read(4), "little")
    content.seek(max(0, size - 8 - length))
    try:
        metadata = ThriftReader(content.read(length)).struct()
        columns = [column[3] for group in metadata[4] for column in group[1]]
        repeated = any(element.get(3) == REPEATED for element in metadata[2])
        return Footer([chunk(column) for column in columns], repeated)
    except DAMAGED as error:
        raise DataError(f"{path}: not a readable Parquet file, its footer is damaged") from error


def chunk(metadata: dict[int, Any]) -> Chunk:
    """Build a Chunk from the footer's description of it; the start may be that of a dictionary page.

    Values that are missing or of wrong types raise one of DAMAGED.
    """
    start, dictionary = metadata[9], metadata.get(11)
    first = dictionary if dictionary is not None and 0 < dictionary < start else start
    return Chunk(int(metadata[1]), int(metadata[4]), int(first), int(metadata[7]))


def pages(column: Chunk, content: BinaryIO, path: Path) -> Iterator[Page]:
    """Yield the headers of all pages of a column chunk; `content` is the open file.

    Raises:
        DataError: A header is damaged, or the chunk is outside of the file.
    """
    start, end = column.start, column.start + column.size
    if not 0 <= start <= end <= path.stat().st_size:
        raise DataError(f"{path}: not a readable Parquet file, a column is outside of the file")
    while start < end:
        page = page_at(start, content, path)
        yield page
        start = page.start + page.compressed


def page_at(start: int, content: BinaryIO, path: Path) -> Page:
    """Parse the page header at the byte offset `start` of the open file `content`.

    Raises:
        DataError: The header is damaged.
    """
    for window in (2**14, 2**24):  # a header can contain the minimum and the maximum of the page
        content.seek(start)
        reader = ThriftReader(content.read(window))
        try:
            header = reader.struct()
            details = header.get(5) or header.get(7) or header.get(8) or {}
            encoding = details.get(4) if 8 in header else details.get(2)
            kind, size, compressed = int(header[1]), int(header[2]), int(header[3])
            count, content_start = int(details.get(1, 0)), start + reader.position
            page = Page(kind, size, compressed, count, int(encoding or 0), content_start)
        except DAMAGED:
            continue
        if min(page.size, page.compressed, page.num_values) >= 0:
            return page
    raise DataError(f"{path}: not a readable Parquet file, the page header at byte {start:,} is damaged")


class ThriftReader:
    """Parses a struct of Thrift's compact protocol into a dictionary: field id -> value.

    Each method reads from `position` on, and moves `position` behind what it has read. Texts and
    floating-point numbers are skipped; their value is None. Damaged content raises one of DAMAGED.
    """

    def __init__(self, content: bytes) -> None:
        """Start at the first byte of `content`."""
        self.content = content
        self.position = 0

    def byte(self) -> int:
        """Read one byte."""
        value = self.content[self.position]
        self.position += 1
        return value

    def varint(self) -> int:
        """Read an unsigned integer of variable length, 7 bits per byte."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a varint of more than 64 bits")

    def zigzag(self) -> int:
        """Read a signed integer of variable length, in zigzag encoding: 0, -1, 1, -2 are 0, 1, 2, 3."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a struct as {field id: value}; `depth` is its nesting depth."""
        if depth > 16:
            raise ValueError("structs are nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            fields[number] = self.value(head & 0x0F, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        """Read a value whose type has the number `kind` in the protocol; None for a text or a float.

        `depth` is the nesting depth of the struct or list that has the value.
        """
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            return self.skip(8)
        if kind == 8:
            return self.skip(self.varint())
        if kind in (9, 10):
            return self.listed(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"unknown type {kind}")

    def skip(self, size: int) -> None:
        """Move `position` by `size` bytes; raise an IndexError beyond the end."""
        self.position += size
        if self.position > len(self.content):
            raise IndexError("beyond the end")

    def listed(self, depth: int) -> list[Any]:
        """Read a list or set of values as a list; `depth` is the nesting depth of its struct."""
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self.varint()
        if count > len(self.content) - self.position:  # each value takes at least a byte
            raise ValueError("a list is longer than the remaining bytes")
        if head & 0x0F in (1, 2):  # in lists, booleans take a byte each
            return [self.byte() == 1 for _ in range(count)]
        return [self.value(head & 0x0F, depth + 1) for _ in range(count)]
