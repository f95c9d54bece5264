"""Computes attention with PyTorch: step by step, fused, and with a prefix that all rows share.

Shapes: B batch, S new tokens, K keys (cached and new), A query heads, G key/value heads, D head width.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache

from workbench.models.ops import cpu_attention, varlen_attention
from workbench.models.ops.packed_sequences import Branches, PackedTexts


def eager(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Compute attention in plain PyTorch.

    Args:
        module: The attention layer; only its mode (training or evaluation) is read.
        query: (B, A, S, D).
        key: (B, G, K, D); A is a multiple of G.
        value: (B, G, K, D).
        attention_mask: (B or 1, 1, S, K), added to the scores; or a boolean mask, True for keys to attend to.
        scaling: Factor on the scores.
        dropout: Probability of dropping an attention probability, in train mode.
        **_: Arguments of other kernels.

    Returns:
        Outputs (B, S, A, D) and probabilities (B, A, S, K).
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups * length, width)  # heads of a group share its keys
    scores = (grouped @ key.transpose(2, 3) * scaling).view(batch, heads, length, -1)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    probabilities = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    probabilities = F.dropout(probabilities, dropout, module.training)
    output = probabilities.view(batch, groups, -1, key.shape[2]) @ value
    return output.view(batch, heads, length, width).transpose(1, 2), probabilities


def sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    packed: PackedTexts | None = None,
    sliding_window: int | None = None,
    branches: Branches | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention with PyTorch's fused kernel, or with `cpu_attention` where that is faster.

    Returns the outputs (B, S, A, D), and None in place of probabilities.

    Args:
        module: Unused.
        query: (B, A, S, D).
        key: (B, G, K, D).
        value: (B, G, K, D).
        attention_mask: Boolean, True for keys to attend to, or added to the scores. None: causal, query t
            attends to keys 0 to t; a single query attends to all keys.
        scaling: Factor on the scores.
        dropout: Probability of dropping an attention probability.
        packed: Texts of packed rows, which don't attend to each other; None: each row is one text.
        sliding_window: Without a mask: number of keys that a query attends to, its own included.
        branches: Chains of the row, in place of a mask; none has more keys than a window.
        **_: Arguments of other kernels.
    """
    if branches is not None:
        return attend_branches(varlen_attention.torch_kernel, query, key, value, branches, scaling), None
    if packed is None:
        output = _fused(query, key, value, attention_mask, scaling, dropout, sliding_window)
        return output.transpose(1, 2), None
    if cpu_attention.takes(query, None, dropout):
        queries, keys, values = (states.transpose(1, 2) for states in (query, key, value))
        lengths = packed.lengths
        return cpu_attention.attend(queries, keys, values, None, scaling, lengths, sliding_window), None
    if varlen_attention.takes(query, dropout):
        return attend_packed(
            varlen_attention.torch_kernel, query, key, value, packed, scaling, sliding_window
        ), None
    # Texts of the same length share a kernel call: the time grows with the sum of squared lengths.
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]  # (B * S, heads, D)
    outputs = []
    for tokens in packed.by_length:
        queries, keys, values = (
            states[tokens].transpose(1, 2) for states in flat
        )  # (texts, heads, length, D)
        output = _fused(queries, keys, values, None, scaling, dropout, sliding_window)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[packed.positions].view(*query.transpose(1, 2).shape), None


def attend_packed(
    kernel: varlen_attention.Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed: PackedTexts,
    scaling: float,
    window: int | None,
) -> Tensor:
    """Compute outputs (B, S, A, D) of packed texts by one call of a kernel for texts of any lengths.

    Other arguments are those of `sdpa`.
    """
    batch, heads, length, width = query.shape
    queries, keys, values = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    offsets = packed.offsets.to(query.device)
    output = kernel(queries, keys, values, offsets, packed.longest, window, scaling)
    return output.view(batch, length, heads, width)


