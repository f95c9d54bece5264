"""What the compressed buffers of an Arrow file announce, held against its own size before they are unpacked.

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
"""Kinds of messages that have buffers."""

FILE_MARK = b"ARROW1\0\0"
"""What the file format begins with; what follows is laid out as a stream."""


def check_arrow_sizes(path: Path, file: "pyarrow.MemoryMappedFile") -> None:
    """Refuse an Arrow file whose buffers unfold to far more than it holds, and go back to its first message.

    Raises:
        DataError: They do.
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
        raise pyarrow.ArrowInvalid("a message of it is damaged") from error
    file.seek(start)


def unpacked_sizes(metadata: bytes, body: "pyarrow.Buffer") -> Iterator[int]:
    """How many bytes each buffer of a message announces to have, once it is unpacked."""
    message = _offset(metadata, 0)
    kind = metadata[_field(metadata, message, 1)]
    batch = _table(metadata, message, 2)
    if kind == DICTIONARY_BATCH:
        batch = _table(metadata, batch, 1)
    if not _field(metadata, batch, 3):  # no compression
        return
    buffers = _table(metadata, batch, 2)
    count = struct.unpack_from("<I", metadata, buffers)[0]
    for number in range(count):
        place, size = struct.unpack_from("<qq", metadata, buffers + 4 + 16 * number)
        if size >= 8:
            announced = struct.unpack("<q", body.slice(place, 8).to_pybytes())[0]
            yield size if announced == -1 else abs(announced)


def _offset(content: bytes, place: int) -> int:
    """Where the offset that stands at `place` leads to."""
    return place + int(struct.unpack_from("<I", content, place)[0])


def _field(content: bytes, table: int, number: int) -> int:
    """Where a field of a table stands; 0 where the table lacks it."""
    directory = table - struct.unpack_from("<i", content, table)[0]
    size = struct.unpack_from("<H", content, directory)[0]
    entry = 4 + 2 * number
    inside = struct.unpack_from("<H", content, directory + entry)[0] if entry < size else 0
    return table + inside if inside else 0


def _table(content: bytes, table: int, number: int) -> int:
    """Where the table or vector begins that a field of a table holds."""
    return _offset(content, _field(content, table, number))
