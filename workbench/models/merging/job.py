"""Input of a merge (MergeJob), and what its proof compares (Made)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from workbench.config.model import ModelConfig
from workbench.config.quantization import QuantizationConfig, QuantizationMethod
from workbench.models.device import torch_device
from workbench.models.logit_comparison import Batch
from workbench.models.quantization import compute_dtype
from workbench.weights.signal import Signal

Logits = Sequence[Tensor]
"""Float32 logits of one model, in blocks (N, V) of N positions, in memory or in files."""
ADAPTER_MODEL, DEQUANTIZED = "adapter model", "dequantized base + adapter"
"""Names of the models that a merged model may be compared with.

The second is for int8 on CUDA, since its logits depend on the other texts of a batch.
"""


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """Base, adapter, dtypes, and the probe texts on which the merged model is compared with them."""

    model: ModelConfig
    """The base, as for training."""
    adapter_path: str | Path
    quantization: QuantizationConfig
    """As for training: the adapter has learned to compensate this quantization's errors."""
    base_dtype: torch.dtype
    """Dtype of the base in training."""
    dtype: torch.dtype
    """Dtype of the merged weights."""
    batches: list[Batch]
    """Encoded probe texts; empty: only the weights are proven."""

    @property
    def depends_on_batch(self) -> bool:
        """Return whether the adapter model's logits depend on the other texts of a batch (int8 on CUDA).

        Raises:
            DeviceError: `model.device` is CUDA, which this machine lacks.
        """
        is_int8 = self.quantization.method is QuantizationMethod.int8
        return is_int8 and torch_device(self.model.device).type == "cuda"

    @property
    def reference(self) -> str:
        """Return the name of the model to compare the merged one with: DEQUANTIZED for int8 on CUDA.

        Else it is ADAPTER_MODEL, also for int8 on a CPU.
        """
        return DEQUANTIZED if self.depends_on_batch else ADAPTER_MODEL

    @property
    def adapter_dtype(self) -> torch.dtype:
        """Return the dtype with the largest rounding error among those that the adapter model computes in."""
        if self.depends_on_batch:
            return torch.float32
        dtypes = {self.base_dtype}
        if self.quantization.method in (QuantizationMethod.nf4, QuantizationMethod.fp4):
            dtypes.add(compute_dtype(self.quantization, self.base_dtype))
        return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


@dataclass(kw_only=True)
class Made:
    """Results of writing a merged model: how much of the changes rounding left, and logits.

    The logits are those of several models on the probe texts; all are empty without such texts.
    """

    signals: dict[str, Signal] = field(default_factory=dict)
    """Name of each weight that the adapter changes -> how much of the change rounding left."""
    base: Logits = ()
    """Of the base with its weights in training, computed in float32; a classifier has the trained head."""
    adapter: Logits = ()
    """Of the adapter model; empty if they depend on the batch, or if it computes in float32 as `unmerged`."""
    unmerged: Logits = ()
    """Of the base with the adapter's layers, computed in float32."""
    total: Logits = ()
    """Of the sum of both, merged in float32."""
    rounded: dict[torch.dtype, Logits] = field(default_factory=dict)
    """Dtype -> logits of the sum rounded to it: float32, the saved dtype and the adapter model's."""
    reloaded: Logits = ()
    """Of the folder read back, computed in the saved dtype; empty after `merge_whole`."""
    merged: Logits = ()
    """Of the folder's weights, computed in float32."""
    device: torch.device = torch.device("cpu")
    """Device on which the logits of the rounded sum were computed."""

    def all_signals(self) -> Signal:
        """Return the signal over all changed weights together; all its sums are 0 if there are none."""
        return sum(self.signals.values(), Signal())