def attend_branches(
    kernel: varlen_attention.Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    branches: Branches,
    scaling: float,
) -> Tensor:
    """Compute outputs (1, S, A, D) of a row of branches by one call of a kernel for texts of any lengths.

    Each chain gets a copy of its keys and values. Other arguments are those of `sdpa`.
    """
    queries = query[0].transpose(0, 1)  # (S, A, D)
    keys, values = (states[0].transpose(0, 1)[branches.indices] for states in (key, value))
    offsets, key_offsets = branches.offsets
    sizes = offsets, max(branches.lengths), None, scaling, key_offsets, max(branches.key_lengths)
    return kernel(queries, keys, values, *sizes)[None]


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    """Compute outputs (B, A, S, D) with `cpu_attention` where it is faster, else with PyTorch's kernel.

    Keys and values are repeated if the kernel doesn't support grouped heads.
    """
    batch, heads, length, width = query.shape
    repeats = heads // key.shape[1]
    causal = False
    if mask is None and length > 1:  # in an `if`, as the kernel takes no symbolic value under torch.compile
        causal = True
    if causal and key.shape[2] > length:  # an empty static cache: its remaining keys are unused
        key, value = key[:, :, :length], value[:, :, :length]
    if cpu_attention.takes(query, mask, dropout):
        queries, keys, values = (states.transpose(1, 2) for states in (query, key, value))
        return cpu_attention.attend(queries, keys, values, mask, scaling, window=window).transpose(1, 2)
    if causal and window is not None and window < length:
        mask, causal = causal_band(length, window, query.device), False
    supports_groups = False
    if repeats > 1 and length == 1:
        query = query.view(batch, -1, repeats, width)  # one token: the heads of a group become queries
    elif repeats > 1 and query.device.type != "cpu" and mask is None:
        supports_groups = True
    elif repeats > 1:
        key, value = (states.repeat_interleave(repeats, 1) for states in (key, value))
    output = F.scaled_dot_product_attention(
        query, key, value, mask, dropout, is_causal=causal, scale=scaling, enable_gqa=supports_groups
    )
    return output.view(batch, heads, length, width) if length == 1 else output


def causal_band(length: int, window: int, device: torch.device) -> Tensor:
    """Return a boolean mask (length, length), True where a query attends to a key.

    A query attends to `window` keys: its own and those before it.
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


def attend_with_prefixes(
    prefixes: Sequence[tuple[Cache, slice]],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention of rows with one new token, whose shared prefixes are stored once.

    Args:
        prefixes: Caches of one row, and the rows that attend to each of them; a row has at most one.
        module: The attention layer.
        query: (B, A, 1, D).
        key: (B, G, K, D), of the tokens after the prefixes.
        value: (B, G, K, D).
        attention_mask: (B, 1, 1, K), True where a query attends to one of these keys.
        scaling: Factor on the scores.
        **_: Arguments of other kernels.

    Returns:
        Outputs (B, 1, A, D), and None in place of probabilities.
    """
    batch, heads, length, width = query.shape
    if length != 1:
        raise ValueError(f"shared_prefixes: rows of {length} new tokens (give one token a row)")
    groups, num_keys = key.shape[1:3]
    grouped = query.view(batch, groups, -1, width) * scaling  # heads of a group share its keys
    own = (grouped @ key.transpose(2, 3)).masked_fill_(~attention_mask, torch.finfo(query.dtype).min)
    layers: list[tuple[Any, slice]] = [(cache.layers[module.layer_idx], rows) for cache, rows in prefixes]  # type: ignore[index]
    longest = max((layer.keys.shape[2] for layer, _ in layers), default=0)
    scores = own.new_full((*own.shape[:3], longest + num_keys), torch.finfo(query.dtype).min)
    scores[..., longest:] = own  # (B, G, A / G, longest + K)
    for layer, rows in layers:
        product = _for_all_rows(grouped[rows], layer.keys[0].transpose(1, 2))
        scores[rows, ..., : product.shape[-1]] = product
    probabilities = scores.softmax(-1)
    output = probabilities[..., longest:] @ value  # (B, G, A / G, D)
    for layer, rows in layers:
        output[rows] += _for_all_rows(probabilities[rows, ..., : layer.keys.shape[2]], layer.values[0])
    return output.reshape(batch, 1, heads, width), None


def _for_all_rows(states: Tensor, shared: Tensor) -> Tensor:
    """Multiply `states` (B, G, A / G, N) with `shared` (G, N, M), to (B, G, A / G, M)."""
    batch, groups = states.shape[:2]
    product = states.transpose(0, 1).reshape(groups, -1, states.shape[-1]) @ shared
    return product.view(groups, batch, -1, product.shape[-1]).transpose(0, 1)
