"""Checks the header of a GGUF file against the file's size, before memory for its content is allocated.

Source of the layout: github.com/ggml-org/ggml, docs/gguf.md.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from workbench.errors import CheckpointError

SCALARS = {
    **dict.fromkeys((GGUFValueType.UINT8, GGUFValueType.INT8, GGUFValueType.BOOL), 1),
    **dict.fromkeys((GGUFValueType.UINT16, GGUFValueType.INT16), 2),
    **dict.fromkeys((GGUFValueType.UINT32, GGUFValueType.INT32, GGUFValueType.FLOAT32), 4),
    **dict.fromkeys((GGUFValueType.UINT64, GGUFValueType.INT64, GGUFValueType.FLOAT64), 8),
}
"""Type of a number -> its size in bytes."""
MAX_ITEMS = 1_500_000
"""Largest number of items in all arrays together; the largest vocabularies have about a million. Reading
an item takes about 10 microseconds and a kilobyte of memory."""
MAX_KEYS = 10_000
"""Largest number of keys; models have fewer than a hundred. Reading one takes about 40 microseconds."""
MAX_TENSORS = 100_000
"""Largest number of tensors; the largest models have a few thousand."""
MERGES_PER_TOKEN = 4
"""Largest number of byte-pair merges per token; models have about 2, and a million merges take minutes."""
MAX_DIMENSIONS = 8
"""Largest number of dimensions of a tensor."""
SMALLEST_PAIR = 8 + 4 + 1
"""Bytes of the smallest key-value pair: an empty key, a type and a value of one byte."""
SMALLEST_TENSOR = 8 + 4 + 4 + 8
"""Bytes of a tensor's smallest description: empty name, number of dimensions, type and offset."""
DEFAULT_ALIGNMENT = 32
"""Alignment of tensor data, in bytes, in files that don't name one."""


@dataclass(frozen=True)
class TensorSpan:
    """Position and size of a tensor's data in a GGUF file."""

    name: str
    offset: int
    """In bytes from the end of the header, rounded up to the file's alignment."""
    num_bytes: int


