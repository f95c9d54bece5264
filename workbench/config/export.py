"""The export section: a model's weights written for other tools."""

import re
from dataclasses import dataclass
from enum import Enum

from workbench.config.model import Dtype
from workbench.errors import ConfigError

ExportFormat = Enum("ExportFormat", {"llama": "llama", "open-llama": "open-llama", "gguf": "gguf"})
"""llama: a folder for every LLaMA tool; open-llama: this project's own; gguf: one file for llama.cpp."""


class GgufType(Enum):
    """How a GGUF file holds the matrices; vectors are float32 always."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"
    q5_1 = "q5_1"
    q5_0 = "q5_0"
    q4_1 = "q4_1"
    q4_0 = "q4_0"


@dataclass(kw_only=True)
class ExportConfig:
    """The weights of `model.path`, unquantized and without an adapter (merge one first)."""

    format: ExportFormat = ExportFormat.llama
    """llama, open-llama or gguf."""
    path: str | None = None
    """The folder, or with gguf the file, to write; None: `export` or `export.gguf` in the run's folder."""
    dtype: Dtype = Dtype.auto
    """Number format of a folder's weights; auto: each tensor's own, bfloat16 from a GGUF file."""
    gguf_type: GgufType = GgufType.q8_0
    """Number format of a GGUF file's matrices; llama.cpp makes its other types from f16 or bf16."""
    max_shard_size: str = "4GB"
    """Largest file of a folder, such as `500MB` or `4GB`."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a value can't be meant."""
        check_size("export.max_shard_size", self.max_shard_size)


SMALLEST_SHARD_BYTES, LARGEST_SHARD_BYTES = 10**3, 10**15


def check_size(key: str, value: str) -> None:
    """Raise ConfigError where a file size isn't one as huggingface_hub reads it."""
    is_size = re.fullmatch(r"\d{1,9}(\.\d{1,9})?[KMGT]B", value, re.IGNORECASE | re.ASCII) is not None
    size_bytes = float(value[:-2]) * 1000 ** (1 + "KMGT".index(value[-2].upper())) if is_size else 0.0
    if not SMALLEST_SHARD_BYTES <= size_bytes <= LARGEST_SHARD_BYTES:
        raise ConfigError(f"{key}: {value!r} (a size from 1KB to 1000TB, such as 4GB)")
