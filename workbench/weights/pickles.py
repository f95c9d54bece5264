"""Reads torch pickles without executing code and without unpacking more than the file's size."""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workbench.errors import CheckpointError

UNPICKLED = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile),
)
"""Exceptions that torch raises for a damaged pickle, besides UnpicklingError."""

MAX_PICKLE = 100_000_000
"""Maximum bytes that are checked of the pickle at the start of a file of torch before 1.6."""

NO_TENSORS = (b"bytearray",)
"""Names in a pickle that create objects of any size, which no state dictionary contains."""


def read_pickle(file: Path) -> Any:
    """Return the value in a file that `torch.save` wrote, with its tensors on the CPU; no code is executed.

    Tensors are memory-mapped, unless a torch before 1.6 wrote the file.

    Raises:
        CheckpointError: The pickle contains more than tensors, or the file is truncated or damaged.
    """
    is_zip = zipfile.is_zipfile(file)  # since torch 1.6; older files can't be mapped
    try:
        _check_pickle(file, is_zip)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if _begins_as_zip(file) and not is_zip:
            raise CheckpointError(f"{file}: truncated, the end of the archive is missing") from error
        name = re.search(r"GLOBAL (\S+)", str(error))
        content = f"code, {name[1]}" if name else "more than tensors"
        raise CheckpointError(f"{file}: the pickle contains {content} (only tensors are read)") from error
    except UNPICKLED as error:
        raise CheckpointError(f"{file}: truncated or damaged, not a pickle of tensors") from error


def _check_pickle(file: Path, is_zip: bool) -> None:
    """Check that reading a file of `torch.save` can't take more memory than the file has bytes.

    Raises:
        CheckpointError: An entry of the archive is compressed or incomplete, or the pickle names a type that
            creates objects of any size (`NO_TENSORS`).
    """
    if any(name in data for data in _pickles(file, is_zip) for name in NO_TENSORS):
        raise CheckpointError(f"{file}: the pickle contains more than tensors (only tensors are read)")


def _pickles(file: Path, is_zip: bool) -> Iterator[bytes]:
    """Yield the bytes that torch unpickles: the archive's data.pkl, or the start of a file before torch 1.6.

    Raises:
        CheckpointError: An entry of the archive is compressed, or the archive is incomplete.
    """
    if not is_zip:
        with file.open("rb") as handle:
            yield handle.read(MAX_PICKLE)
        return
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if compressed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
            raise CheckpointError(
                f"{file}: its entry {compressed[0]!r} is compressed (torch never compresses)"
            )
        if (total := sum(entry.file_size for entry in entries)) > size:
            raise CheckpointError(f"{file}: truncated or damaged, has {size:,} of {total:,} bytes")
        yield from (archive.read(entry) for entry in entries if entry.filename.endswith("data.pkl"))


def _begins_as_zip(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(2) == b"PK"
