"""Pickles of torch, read without executing anything and without unpacking more than the file holds."""

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
"""What torch raises at a damaged pickle, besides UnpicklingError."""

MAX_PICKLE = 100_000_000
"""Bytes at the beginning of an older file, before its tensors."""

NO_TENSORS = (b"bytearray",)
"""Names in a pickle that make what no state dictionary holds, in any size."""


def read_pickle(file: Path) -> Any:
    """The value in a file that `torch.save` wrote, its tensors mapped into memory; nothing is executed.

    Raises:
        CheckpointError: the pickle holds more than tensors, or the file is truncated or damaged.
    """
    zipped = zipfile.is_zipfile(file)  # since torch 1.6; older files can't be mapped
    try:
        _check_pickle(file, zipped)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if _begins_as_zip(file) and not zipped:
            raise CheckpointError(f"{file}: truncated, the end of the archive is missing") from error
        found = re.search(r"GLOBAL (\S+)", str(error))
        code = f"code, {found[1]}" if found else "more than tensors"
        raise CheckpointError(f"{file}: refused, this pickle holds {code} (only tensors are read)") from error
    except UNPICKLED as error:
        raise CheckpointError(f"{file}: truncated or damaged, no pickled tensors") from error


def _check_pickle(file: Path, zipped: bool) -> None:
    """Refuse a file of pickled tensors that unpacks to more than it is.

    Raises:
        CheckpointError: it does.
    """
    if any(name in data for data in _pickles(file, zipped) for name in NO_TENSORS):
        raise CheckpointError(f"{file}: refused, this pickle holds more than tensors (only tensors are read)")


def _pickles(file: Path, zipped: bool) -> Iterator[bytes]:
    """What torch unpickles of a file: in an archive one entry, else what the file begins with."""
    if not zipped:
        with file.open("rb") as handle:
            yield handle.read(MAX_PICKLE)
        return
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
            raise CheckpointError(f"{file}: refused, {packed[0]!r} in it is compressed (torch never does)")
        if (announced := sum(entry.file_size for entry in entries)) > size:
            raise CheckpointError(f"{file}: truncated or damaged, holds {size:,} of {announced:,} bytes")
        yield from (archive.read(entry) for entry in entries if entry.filename.endswith("data.pkl"))


def _begins_as_zip(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(2) == b"PK"
