"""What a Parquet file announces, held against its own size before anything is allocated for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from workbench.data.readers.parquet_headers import BYTE_ARRAY, Chunk, Page, footer, pages
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

CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
"""Numbers of the format -> names in pyarrow; 0 is none."""

DICTIONARY_PAGE = 2
BY_DICTIONARY = (2, 8)
"""Encodings that name a value of the dictionary: PLAIN_DICTIONARY and RLE_DICTIONARY."""
BY_PREFIX = 7
"""DELTA_BYTE_ARRAY: a value begins like the one before it."""


@dataclass
class Announced:
    """What the pages of some columns unfold to, at most."""

    num_values: int = 0
    num_bytes: int = 0
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
        DataError: It unfolds to too much, or a header is damaged.
    """
    most, total = most_unfolded(path), Announced()
    with path.open("rb") as content:
        about = footer(content, path)
        for column in about.chunks:
            add_chunk(total, column, content, path)
    if total.num_values * VALUE_BYTES > most:
        raise too_large(path, total.num_values * VALUE_BYTES)
    rows_at_once = max(1, min(1000, BATCH_BYTES // total.largest))
    if total.num_bytes <= most:
        return rows_at_once
    if about.has_lists:  # one row can be all of it
        raise too_large(path, total.num_bytes)
    num_bytes = 0
    for batch in file.iter_batches(batch_size=rows_at_once):
        num_bytes += batch.nbytes
        if num_bytes > most:
            raise too_large(path, num_bytes)
    return rows_at_once


def add_chunk(total: Announced, column: Chunk, content: BinaryIO, path: Path) -> None:
    """Count in what the pages of a column announce.

    Raises:
        DataError: A page is out of proportion, or its header is damaged.
    """
    longest = 0
    for page in pages(column, content, path):
        if page.size > max(LARGEST_PAGE_BYTES, PAGE_TIMES * page.compressed):
            raise DataError(
                f"{path}: a page of {page.compressed:,} bytes that unfolds to {page.size:,} (at most "
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
    """Bytes of the longest value of a dictionary; of the whole dictionary where it can't be read."""
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
    longest = place = 0
    while place + 4 <= len(packed):
        size = int.from_bytes(packed[place : place + 4], "little")
        longest, place = max(longest, size), place + 4 + size
    return min(longest, page.size)