class Header:
    """Parser of a GGUF header that checks every size before using it.

    Methods that read or skip move `position` forward. All raise CheckpointError if the file is damaged or too
    short.
    """

    def __init__(self, data: mmap.mmap, file: Path) -> None:
        """Start at the beginning of `data`, the content of `file`; `check` does the parsing."""
        self.data = data
        self.file = file
        self.position = 0
        self.byte_order = "<"
        self.items = 0
        self.counts: dict[str, int] = {}
        self.alignment = DEFAULT_ALIGNMENT

    def check(self) -> None:
        """Parse and check the entire header, once for each parser.

        Raises:
            CheckpointError: The header is damaged, or announces more than the file contains.
        """
        if self.data[:4] != b"GGUF":
            raise self.damaged("no GGUF magic at its beginning")
        self.position = 4
        if self.number("I") & 65535 == 0:
            self.byte_order = ">"
        num_tensors, num_pairs = self.number("Q"), self.number("Q")
        self.check_count("keys", num_pairs, SMALLEST_PAIR, MAX_KEYS)
        self.check_count("tensors", num_tensors, SMALLEST_TENSOR, MAX_TENSORS)
        for _ in range(num_pairs):
            self.pair()
        tokens, merges = (self.counts.get(f"tokenizer.ggml.{name}", 0) for name in ("tokens", "merges"))
        if merges > MERGES_PER_TOKEN * tokens:
            limit = f"at most {MERGES_PER_TOKEN} for each"
            raise self.damaged(f"has {merges:,} merges for {tokens:,} tokens ({limit})")
        self.check_spans([self.tensor() for _ in range(num_tensors)])

    def pair(self) -> None:
        """Read a key and skip its value; the value of general.alignment is checked and stored."""
        name = self.text("a key")
        kind = self.kind(name)
        if name == "general.alignment" and kind == GGUFValueType.UINT32:
            self.alignment = self.number("I")
            if self.alignment == 0 or self.alignment & (self.alignment - 1):
                raise self.damaged(f"general.alignment={self.alignment} is not a power of two")
            return
        self.value(name, kind)

    def value(self, name: str, kind: GGUFValueType) -> None:
        """Skip the value of key `name`, which has this type."""
        if kind == GGUFValueType.STRING:
            self.text(name)
        elif kind != GGUFValueType.ARRAY:
            self.skip(SCALARS[kind], name)
        else:
            self.array(name)

    def array(self, name: str) -> None:
        """Skip the array of key `name`; nested arrays are refused, since no model has them."""
        kind, count = self.kind(name), self.number("Q")
        if kind == GGUFValueType.ARRAY:
            raise self.damaged(f"the key {name!r} holds an array of arrays")
        self.check_count(f"items in {name!r}", count, SCALARS.get(kind, 8), MAX_ITEMS)
        self.items += count
        self.counts[name] = count
        if self.items > MAX_ITEMS:
            raise self.damaged(f"the arrays up to {name!r} have {self.items:,} items (at most {MAX_ITEMS:,})")
        if kind == GGUFValueType.STRING:
            for _ in range(count):
                self.text(name)
        else:
            self.skip(count * SCALARS[kind], name)

    def tensor(self) -> TensorSpan:
        """Read the description of a tensor: name, dimensions, type and offset of its data."""
        name = self.text("a tensor")
        num_dimensions = self.number("I")
        if num_dimensions > MAX_DIMENSIONS:
            raise self.damaged(
                f"the tensor {name!r} has {num_dimensions:,} dimensions (at most {MAX_DIMENSIONS})"
            )
        elements = 1
        for _ in range(num_dimensions):
            elements *= self.number("Q")
        number, offset = self.number("I"), self.number("Q")
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(number)]
        except (ValueError, KeyError) as error:
            raise self.damaged(f"the tensor {name!r} has the unknown type {number}") from error
        return TensorSpan(name, offset, elements * size // block)

    def check_spans(self, tensors: list[TensorSpan]) -> None:
        """Refuse tensors whose data end beyond the file, aren't aligned, or overlap."""
        first = -(-self.position // self.alignment) * self.alignment
        previous_end = 0
        for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.num_bytes)):
            end = tensor.offset + tensor.num_bytes
            if first + end > len(self.data):
                raise self.damaged(
                    f"the tensor {tensor.name!r} ends at byte {first + end:,} of {len(self.data):,}"
                )
            if tensor.offset % self.alignment:
                raise self.damaged(
                    f"the offset of the tensor {tensor.name!r} is not a multiple of {self.alignment} bytes"
                )
            if tensor.offset < previous_end:
                raise self.damaged(f"the tensor {tensor.name!r} overlaps the tensor before it")
            previous_end = end

    def check_count(self, what: str, count: int, smallest: int, most: int) -> None:
        """Refuse an announced `count` of items that don't fit into the rest of the file, or are over `most`.

        An item takes at least `smallest` bytes; `what` names the items in the error.
        """
        if count * smallest > len(self.data) - self.position:
            raise self.damaged(f"announces {count:,} {what}, in a file of {len(self.data):,} bytes")
        if count > most:
            raise self.damaged(f"announces {count:,} {what} (at most {most:,})")

    def kind(self, name: str) -> GGUFValueType:
        """Read the type of the value of key `name`."""
        number = self.number("I")
        try:
            return GGUFValueType(number)
        except ValueError as error:
            raise self.damaged(f"the key {name!r} has the unknown type {number}") from error

    def text(self, what: str) -> str:
        """Read a length and a string of UTF-8; a string of 1,000 bytes or more is skipped and returned as "".

        Bytes that aren't UTF-8 become U+FFFD. `what` says in the error which string is too long: `a key`,
        `a tensor`, or the key whose value it is.
        """
        length = self.number("Q")
        start = self.position
        self.skip(length, what)
        return self.data[start : self.position].decode("utf-8", "replace") if length < 1000 else ""

    def number(self, format_code: str) -> int:
        """Read an integer in the format of a `struct` code, such as I or Q, in the file's byte order."""
        start, size = self.position, struct.calcsize("<" + format_code)
        self.skip(size, "the header")
        return int(struct.unpack(self.byte_order + format_code, self.data[start : self.position])[0])

    def skip(self, size: int, what: str) -> None:
        """Move forward by `size` bytes; `what` names their content in the error."""
        if size > len(self.data) - self.position:
            left = len(self.data) - self.position
            raise self.damaged(f"{what} takes {size:,} bytes, but only {left:,} are left")
        self.position += size

    def damaged(self, reason: str) -> CheckpointError:
        """Return a CheckpointError with this reason, to be raised."""
        return CheckpointError(f"{self.file}: truncated, damaged or not a GGUF file ({reason})")


def check_header(file: Path) -> None:
    """Check that a GGUF file is as long as its header announces.

    Raises:
        CheckpointError: The header is damaged, or announces more than the file contains.
    """
    try:
        with mapped(file) as data:
            Header(data, file).check()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: truncated, damaged or not a GGUF file ({error})") from error


@contextmanager
def mapped(file: Path) -> Iterator[mmap.mmap]:
    """Map a file into memory for reading, until the block ends.

    Raises:
        OSError, ValueError: The file can't be read, or is empty.
    """
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data
