"""Computes on the CPU what a model would otherwise read from its device, at the price of waiting for it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.config.names import IGNORED


def known_values(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return further keyword arguments for `model`: the texts' lengths and the positions with a label.

    They are `text_lengths` and `label_positions` of Open-Llama; empty for other models and for padded rows.

    Args:
        model: The model, adapted or not.
        inputs: A batch on the CPU, joined to one row.
    """
    if "position_ids" not in inputs or not getattr(model, "takes_known_values", False):
        return {}
    position_ids, labels = inputs["position_ids"][0], inputs["labels"][0]  # (tokens,)
    begins = torch.nonzero(position_ids.diff(prepend=position_ids[:1]) != 1).flatten()  # of the texts
    return {
        "text_lengths": begins.diff(append=torch.tensor([len(position_ids)])).tolist(),
        "label_positions": torch.nonzero(labels[1:] != IGNORED).flatten(),
    }


def on_device(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the inputs with all tensors on `device`; the CPU doesn't wait for copies of pinned memory."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }
