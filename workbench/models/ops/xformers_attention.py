"""Computes attention with xformers, where it has a kernel for the call, else with PyTorch.

Shapes: B batch, S new tokens, K keys (cached and new), A query heads, G key/value heads, D head width.
"""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import sdpa_mask

from workbench.log_once import log_once
from workbench.models.ops.packed_sequences import PackedTexts
from workbench.models.ops.torch_attention import sdpa
from workbench.models.ops.xformers_kernels import Call, kernels_for, missing_reason, no_kernel_reason


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

    A kernel is chosen once for calls of a kind, with that of the backward pass, which must be deterministic
    while PyTorch's deterministic mode is on. The log says once which kernels run.

    Arguments and results are those of `sdpa`. Only causal order without a mask differs: the last query
    attends to all keys, and each query before it to one key less.
    """
    if "branches" in kwargs:
        return sdpa(module, query, key, value, attention_mask, scaling, dropout, **kwargs)
    reason = missing_reason(query.device)
    if reason is None:
        kind = bias_kind(attention_mask, packed, query.shape[2], sliding_window)
        inputs = (query, key, value)
        call = Call(
            kind=kind,
            device=query.device,
            dtype=query.dtype,
            width=query.shape[-1],
            has_dropout=dropout > 0,
            needs_gradient=torch.is_grad_enabled() and any(states.requires_grad for states in inputs),
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        kernels = kernels_for(call)
        if kernels is not None:
            log_once(f"attention: xformers (its {kernels.name} kernel: {call})")
            bias = xformers_bias(attention_mask, packed, query, key.shape[2], sliding_window)
            return _attend(inputs, bias, packed is not None, dropout, scaling, kernels.pair), None
        reason = no_kernel_reason(call)
    log_once(f"attention: sdpa ({reason})")
    length, keys = query.shape[2], key.shape[2]
    if attention_mask is None and 1 < length < keys:
        attention_mask = torch.ones(length, keys, dtype=torch.bool, device=query.device).tril(keys - length)
    return sdpa(module, query, key, value, attention_mask, scaling, dropout, packed, sliding_window, **kwargs)


def _attend(
    states: tuple[Tensor, Tensor, Tensor],
    bias: Any,
    is_packed: bool,
    dropout: float,
    scaling: float,
    pair: tuple[Any, Any],
) -> Tensor:
    """Compute outputs (B, S, A, D) with a pair of xformers' kernels, of the forward and the backward pass.

    Args:
        states: Queries (B, A, S, D), keys and values (B, G, K, D).
        bias: xformers' `attn_bias`.
        is_packed: Whether the kernel gets all rows as one.
        dropout: Probability of dropping an attention probability.
        scaling: Factor on the scores.
        pair: The kernels.
    """
    query, key, value = states
    repeats = query.shape[1] // key.shape[1]
    inputs = [query, *(other.repeat_interleave(repeats, 1) for other in (key, value))]
    inputs = [other.transpose(1, 2) for other in inputs]  # (B, S or K, A, D)
    if is_packed:
        inputs = [other.reshape(1, -1, *other.shape[2:]) for other in inputs]
    attend = import_module("xformers.ops").memory_efficient_attention
    output: Tensor = attend(*inputs, attn_bias=bias, p=dropout, scale=scaling, op=pair)
    return output.reshape(len(query), -1, *output.shape[2:])


def bias_kind(mask: Tensor | None, packed: PackedTexts | None, length: int, window: int | None) -> str:
    """Return the kind of bias that `xformers_bias` makes, by which kernels are chosen.

    Args:
        mask: Mask of the call, or None.
        packed: Texts of packed rows, or None.
        length: Number of new tokens.
        window: Number of keys that a query attends to, or None for all.
    """
    if packed is None and mask is not None:
        return "mask"
    if packed is None and length == 1:
        return "one token"
    longest = length if packed is None else max(packed.lengths)
    order = "causal" if packed is None else "packed"
    return order if window is None or window >= longest else f"{order} window"


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
            causal = biases.BlockDiagonalCausalMask.from_seqlens(packed.lengths, device=query.device)
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
