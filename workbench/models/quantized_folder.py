"""Saves a model folder in 8 or 4 bits in the format of transformers and bitsandbytes, and verifies it."""

from pathlib import Path

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from transformers import PreTrainedModel

from workbench.config.model import Task
from workbench.config.quantization import QuantizationConfig
from workbench.errors import CheckpointError
from workbench.models.auto_model import CLASSES
from workbench.models.quantization import bitsandbytes_config, float_weight, stored_bytes


def save_quantized(
    source: Path,
    folder: Path,
    task: Task,
    quantization: QuantizationConfig,
    device: torch.device,
    max_shard_size: str,
) -> int:
    """Quantize the model in `source`, write it to `folder`, and verify that it reads back equal.

    Args:
        source: Folder of an unquantized LLaMA.
        folder: Existing folder to write weights and configuration to.
        task: `model.task`, which decides the class.
        quantization: Section `quantization`, with a method other than `none`.
        device: Device on which the model is quantized.
        max_shard_size: Largest size of a weight file, such as 4GB.

    Returns:
        Size of the weights in bytes.

    Raises:
        CheckpointError: The folder reads back as other weights.
    """
    whole = CLASSES[task].from_pretrained(source, dtype="auto", device_map="meta")
    model = CLASSES[task].from_pretrained(
        source,
        dtype=whole.dtype,
        device_map={"": device},
        quantization_config=bitsandbytes_config(quantization, whole.dtype),
    )
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    check_saved(model, CLASSES[task].from_pretrained(folder, dtype="auto", device_map={"": device}))
    return stored_bytes(model)


def check_saved(model: PreTrainedModel, saved: PreTrainedModel) -> None:
    """Check that a loaded model has the same weights as the one that was saved, dequantized and bit by bit.

    One dequantized weight is in memory at a time.

    Raises:
        CheckpointError: A weight differs.
    """
    there = dict(saved.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit | Linear8bitLt):
            ours, theirs = (float_weight(layer, model.dtype) for layer in (module, there[name]))
            is_same = type(there[name]) is type(module) and torch.equal(ours, theirs)
        else:
            own = dict(there[name].named_parameters(recurse=False))
            is_same = all(
                torch.equal(own[key], parameter) and own[key].dtype == parameter.dtype
                for key, parameter in module.named_parameters(recurse=False)
            )
        if not is_same:
            raise CheckpointError(
                f"export: {name} reads back as other weights, so nothing is published (please report this)"
            )
