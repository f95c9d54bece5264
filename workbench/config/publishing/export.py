"""The export section: a model's weights written for other tools."""

import re
from dataclasses import dataclass
from enum import Enum

from workbench.config.model import Dtype
from workbench.config.quantization import QuantizationMethod
from workbench.errors import ConfigError

ExportFormat = Enum(
    "ExportFormat",
    {"llama": "llama", "open-llama": "open-llama", "gguf": "gguf", "gguf-lora": "gguf-lora"},
)
"""llama: a folder for other tools; open-llama: this project's own; gguf: one file for llama.cpp; gguf-lora: a
LoRA for llama.cpp."""


class GgufType(Enum):
    """Number format of the matrices in a GGUF file; vectors are always float32."""

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
    r"""recipe=export: the weights of a model for other tools. Merge an adapter first.

    Example:
        python -m workbench recipe=export run_dir=runs/NAME export.format=gguf \
            export.gguf_type=q8_0
    """

    format: ExportFormat = ExportFormat.llama
    """llama: a folder for every tool that reads LLaMA, or Mistral, Qwen2 and Qwen3 if the model came as one.
    open-llama: a folder for this project. gguf: one file for llama.cpp. gguf-lora: the adapter alone, for
    llama.cpp to add to the base's GGUF file (--lora); only LoRA of linear layers."""
    path: str | None = None
    """Folder to write; with export.format=gguf or gguf-lora the file. null: `export`, `export.gguf` or
    `adapter.gguf` in the run's folder."""
    dtype: Dtype = Dtype.auto
    """Folders: number format of the weights. auto: that of each tensor, or bfloat16 if the model is a GGUF
    file."""
    quantization: QuantizationMethod = QuantizationMethod.none
    """LLaMA folders: int8, nf4 or fp4 saves the weights in 8 or 4 bits, as transformers saves bitsandbytes'
    layers: it loads the folder without further settings, and so does this project with
    model.architecture=native. Read back and compared before it is published. none: unquantized."""
    gguf_type: GgufType | None = None
    """GGUF: number format of matrices; vectors are float32. null: f16, of a LoRA f32. Smaller formats change
    answers; recipe=quantization-report measures by how much. For other types of llama.cpp write f16 or bf16
    and convert that file with llama.cpp. A LoRA is written in f16 or bf16, and with the others in f32."""
    measure: bool = True
    """GGUF: whether the file, read by llama.cpp, is compared with the model, which is loaded in float32 for
    that. Needs llama-cpp-python; without it the log says that the file wasn't compared."""
    max_shard_size: str = "4GB"
    """Folders: largest weight file, such as 500MB or 4GB."""

    @property
    def number_type(self) -> GgufType:
        """Number format of the matrices in a GGUF file."""
        is_lora = self.format is ExportFormat["gguf-lora"]
        return self.gguf_type or (GgufType.f32 if is_lora else GgufType.f16)

    @property
    def is_file(self) -> bool:
        """Whether one GGUF file is written, and not a folder."""
        return self.format in (ExportFormat["gguf"], ExportFormat["gguf-lora"])

    def __post_init__(self) -> None:
        """Raise ConfigError if the shard size is invalid, or `quantization` is given without format=llama."""
        check_size("export.max_shard_size", self.max_shard_size)
        if self.quantization is not QuantizationMethod.none and self.format is not ExportFormat.llama:
            raise ConfigError(
                f"export.quantization: {self.quantization.value!r} is for export.format=llama, not for "
                f"{self.format.value} (of gguf files export.gguf_type is the number format)"
            )


SMALLEST_SHARD_BYTES, LARGEST_SHARD_BYTES = 10**3, 10**15


def check_size(key: str, value: str) -> None:
    """Raise ConfigError if a text isn't a file size from 1KB to 1000TB for huggingface_hub, such as 4GB."""
    is_size = re.fullmatch(r"\d{1,9}(\.\d{1,9})?[KMGT]B", value, re.IGNORECASE | re.ASCII) is not None
    size_bytes = float(value[:-2]) * 1000 ** (1 + "KMGT".index(value[-2].upper())) if is_size else 0.0
    if not SMALLEST_SHARD_BYTES <= size_bytes <= LARGEST_SHARD_BYTES:
        raise ConfigError(f"{key}: {value!r} (a size from 1KB to 1000TB, such as 4GB)")
