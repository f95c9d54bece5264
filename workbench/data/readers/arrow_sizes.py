"""Checks the uncompressed sizes that an Arrow file announces against its own size, before decompression.

Source: Arrow's format/Message.fbs (Message, RecordBatch, DictionaryBatch, BodyCompression), and FlatBuffers.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.data.readers.parquet_sizes import most_unfolded, too_large

if TYPE_CHECKING:
    import pyarrow

DICTIONARY_BATCH, RECORD_BATCH = 2, 3
"""Message types that have buffers."""

FILE_MARK = b"ARROW1\0\0"
"""First bytes of Arrow's file format; what follows is like the stream format."""


def check_arrow_sizes(path: Path, file: "pyarrow.MemoryMappedFile") -> None:
    """Check the total uncompressed size that the file's buffers announce, without decompressing them.

    Afterwards the position of `file`, which must be at byte 0 before, is at the first message.

    Raises:
        DataError: The size is above `most_unfolded`.
        ArrowInvalid: A message is damaged.
    """
    import pyarrow

    start = len(FILE_MARK) if file.read(len(FILE_MARK)) == FILE_MARK else 0
    file.seek(start)
    most, num_bytes = most_unfolded(path), 0
    try:
        for message in pyarrow.ipc.MessageReader.open_stream(file):
            if message.type in ("record batch", "dictionary"):
                num_bytes += sum(unpacked_sizes(message.metadata.to_pybytes(), message.body))
            if num_bytes > most:
                raise too_large(path, num_bytes)
    except (struct.error, IndexError) as error:
        raise pyarrow.ArrowInvalid("a message is damaged") from error
    file.seek(start)


def unpacked_sizes(metadata: bytes, body: "pyarrow.Buffer") -> Iterator[int]:
    """Yield the uncompressed size in bytes that each buffer of a compressed Arrow message announces.

    An uncompressed message yields nothing. Damaged metadata raises struct.error or IndexError.

    Args:
        metadata: The message's FlatBuffers header.
        body: The message's buffers.
    """
    message = _offset(metadata, 0)
    kind = metadata[_field(metadata, message, 1)]
    batch = _table(metadata, message, 2)
    if kind == DICTIONARY_BATCH:
        batch = _table(metadata, batch, 1)
    if not _field(metadata, batch, 3):  # not compressed
        return
    buffers = _table(metadata, batch, 2)
    count = struct.unpack_from("<I", metadata, buffers)[0]
    for number in range(count):
        offset, size = struct.unpack_from("<qq", metadata, buffers + 4 + 16 * number)
        if size >= 8:
            announced = struct.unpack("<q", body.slice(offset, 8).to_pybytes())[0]
            yield size if announced == -1 else abs(announced)


def _offset(content: bytes, position: int) -> int:
    """Follow the relative offset at byte `position`: return the byte position that it points to."""
    return position + int(struct.unpack_from("<I", content, position)[0])


def _field(content: bytes, table: int, number: int) -> int:
    """Return the byte position of field `number` of a FlatBuffers table; 0 if the table lacks the field."""
    directory = table - struct.unpack_from("<i", content, table)[0]
    size = struct.unpack_from("<H", content, directory)[0]
    entry = 4 + 2 * number
    inside = struct.unpack_from("<H", content, directory + entry)[0] if entry < size else 0
    return table + inside if inside else 0


def _table(content: bytes, table: int, number: int) -> int:
    """Return the byte position of the table or vector that field `number` of a table points to."""
    return _offset(content, _field(content, table, number))
