"""Computes attention of packed texts of any lengths with one kernel call, where PyTorch has such a kernel.

Shapes: T tokens of the batch, A query heads, G key/value heads, D head width, N texts.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from torch import Tensor

Kernel = Callable[..., Tensor]
"""Causal attention (T, A, D) of queries (T, A, D), and keys and values (T, G, D).

Further arguments: offsets of the texts (N + 1,) in int32, the longest text's length, the number of keys that
a query attends to with its own (None: all), the factor on the scores, and, where texts have more keys than
queries, offsets of the keys and the largest number of a text's keys. The last query attends to all keys of
its text, and each query before it to one key less.
"""

MODULE = "torch.nn.attention.varlen"
MAX_WIDTH = 256  # of a head, in multiples of 8: the limits of flash attention


def takes(query: Tensor, dropout: float) -> bool:
    """Return whether `torch_kernel` supports a call with gradients.

    Args:
        query: (..., D).
        dropout: Probability of dropping an attention probability, which must be 0.
    """
    return dropout == 0.0 and supports(query.device, query.dtype, query.shape[-1])


def supports(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Return whether `torch_kernel` runs on a device, for states of a dtype and heads of a width."""
    fits = dtype in (torch.bfloat16, torch.float16) and width <= MAX_WIDTH and width % 8 == 0
    return fits and _has_kernel(device) and "scale" in _parameters()


def torch_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    longest: int,
    window: int | None,
    scaling: float,
    key_offsets: Tensor | None = None,
    most_keys: int | None = None,
) -> Tensor:
    """Compute `Kernel` with PyTorch's kernel for texts of different lengths."""
    keywords: dict[str, Any] = {"scale": scaling, "window_size": (-1, 0)}
    if window is not None and window < longest:
        keywords["window_size"] = (window - 1, 0)
    if "enable_gqa" in _parameters():
        keywords["enable_gqa"] = query.shape[1] != key.shape[1]
    attend = import_module(MODULE).varlen_attn
    sizes = offsets, offsets if key_offsets is None else key_offsets, longest, most_keys or longest
    return attend(query, key, value, *sizes, **keywords)  # type: ignore[no-any-return]


@cache
def _has_kernel(device: torch.device) -> bool:
    """Return whether flash attention runs on a device; the meta device computes its shapes."""
    if device.type != "cuda":
        return device.type == "meta"
    is_built = torch.backends.cuda.is_flash_attention_available()
    return is_built and torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _parameters() -> frozenset[str]:
    """Return the names of the kernel's parameters; empty without the kernel, as before torch 2.10."""
    if find_spec(MODULE) is None:
        return frozenset()
    return frozenset(signature(import_module(MODULE).varlen_attn).parameters)
