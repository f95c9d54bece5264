"""Forecasts memory and disk space of merging the planned adapter, from the configuration alone."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from workbench.config.quantization import QuantizationMethod
from workbench.machine import resident_bytes
from workbench.models.merging.layered_model import blocks
from workbench.models.merging.merge import PROBE_BATCH, PROBE_TOKENS
from workbench.training.estimate.memory import Setting, trained_weights

DEQUANTIZED_BYTES = 8.5
"""Bytes per weight while a quantized layer is merged. Four copies exist at once: as stored (2 bytes), packed
in 4 bits, in 16 bits again, and in float32."""
FLOAT32 = 4
MERGING_BYTES = 40 * 10**6
"""What a merge loads on top of the libraries of models: tokenizer, modules, layers without weights, buffers.
Measured: 32 MB with a tiny model, 50 MB with 3 billion parameters."""
COPIED_BYTES = 2
"""Bytes per weight of the largest matrix, which its product copies into a layout of its own. Without them the
forecast was 12% and 15% below what merges of 3 and 7 billion parameters took; with them it is 4% above and 2%
below, and 10% above with 550 million."""


@dataclass(frozen=True, kw_only=True)
class MergeForecast:
    """Memory and disk space that a merge takes, in bytes."""

    memory: int
    """Peak memory of the process while the weights are written."""
    proof_memory: int
    """Peak memory of the process during the proof, which computes a layer at a time in float32."""
    disk: int
    """Size of the merged model's weights."""


def forecast_merge(
    model: PreTrainedModel, setting: Setting, bytes_per_weight: int, longest: int, bytes_at_start: int
) -> MergeForecast:
    """Return the memory and disk space that merging a planned adapter takes.

    Args:
        model: The base, which may be on the meta device.
        setting: The planned training.
        bytes_per_weight: Bytes of a merged weight.
        longest: Number of tokens of the longest row.
        bytes_at_start: Memory of a process with the libraries of models, but without those of rows, which
            only the proof loads.

    Raises:
        NotStreamable: The adapter or base can't be merged tensor by tensor, so the proof takes the whole
            model.
    """
    shape, process = setting.shape, resident_bytes()  # with rows and their libraries, as during the proof
    is_quantized = setting.quantization.method is not QuantizationMethod.none
    largest = max((layer.weights for layer in shape.linear), default=0)
    layer = int(DEQUANTIZED_BYTES * largest) if is_quantized else 0
    block = max(sum(weight.numel() for weight in block.parameters()) for _, block in blocks(model))
    largest_matrix = max((weight.numel() for weight in model.parameters() if weight.dim() == 2), default=0)
    adapter = 2 * trained_weights(setting)  # as read, and in the model
    outputs = shape.outputs or shape.vocabulary * min(longest, PROBE_TOKENS)
    logits = 2 * PROBE_BATCH * outputs  # with padding, and without it
    return MergeForecast(
        memory=bytes_at_start + MERGING_BYTES + layer,
        proof_memory=process + layer + FLOAT32 * (block + adapter + logits) + COPIED_BYTES * largest_matrix,
        disk=model.num_parameters() * bytes_per_weight,
    )
