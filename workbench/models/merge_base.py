"""Loads the base of a merge: its weights in float32, and the logits of the adapter model to prove against."""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models.adapters import adapter_config, attach
from workbench.models.checkpoints.generation_config import end_at
from workbench.models.loading import load_model
from workbench.models.logit_comparison import Batch, logits
from workbench.models.quantization import compute_dtype, dequantize_state_dict

ADAPTER_MODEL, DEQUANTIZED = "adapter model", "dequantized base + adapter"
"""References of the proof; the second for int8 on CUDA, whose logits depend on the batch."""


@dataclass(kw_only=True)
class MergeBase:
    """Dequantized weights of the base model, and the logits of the adapter model."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    generation_config: GenerationConfig | None
    weights: dict[str, Tensor]
    """Float32, on the CPU."""
    dtype: torch.dtype
    """Dtype that the base was loaded in."""
    adapter_dtype: torch.dtype
    """Of the dtypes that the adapter model computes in, the one with the largest rounding error."""
    adapter_logits: list[Tensor]
    """Logits of the adapter model; empty if they depend on the batch."""
    reference: str
    """`ADAPTER_MODEL` or `DEQUANTIZED`."""
    device: torch.device
    """Device with enough memory for the float32 model."""


def load_base(
    model: ModelConfig, adapter_path: str | Path, quantization: QuantizationConfig, batches: list[Batch]
) -> MergeBase:
    """Load the base as for training, collect its weights and the adapter model's logits, and free it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a new score head is random, and is replaced by the adapter's
        base = load_model(model, quantization, adapter_config.num_labels(adapter_path))
    end_at(base, adapter_config.end_tokens(adapter_path))
    weights = dequantize_state_dict(base)
    adapter_model = attach.load(base, adapter_path)
    depends_on_batch = quantization.method is QuantizationMethod.int8 and base.device.type == "cuda"
    return MergeBase(
        model_class=type(base),
        config=_unquantized_config(base),
        generation_config=base.generation_config if base.can_generate() else None,
        weights=weights,
        dtype=base.dtype,
        adapter_dtype=torch.float32 if depends_on_batch else _coarsest_dtype(base, quantization),
        adapter_logits=[] if depends_on_batch else list(logits(adapter_model, batches)),
        reference=DEQUANTIZED if depends_on_batch else ADAPTER_MODEL,
        device=_device_with_room(weights, base.device),
    )


def tensors_fingerprint(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and bytes of float32 tensors on the CPU."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _unquantized_config(base: PreTrainedModel) -> PreTrainedConfig:
    """Copy the base's configuration without its quantization."""
    config = copy.deepcopy(base.config)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        config.__dict__.pop(name, None)
    return config


def _device_with_room(weights: dict[str, Tensor], device: torch.device) -> torch.device:
    """Return `device`, or the CPU if float32 weights and some activations don't fit on it."""
    if device.type != "cuda":
        return device
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    return device if 1.3 * num_bytes < torch.cuda.mem_get_info(device)[0] else torch.device("cpu")


def _coarsest_dtype(base: PreTrainedModel, quantization: QuantizationConfig) -> torch.dtype:
    """Return the dtype with the largest rounding error among those that the adapter model computes in."""
    dtypes = {base.dtype}
    if quantization.method in (QuantizationMethod.nf4, QuantizationMethod.fp4):
        dtypes.add(compute_dtype(quantization, base.dtype))
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
