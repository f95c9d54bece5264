"""Writes a quantized model as an unquantized folder with the same effective weights."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from workbench.contexts import quiet_transformers
from workbench.models.merging.description import unquantized_config
from workbench.models.quantization import dequantize_state_dict


def save_dequantized(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's dequantized weights, configuration and generation config to `folder`.

    The weights have the model's dtype if that represents them exactly, else float32. `model` isn't changed.
    """
    weights = dequantize_state_dict(model)
    is_exact = all(torch.equal(weight.to(model.dtype).float(), weight) for weight in weights.values())
    with quiet_transformers():
        plain = type(model).from_pretrained(
            None,
            config=unquantized_config(model),
            state_dict=weights,
            dtype=model.dtype if is_exact else torch.float32,
        )
        if model.generation_config is not None:
            plain.generation_config = model.generation_config
        plain.save_pretrained(folder)
