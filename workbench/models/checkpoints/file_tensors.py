"""Tensors of safetensors files that are read one at a time, and not kept mapped."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Name of a dtype in a safetensors file -> torch's dtype."""


@dataclass(frozen=True)
class FileTensor:
    """Tensor in a safetensors file, read when it is indexed."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return the tensor; the index is `...`."""
        with safe_open(self.file, framework="pt") as tensors:
            return tensors.get_tensor(self.name)  # type: ignore[no-any-return]


def file_tensors(files: Iterable[Path]) -> dict[str, FileTensor]:
    """Return the tensors of safetensors files by name, of which only the headers are read.

    Raises:
        CheckpointError: A file is missing, truncated or damaged, or has a dtype that torch doesn't have.
    """
    found: dict[str, FileTensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    header = tensors.get_slice(name)
                    dtype = DTYPES[header.get_dtype()]
                    found[name] = FileTensor(file, name, tuple(header.get_shape()), dtype)
        except KeyError as error:
            raise CheckpointError(f"{file}: the dtype {error} is not supported") from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file}: truncated or damaged ({error})") from error
    return found
