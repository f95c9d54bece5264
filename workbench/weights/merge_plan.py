"""Describes a merge tensor by tensor, as JSON that another process can read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from workbench.weights.as_trained import Quantized
from workbench.weights.file_tensors import DTYPES, NAMES, FileTensor
from workbench.weights.gguf_rows import GgufRows
from workbench.weights.lora_update import LoraUpdate, Replacement, Update

Source = FileTensor | GgufRows


@dataclass(frozen=True, kw_only=True)
class LoraTensors:
    """Names of a LoRA's tensors in the adapter file."""

    down: str
    up: str
    scale: float
    magnitude: str | None = None
    is_transposed: bool = False

    def read(self, adapter: Mapping[str, FileTensor]) -> Update:
        """Read the update in float32."""
        return LoraUpdate(
            down=adapter[self.down][...].float(),
            up=adapter[self.up][...].float(),
            scale=self.scale,
            magnitude=adapter[self.magnitude][...].float().view(-1) if self.magnitude else None,
            is_transposed=self.is_transposed,
        )


@dataclass(frozen=True, kw_only=True)
class ReplacedTensor:
    """Name of a weight, or of rows of it, that replace the base's."""

    values: str
    numbers: tuple[int, ...] | None = None

    def read(self, adapter: Mapping[str, FileTensor]) -> Update:
        """Read the trained values."""
        return Replacement(values=adapter[self.values][...], numbers=self.numbers)


UpdateTensors = LoraTensors | ReplacedTensor


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """One tensor of the merged model."""

    source: Source
    quantized: Quantized | None = None
    """How the training quantizes it; None: not at all."""
    update: UpdateTensors | None = None
    """What the adapter does to it; None: nothing."""


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """All tensors of a merged model."""

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

    def as_json(self) -> dict[str, Any]:
        """Return the plan as values of JSON."""
        return {
            "tensors": {name: _entry(tensor) for name, tensor in self.tensors.items()},
            "adapter": str(self.adapter),
            "base_dtype": NAMES[self.base_dtype],
            "dtype": NAMES[self.dtype],
            "device": str(self.device),
        }


def plan_of(values: Mapping[str, Any]) -> MergePlan:
    """Return the plan that `as_json` has described."""
    return MergePlan(
        tensors={name: _planned(entry) for name, entry in values["tensors"].items()},
        adapter=Path(values["adapter"]),
        base_dtype=DTYPES[values["base_dtype"]],
        dtype=DTYPES[values["dtype"]],
        device=torch.device(values["device"]),
    )


def _entry(tensor: PlannedTensor) -> dict[str, Any]:
    source = tensor.source
    stored_at: dict[str, Any] = {"file": str(source.file), "name": source.name, "start": source.start}
    stored_at["shape"] = list(source.shape)
    if isinstance(source, FileTensor):
        stored_at["dtype"] = NAMES[source.dtype]
    else:
        stored_at |= {
            "num_bytes": source.num_bytes,
            "gguf": source.quantization,
            "num_heads": source.num_heads,
        }
    quantized = tensor.quantized
    quantization = (
        {**asdict(quantized), "compute_dtype": NAMES[quantized.compute_dtype]} if quantized else None
    )
    update = asdict(tensor.update) if tensor.update is not None else None
    return {"source": stored_at, "quantized": quantization, "update": update}


def _planned(entry: Mapping[str, Any]) -> PlannedTensor:
    stored_at, quantization, update = entry["source"], entry["quantized"], entry["update"]
    file, name, shape, start = (
        Path(stored_at["file"]),
        stored_at["name"],
        tuple(stored_at["shape"]),
        stored_at["start"],
    )
    source: Source
    if "gguf" in stored_at:
        source = GgufRows(
            file, name, shape, start, stored_at["num_bytes"], stored_at["gguf"], stored_at["num_heads"]
        )
    else:
        source = FileTensor(file, name, DTYPES[stored_at["dtype"]], shape, start)
    quantized = (
        Quantized(**{**quantization, "compute_dtype": DTYPES[quantization["compute_dtype"]]})
        if quantization
        else None
    )
    return PlannedTensor(source=source, quantized=quantized, update=_update(update) if update else None)


def _update(values: Mapping[str, Any]) -> UpdateTensors:
    if "down" in values:
        return LoraTensors(**values)
    numbers = values["numbers"]
    return ReplacedTensor(values=values["values"], numbers=None if numbers is None else tuple(numbers))
