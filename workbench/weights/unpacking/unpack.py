"""Finds the quantized layers among a model's tensors, and presents each as one weight."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.errors import CheckpointError
from workbench.weights.unpacking.unpacked_rows import BadWeightError, Format, UnpackedRows

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def unpacked(tensors: Mapping[str, Any], kind: Format, path: Path) -> dict[str, Any]:
    """Return the tensors of a model, with one UnpackedRows `LAYER.weight` for each quantized layer.

    It replaces the tensors that the layer's quantized weight consists of; tensors that no weight depends on
    (`kind.dropped`) are left out.

    Args:
        tensors: Name -> tensor in the model's files; the weights among them aren't read.
        kind: How the layers are quantized.
        path: The model's folder, for messages.

    Raises:
        CheckpointError: No layer is quantized so, tensors of a layer are missing or don't fit together, or a
            weight of integers has no scales.
    """
    layers = {
        name.removesuffix(marker): None
        for name in tensors
        for marker in kind.markers
        if name.endswith(marker)
    }
    if not layers:
        raise CheckpointError(
            f"{path}: config.json says that the weights are quantized by {kind.method!r}, but no layer has "
            f"a tensor {' or '.join(marker.removeprefix('.') for marker in kind.markers)}"
        )
    others = dict(tensors)
    weights: dict[str, Any] = {}
    for layer in layers:
        named = {f"{layer}{suffix}": part for suffix, part in kind.suffixes.items()}
        parts = {part: others.pop(name) for name, part in named.items() if name in others}
        where = f"{path}: {layer} ({kind.method})"
        try:
            shape = kind.shape(parts)
        except BadWeightError as error:
            raise CheckpointError(f"{where}: {error}") from error
        weights[f"{layer}.weight"] = UnpackedRows(name=where, parts=parts, format=kind, shape=shape)
    others = {name: tensor for name, tensor in others.items() if not name.endswith(kind.dropped)}
    for name, tensor in others.items():
        if name.endswith(".weight") and tensor.dtype not in FLOATS:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: {name} is {dtype}, and no scales are beside it ({kind.method})")
    return {**others, **weights}
