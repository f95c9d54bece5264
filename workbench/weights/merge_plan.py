"""Describes a merge: for each tensor of the merged model, its source and the adapter's update."""

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
"""Tensor in a file: `[...]` reads it entirely, `rows` some of its rows."""


@dataclass(frozen=True, kw_only=True)
class LoraTensors:
    """LoRA or DoRA update of one weight, by the names of its tensors in the adapter file."""

    down: str
    """Name of A."""
    up: str
    """Name of B."""
    scale: float
    """Factor of B·A."""
    magnitude: str | None = None
    """Name of DoRA's magnitudes; None: a LoRA."""
    is_transposed: bool = False
    """As in LoraUpdate."""

    def read(self, adapter: Mapping[str, FileTensor]) -> Update:
        """Read the update in float32 from the tensors of the adapter file, `adapter`."""
        return LoraUpdate(
            down=adapter[self.down][...].float(),
            up=adapter[self.up][...].float(),
            scale=self.scale,
            magnitude=adapter[self.magnitude][...].float().view(-1) if self.magnitude else None,
            is_transposed=self.is_transposed,
        )


@dataclass(frozen=True, kw_only=True)
class ReplacedTensor:
    """Replacement of one weight, or of some of its rows, by a tensor of the adapter file."""

    values: str
    """Name of this tensor."""
    numbers: tuple[int, ...] | None = None
    """Indices of the rows that it replaces; None: all."""

    def read(self, adapter: Mapping[str, FileTensor]) -> Update:
        """Read the replacement in its stored dtype from the tensors of the adapter file, `adapter`."""
        return Replacement(values=adapter[self.values][...], numbers=self.numbers)


UpdateTensors = LoraTensors | ReplacedTensor


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """One tensor of the merged model: its source, its quantization in training, and the adapter's update."""

    source: Source
    """The base's tensor; the adapter's, of a layer that only the adapter has."""
    quantized: Quantized | None = None
    """How the training quantizes it; None: not at all."""
    update: UpdateTensors | None = None
    """What the adapter does to it; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """All tensors of a merged model, with the dtypes of base and merged model; nothing is read yet."""

    tensors: dict[str, PlannedTensor]
    """Name in the merged model -> plan of this tensor."""
    adapter: Path
    """The adapter's safetensors file."""
    base_dtype: torch.dtype
    """Dtype of the base in training."""
    dtype: torch.dtype
    """Dtype of the merged weights."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device on which the training quantizes."""
