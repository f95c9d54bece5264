"""train.jsonl as TensorBoard reads it, written without it: `tensorboard --logdir runs` shows the curves.

Source of the format: a TFRecord file (tensorflow/core/lib/io/record_writer.h) of Event messages
(tensorboard/compat/proto/event.proto); a message is a sequence of (field number, wire type, value).
"""

import struct
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from workbench.files import append_bytes, write_atomic


def event_file(folder: Path) -> Path:
    """The one event file of a run."""
    return folder / "events.out.tfevents.workbench"


def begin(path: Path) -> None:
    """Write an event file with nothing in it yet, over one that is there."""
    write_atomic(path, record(double(1, time.time()) + data(3, b"brain.Event:2")))


def append(path: Path, step: int, scalars: Mapping[str, float]) -> None:
    """Add the values of one step."""
    values = b"".join(
        data(1, data(1, name.encode("utf-8")) + single(2, value)) for name, value in scalars.items()
    )
    event = double(1, time.time()) + varint(2 << 3) + varint(step) + data(5, values)
    append_bytes(path, record(event))


def record(content: bytes) -> bytes:
    """Length and content, each with its checksum."""
    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def masked(content: bytes) -> bytes:
    """The checksum as the format rotates and shifts it, so that a checksum of checksums is no fixed point."""
    checksum = crc32c(content)
    return struct.pack("<I", (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(content: bytes) -> int:
    """CRC-32 with Castagnoli's polynomial (RFC 3720, appendix B.4)."""
    table, checksum = crc_table(), 0xFFFFFFFF
    for byte in content:
        checksum = table[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return checksum ^ 0xFFFFFFFF


@cache
def crc_table() -> tuple[int, ...]:
    """The checksum of each single byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def varint(value: int) -> bytes:
    """A whole number, seven bits a byte, low ones first."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def data(field: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def double(field: int, value: float) -> bytes:
    """A field of eight bytes."""
    return varint(field << 3 | 1) + struct.pack("<d", value)


def single(field: int, value: float) -> bytes:
    """A field of four bytes."""
    return varint(field << 3 | 5) + struct.pack("<f", value)
