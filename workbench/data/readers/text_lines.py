"""Reads numbered lines of text files in UTF-8, or in UTF-16 and UTF-32 with a byte order mark."""

import codecs
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from workbench.errors import DataError

LONGEST_LINE_BYTES = 32 * 2**20

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order mark -> encoding; a file without a mark is UTF-8."""


def numbered_lines(
    path: Path, limit: int | None = LONGEST_LINE_BYTES, *, free_lines: int = 0
) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of a text file; a line has its line end, but no byte order mark.

    Args:
        path: The file.
        limit: Longest line in bytes; None: no limit.
        free_lines: Number of lines at the start that may be longer.

    Raises:
        DataError: The file can't be read, a line is too long, or bytes are not text.
    """
    try:
        with path.open("rb") as file:
            encoding = marked_encoding(file)
            end = "\n".encode(encoding)
            for number, line in enumerate(byte_lines(file, end, path, limit, free_lines), start=1):
                yield number, decoded(line, encoding, path, number)
    except OSError as error:
        raise DataError(f"{path}: can't be read, {error.strerror}") from error


def marked_encoding(file: BinaryIO) -> str:
    """Return the encoding that a file's byte order mark names, else "utf-8"; seek to the end of the mark."""
    start = file.read(4)
    mark = next((mark for mark in MARKS if start.startswith(mark)), b"")
    file.seek(len(mark))
    return MARKS.get(mark, "utf-8")


def byte_lines(file: BinaryIO, end: bytes, path: Path, limit: int | None, free_lines: int) -> Iterator[bytes]:
    """Yield a file's lines as bytes with their line ends; a line that is too long is not read into memory.

    Args:
        file: The open file, after its byte order mark.
        end: Line end in the file's encoding.
        path: Its path, for the message.
        limit: Longest line in bytes; None: no limit.
        free_lines: Number of lines at the start that may be longer.

    Raises:
        DataError: A line is too long.
    """
    number = 1
    while line := whole_line(file, end, most := -1 if limit is None or number <= free_lines else limit + 1):
        if limit is not None and 0 <= most <= len(line):
            size = len(line)
            while not line.endswith(b"\n") and (line := file.readline(most)):
                size += len(line)
            raise DataError(
                f"{path}:{number}: a line of {size / 2**20:.0f} MiB (at most {limit // 2**20} MiB)"
            )
        yield line
        number += 1


def whole_line(file: BinaryIO, end: bytes, most: int) -> bytes:
    """Read up to the next line end, or a little over `most` bytes of a longer line, in any encoding.

    In UTF-16 a byte 0x0a can also be half of another character.

    Args:
        file: The open file.
        end: Line end in the file's encoding.
        most: Most bytes to read; -1: no limit.
    """
    line = file.readline(most)
    if len(end) == 1:
        return line
    if end[0] == 0x0A:  # little-endian: the other bytes of the line end come after it
        line += file.read((-len(line)) % len(end))
    while line and not (line.endswith(end) and len(line) % len(end) == 0):
        more = file.readline(most)
        more += file.read((-len(line) - len(more)) % len(end)) if more and end[0] == 0x0A else b""
        if not more or 0 <= most < len(line):
            return line + more
        line += more
    return line


def decoded(line: bytes, encoding: str, path: Path, number: int) -> str:
    """Decode the bytes of one line.

    Raises:
        DataError: The bytes are not text in this encoding, or contain a NUL character.
    """
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at position {error.start}"
        raise DataError(
            f"{path}:{number}: not {encoding.upper().removesuffix('-LE').removesuffix('-BE')}, {byte} (in "
            "Excel, save it as 'CSV UTF-8'; elsewhere, GB18030 of a Chinese Windows is converted by "
            f"iconv -f gb18030 -t utf-8 {shlex.quote(str(path))} > NEW{path.suffix})"
        ) from error
    if "\0" in text:
        raise DataError(
            f"{path}:{number}: a NUL character at position {text.index(chr(0))} (not a text file, or UTF-16 "
            "without a byte order mark; save it as UTF-8)"
        )
    return text


def whole_text(path: Path) -> str:
    """Return the decoded text of a file, without its byte order mark; it is "" for an empty file.

    Raises:
        DataError: The file can't be read, or is not text.
    """
    return "".join(line for _, line in numbered_lines(path, limit=None))
