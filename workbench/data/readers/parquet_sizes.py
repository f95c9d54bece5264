"""Checks the sizes that a Parquet file announces against its own size, before anything is allocated."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from workbench.data.readers.parquet_headers import BYTE_ARRAY, Chunk, Page, footer, pages
from workbench.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet

MOST_BYTES = 256 * 2**20
"""Uncompressed bytes that a file of any size may have."""

MOST_TIMES = 1000
"""Largest ratio of a file's uncompressed bytes to its size, if they are more than MOST_BYTES."""

LARGEST_PAGE_BYTES = 64 * 2**20
"""Uncompressed bytes that a page of any compressed size may have."""

PAGE_TIMES = 100
"""Largest compression ratio of a page over LARGEST_PAGE_BYTES; real texts compress about five times."""

BATCH_BYTES = 64 * 2**20
"""Uncompressed bytes of a batch of rows, as a target."""

VALUE_BYTES = 64
"""Least bytes that a value takes as a Python object."""

CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
"""Codec number in the format -> name in pyarrow; 0 means uncompressed."""

DICTIONARY_PAGE = 2
BY_DICTIONARY = (2, 8)
"""Encodings with dictionary indices: PLAIN_DICTIONARY and RLE_DICTIONARY."""
BY_PREFIX = 7
"""DELTA_BYTE_ARRAY: each value shares a prefix with the value before it."""


@dataclass
class Announced:
    """What a file's page headers announce: the number of values, and upper bounds of their decoded bytes."""

    num_values: int = 0
    num_bytes: int = 0
    largest: int = 1
    """Bytes that the largest value can have at most; on plain pages those of the mean value."""


def most_unfolded(path: Path) -> int:
    """Return the most uncompressed bytes that a file may have, from its size on disk."""
    return max(MOST_BYTES, MOST_TIMES * path.stat().st_size)


def too_large(path: Path, num_bytes: int) -> DataError:
    """Return the error, to be raised, for a file whose `num_bytes` of uncompressed content are too many."""
    size = path.stat().st_size
    return DataError(
        f"{path}: {size:,} bytes decompress to {num_bytes / 2**30:,.1f} GiB or more "
        f"(at most {MOST_TIMES:,} times its size, or {MOST_BYTES // 2**20} MiB; write it as JSONL)"
    )


def check_parquet_sizes(path: Path, file: "pyarrow.parquet.ParquetFile") -> int:
    """Check the uncompressed size of a Parquet file, from its headers and if needed by decoding it.

    Returns:
        Number of rows to read at once.

    Raises:
        DataError: The uncompressed size is too large, or a header is damaged.
    """
    most, total = most_unfolded(path), Announced()
    with path.open("rb") as content:
        metadata = footer(content, path)
        for column in metadata.chunks:
            add_chunk(total, column, content, path)
    if total.num_values * VALUE_BYTES > most:
        raise too_large(path, total.num_values * VALUE_BYTES)
    rows_at_once = max(1, min(1000, BATCH_BYTES // total.largest))
    if total.num_bytes <= most:
        return rows_at_once
    if metadata.has_lists:  # a single row can have all values
        raise too_large(path, total.num_bytes)
    num_bytes = 0
    for batch in file.iter_batches(batch_size=rows_at_once):
        num_bytes += batch.nbytes
        if num_bytes > most:
            raise too_large(path, num_bytes)
    return rows_at_once


def add_chunk(total: Announced, column: Chunk, content: BinaryIO, path: Path) -> None:
    """Add to `total` the sizes that the page headers of a column chunk announce.

    Raises:
        DataError: A page's compression ratio is too large, or its header is damaged.
    """
    longest = 0
    for page in pages(column, content, path):
        if page.size > max(LARGEST_PAGE_BYTES, PAGE_TIMES * page.compressed):
            raise DataError(
                f"{path}: a page of {page.compressed:,} bytes decompresses to {page.size:,} (at most "
                f"{PAGE_TIMES} times its size, or {LARGEST_PAGE_BYTES // 2**20} MiB; write it as JSONL)"
            )
        if page.kind == DICTIONARY_PAGE:
            longest = longest_entry(page, column, content)
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


def longest_entry(page: Page, column: Chunk, content: BinaryIO) -> int:
    """Return the bytes of a dictionary page's longest entry.

    A page that can't be decompressed counts as one entry. An entry of another type than byte arrays counts
    as 16 bytes.
    """
    import pyarrow

    if column.physical_type != BYTE_ARRAY:
        return 16
    content.seek(page.start)
    packed = content.read(page.compressed)
    try:
        if column.codec:
            packed = pyarrow.decompress(packed, page.size, codec=CODECS[column.codec], asbytes=True)
    except (pyarrow.ArrowException, KeyError, ValueError, OSError):
        return page.size
    longest = position = 0
    while position + 4 <= len(packed):
        size = int.from_bytes(packed[position : position + 4], "little")
        longest, position = max(longest, size), position + 4 + size
    return min(longest, page.size)
