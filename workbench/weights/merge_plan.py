"""Describes a merge tensor by tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from workbench.weights.as_trained import Quantized
from workbench.weights.file_tensors import FileTensor
from workbench.weights.fused_rows import FusedRows
from workbench.weights.gguf_rows import GgufRows
from workbench.weights.lora_update import LoraUpdate, Replacement, Update
from workbench.weights.normalized_rows import NormalizedRows
from workbench.weights.unpacking.unpacked_rows import UnpackedRows

Source = FileTensor | GgufRows | FusedRows | NormalizedRows | UnpackedRows


@dataclass(frozen=True, kw_only=True)
class LoraTensors:
    """LoRA or DoRA update of one weight: names of its tensors in the adapter file, and its scale."""

    down: str
    up: str
    scale: float
    magnitude: str | None = None
    is_transposed: bool = False

    def read(self, adapter: Mapping[str, FileTensor]) -> Update:
        """Read the update's tensors from the adapter file, in float32."""
        return LoraUpdate(
            down=adapter[self.down][...].float(),
            up=adapter[self.up][...].float(),
            scale=self.scale,
            magnitude=adapter[self.magnitude][...].float().view(-1) if self.magnitude else None,
            is_transposed=self.is_transposed,
        )


@dataclass(frozen=True, kw_only=True)
class ReplacedTensor:
    """Name of the tensor in the adapter file that replaces a weight, or the rows `numbers` of it."""

    values: str
    numbers: tuple[int, ...] | None = None

    def read(self, adapter: Mapping[str, FileTensor]) -> Update:
        """Read the trained values from the adapter file, in their dtype."""
        return Replacement(values=adapter[self.values][...], numbers=self.numbers)


UpdateTensors = LoraTensors | ReplacedTensor


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """One tensor of the merged model: its source, its quantization in training, and the adapter's update."""

    source: Source
    quantized: Quantized | None = None
    """How the training quantizes it; None: not at all."""
    update: UpdateTensors | None = None
    """What the adapter does to it; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """All tensors of a merged model, with the dtypes of base and merged model."""

    tensors: dict[str, PlannedTensor]
    """Name in the merged model -> where it comes from."""
    adapter: Path
    """The adapter's safetensors file."""
    base_dtype: torch.dtype
    """Dtype of the base in training."""
    dtype: torch.dtype
    """Dtype of the merged weights."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the training quantizes."""
