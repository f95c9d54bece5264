"""Checks the sizes that a checkpoint's files announce, before memory of that size is allocated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.errors import CheckpointError

LARGEST = {
    "num_hidden_layers": 2_000,
    "n_layer": 2_000,
    "n_layers": 2_000,
    "num_layers": 2_000,
    "num_attention_heads": 100_000,
    "num_key_value_heads": 100_000,
    "n_heads": 100_000,
    "n_kv_heads": 100_000,
    "head_dim": 100_000,
    "hidden_size": 1_000_000,
    "n_embd": 1_000_000,
    "d_model": 1_000_000,
    "dim": 1_000_000,
    "intermediate_size": 10_000_000,
    "moe_intermediate_size": 10_000_000,
    "ffn_dim": 10_000_000,
    "num_experts": 100_000,
    "num_local_experts": 100_000,
    "n_routed_experts": 100_000,
    "vocab_size": 50_000_000,
    "max_position_embeddings": 1_000_000_000,
    "n_positions": 1_000_000_000,
    "num_labels": 1_000_000,
    "sliding_window": 1_000_000_000_000,
}
"""Largest allowed value of each key in config.json: tens of times that of the largest model."""
MAX_DEPTH = 50
"""Largest number of nested objects in config.json."""


def check_sizes(description: Mapping[str, Any], file: Path) -> None:
    """Check the sizes in `description`, the content of the config.json at `file`, against LARGEST.

    Raises:
        CheckpointError: A size is too large, or nested too deeply; the message names its key.
    """
    pending: list[tuple[str, Any, int]] = [("", description, 0)]
    while pending:
        name, value, depth = pending.pop()
        if depth > MAX_DEPTH:
            first = name.partition(".")[0]
            raise CheckpointError(f"{file}: {first} is nested too deeply (at most {MAX_DEPTH} levels)")
        if isinstance(value, Mapping):
            prefix = f"{name}." if name else ""
            pending += [(f"{prefix}{key}", item, depth + 1) for key, item in value.items()]
            continue
        limit = LARGEST.get(name.rpartition(".")[2])
        if limit is None or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if value > limit or value != value:
            raise CheckpointError(f"{file}: {name}={value!r:.40} (at most {limit:,})")


def check_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Check that tensors from a pickle are dense, and not larger than the bytes that the file has for them.

    Raises:
        CheckpointError: A tensor fails the check; the message names `file` and the tensor.
    """
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided:
            raise CheckpointError(f"{file}: {name} is not stored as a plain tensor ({tensor.layout})")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            shape = tuple(tensor.shape)
            raise CheckpointError(f"{file}: {name} has the shape {shape}, but the file has fewer values")
