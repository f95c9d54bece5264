"""Causal attention in bfloat16 on a CPU, a block of queries and one group of heads at a time.

The scores of a block fit the cache, columns that no query of the block sees are not computed, and the heads
of a group go through one product with the keys they share. Scores and probabilities are rounded to bfloat16
as in `eager` attention. PyTorch's own kernel computes half of a causal square in vain and repeats the keys of
a group.

Shapes: B batch, S new tokens, K keys, A query heads, G key/value heads, D head width, N queries of a block
times the heads of a group.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Blocks = list[list[tuple[slice, slice]]]  # by row: queries of a block, keys they see

BLOCK = 128  # queries: three heads of them, times 512 keys, are 400 KB of scores
FEWEST = 192  # queries below which PyTorch's kernel is as fast


def takes(query: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Whether the call is one that this module does faster: `query` (B, A, S, D)."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] >= FEWEST
        and dropout == 0.0
        and (mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1))
        and not torch.compiler.is_compiling()
        and multiplies_bfloat16()
    )


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    present = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return present and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Mixed values (B, S, A, D).

    Args:
        query: (B, S, A, D).
        key: (B, K, G, D); K is S if there is no mask.
        value: (B, K, G, D).
        mask: (B or 1, 1, S, K), True where a query sees a key; None: each token sees those before it.
        scaling: Factor on the scores.
    """
    bias = None
    if mask is not None:
        mask = mask[:, 0]  # (B or 1, S, K)
        # Finite: a pad that sees nothing must not become NaN.
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min)
    blocks = _blocks(query.shape[1], mask)
    return _Blocked.apply(query, key, value, bias, blocks, scaling)  # type: ignore[no-any-return, no-untyped-call]


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        blocks: Blocks,
        scaling: float,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, bias)
        ctx.blocks, ctx.scaling = blocks, scaling
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        for row, group, heads in _groups(query, key):
            keys, values = key[row, :, group].contiguous(), value[row, :, group].contiguous()  # (K, D)
            for block, seen in blocks[row % len(blocks)]:
                queries = _stacked(query[row, block, heads]) * scaling  # (N, D)
                mixed = _probabilities(queries, keys[seen], bias, row, block, seen) @ values[seen]
                out[row, block, heads] = mixed.view(-1, heads.stop - heads.start, query.shape[-1])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias = ctx.saved_tensors
        by_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        by_key, by_value = torch.empty_like(key), torch.empty_like(value)
        for row, group, heads in _groups(query, key):
            keys, values = key[row, :, group].contiguous(), value[row, :, group].contiguous()
            key_sum, value_sum = torch.zeros(keys.shape), torch.zeros(keys.shape)  # float32: blocks add up
            for block, seen in ctx.blocks[row % len(ctx.blocks)]:
                queries = _stacked(query[row, block, heads]) * ctx.scaling
                slope = _stacked(gradient[row, block, heads])
                probabilities = _probabilities(queries, keys[seen], bias, row, block, seen)
                value_sum[seen] += probabilities.t() @ slope
                slope = slope @ values[seen].t()  # (N, keys seen): of the probabilities, then of the scores
                slope = torch._softmax_backward_data(slope, probabilities, -1, slope.dtype)
                key_sum[seen] += slope.t() @ queries
                turned = (slope @ keys[seen]).mul_(ctx.scaling)
                by_query[row, block, heads] = turned.view(-1, heads.stop - heads.start, query.shape[-1])
            by_key[row, :, group], by_value[row, :, group] = key_sum, value_sum
        return by_query, by_key, by_value, None, None, None


def _blocks(length: int, mask: Tensor | None) -> Blocks:
    """For each row of `mask` (B or 1, S, K), the blocks of queries with the keys that any of them sees."""
    rows: Blocks = [[] for _ in range(1 if mask is None else len(mask))]
    for start in range(0, length, BLOCK):
        block = slice(start, min(start + BLOCK, length))
        if mask is None:
            rows[0].append((block, slice(0, block.stop)))
            continue
        seen = mask[:, block].any(1).int()  # (B or 1, K)
        first, after = seen.argmax(1).tolist(), (seen.shape[1] - seen.flip(1).argmax(1)).tolist()
        for row, blocks in enumerate(rows):
            blocks.append((block, slice(first[row], after[row])))  # all keys if none is seen
    return rows


def _groups(query: Tensor, key: Tensor) -> Iterator[tuple[int, int, slice]]:
    """Row, group and the query heads of the group, for every row and group."""
    together = query.shape[2] // key.shape[2]
    for row in range(len(query)):
        for group in range(key.shape[2]):
            yield row, group, slice(group * together, (group + 1) * together)


def _stacked(states: Tensor) -> Tensor:
    """(queries, heads, D) as (N, D)."""
    return states.reshape(-1, states.shape[-1])


def _probabilities(
    queries: Tensor, keys: Tensor, bias: Tensor | None, row: int, block: slice, seen: slice
) -> Tensor:
    """(N, keys seen)."""
    scores = queries @ keys.t()
    by_head = scores.view(block.stop - block.start, -1, len(keys))  # (queries, heads, keys)
    if bias is None:
        by_head[:, :, block.start :].add_(_triangle(block.stop - block.start, scores.dtype)[:, None])
    else:
        by_head.add_(bias[row % len(bias), block, seen][:, None])
    return torch.softmax(scores, -1, out=scores)


@cache
def _triangle(size: int, dtype: torch.dtype) -> Tensor:
    """(size, size), minus infinity above the diagonal, zero elsewhere."""
    return torch.full((size, size), -torch.inf, dtype=dtype).triu(1)
