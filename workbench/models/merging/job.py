"""What one merge is made from, and what making it gives for its proof."""

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
"""Float32 logits (N, V) in blocks of positions, in memory or in files."""
ADAPTER_MODEL, DEQUANTIZED = "adapter model", "dequantized base + adapter"
"""References of the proof; the second for int8 on CUDA, whose logits depend on the batch."""


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """Base, adapter, and the texts on which the merged model is compared with them."""

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
        """Whether the adapter model's logits depend on the other texts of a batch (int8 on CUDA)."""
        is_int8 = self.quantization.method is QuantizationMethod.int8
        return is_int8 and torch_device(self.model.device).type == "cuda"

    @property
    def reference(self) -> str:
        """Name of the model that the merged model is compared with: `ADAPTER_MODEL` or `DEQUANTIZED`."""
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
    """Results of writing a merged model: how much rounding left of the changes, and logits of all models."""

    signals: dict[str, Signal] = field(default_factory=dict)
    """Weight that the adapter changes -> what rounding left of the change."""
    base: Logits = ()
    """The base's weights as in training, computed in float32; of a classifier, with the trained head."""
    adapter: Logits = ()
    """The adapter model; empty if its logits depend on the batch, or if it is `unmerged`."""
    unmerged: Logits = ()
    """Base + adapter in float32."""
    total: Logits = ()
    """Sum of both in float32."""
    rounded: dict[torch.dtype, Logits] = field(default_factory=dict)
    """The sum, rounded to the dtype that is saved and to the adapter model's."""
    reloaded: Logits = ()
    """The folder read back."""
    merged: Logits = ()
    """The folder's weights, computed in float32."""
    device: torch.device = torch.device("cpu")
    """Where the logits of the rounded sum were computed."""

    def all_signals(self) -> Signal:
        """Return the sum of the signals of all changed weights."""
        return sum(self.signals.values(), Signal())
