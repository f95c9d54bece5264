"""Computes attention with xformers, where it has a kernel for the call, else with PyTorch.

Shapes: B batch, S new tokens, K keys (cached and new), A query heads, G key/value heads, D head width.
"""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import sdpa_mask

from workbench.models.ops.packed_sequences import PackedTexts
from workbench.models.ops.torch_attention import sdpa

log = logging.getLogger(__name__)


def xformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    packed: PackedTexts | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute memory-efficient attention with xformers, or `sdpa` if xformers has no kernel for the call.

    Arguments and results are those of `sdpa`. Only causal order without a mask differs: the last query
    attends to all keys, and each query before it to one key less. The log says once which kernel runs.
    """
    reason = why_not_xformers(query)
    if reason is None:
        ops = import_module("xformers.ops")
        bias = xformers_bias(attention_mask, packed, query, key.shape[2], sliding_window)
        repeats = query.shape[1] // key.shape[1]
        inputs = [query, *(states.repeat_interleave(repeats, 1) for states in (key, value))]
        inputs = [states.transpose(1, 2) for states in inputs]  # (B, S or K, A, D)
        if packed is not None:
            inputs = [states.reshape(1, -1, *states.shape[2:]) for states in inputs]
        try:
            output = ops.memory_efficient_attention(*inputs, attn_bias=bias, p=dropout, scale=scaling)
            _log_once("xformers", "use_memory_efficient_attention")
            return output.view(len(query), -1, *output.shape[2:]), None
        except NotImplementedError:  # no kernel supports these shapes and dtypes
            reason = f"no xformers kernel supports {query.dtype} heads of width {query.shape[-1]} here"
    _log_once("sdpa", reason)
    length, keys = query.shape[2], key.shape[2]
    if attention_mask is None and 1 < length < keys:
        attention_mask = torch.ones(length, keys, dtype=torch.bool, device=query.device).tril(keys - length)
    return sdpa(module, query, key, value, attention_mask, scaling, dropout, packed, sliding_window, **kwargs)


def why_not_xformers(query: Tensor) -> str | None:
    """Return the reason why xformers can't compute attention with `query`; None: it may have a kernel."""
    if not query.is_cuda:
        return f"xformers has no kernel for {query.device.type}"
    if query.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"xformers has no kernel for {query.dtype}"
    return None if find_spec("xformers") else "xformers is not installed"


def xformers_bias(
    mask: Tensor | None, packed: PackedTexts | None, query: Tensor, keys: int, window: int | None = None
) -> Any:
    """Return xformers' `attn_bias` for `query` (B, A, S, D) and `keys` keys; None: no mask is needed.

    Causal order, packed texts and windows need no matrix. A `mask` (B or 1, 1, S, K) becomes a matrix, with
    rows padded to a multiple of eight columns, as the kernel requires.
    """
    biases = import_module("xformers.ops.fmha.attn_bias")
    batch, heads, length, _ = query.shape
    if packed is not None or (mask is None and length > 1):
        if packed is None:
            causal, longest = biases.LowerTriangularFromBottomRightMask(), length
        else:
            causal = biases.BlockDiagonalCausalMask.from_seqlens(packed.lengths)
            longest = max(packed.lengths)
        return causal if window is None or window >= longest else causal.make_local_attention(window)
    if mask is None:
        return None
    aligned = torch.empty(len(mask), 1, length, -(-keys // 8) * 8, dtype=query.dtype, device=query.device)
    bias = aligned[..., :keys]
    if mask.dtype == torch.bool:
        bias.zero_().masked_fill_(~mask, torch.finfo(query.dtype).min)
    else:
        bias.copy_(mask)
    return bias.expand(batch, heads, -1, -1)


def xformers_mask(allow_is_causal_skip: bool = True, **kwargs: Any) -> Tensor | None:
    """Return transformers' mask for `xformers` as a boolean tensor, or None if causal order is all it needs.

    That is so without padding, if the last key is the last query's own and a window covers all keys: not all
    layers of transformers tell the kernel their window.

    Args:
        allow_is_causal_skip: Whether None may be returned.
        **kwargs: Arguments of transformers' `sdpa_mask`.
    """
    padding, window = kwargs["attention_mask"], kwargs.get("local_size")
    if (
        allow_is_causal_skip
        and (padding is None or bool(padding.all()))
        and int(kwargs["q_offset"]) + kwargs["q_length"] == kwargs["kv_length"]
        and (window is None or kwargs["kv_length"] <= window)
    ):
        return None
    return sdpa_mask(**kwargs, allow_is_causal_skip=False)


@cache
def _log_once(name: str, reason: str) -> None:
    """Log once per process which attention kernel runs and why."""
    log.info("attention: %s (%s)", name, reason)
