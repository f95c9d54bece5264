"""Causal attention in bfloat16 on a CPU, a block of queries and one group of heads at a time.

The scores of a block fit the cache, keys that no query of the block sees are left out, wherever they stand,
and the heads of a group go through one product with the keys they share. Scores and probabilities are rounded
to bfloat16 as in `eager` attention. PyTorch's own kernel computes half of a causal square in vain and repeats
the keys of a group.

Shapes: B batch, S new tokens, K keys, A query heads, G key/value heads, D head width, N queries of a block
times the heads of a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

BLOCK = 128  # queries: three heads of them, times 512 keys, are 400 KB of scores
FEWEST = 192  # queries below which PyTorch's kernel is as fast


@dataclass(frozen=True)
class Block:
    """Some queries, and the keys that any of them sees, those last that not all of them see."""

    queries: slice
    keys: slice | Tensor
    bias: Tensor
    """(queries, the last keys): added to their scores; the keys before are seen by all."""

    def seen(self, states: Tensor) -> Tensor:
        """The rows of `states` (K, D) that belong to the keys."""
        return states[self.keys] if isinstance(self.keys, slice) else states.index_select(0, self.keys)


Blocks = list[list[Block]]  # by row

_blocks_of_mask = WeakTensorKeyDictionary()
"""Every layer is given the same mask: mask -> its version, its blocks."""


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
    blocks = [_triangles(query.shape[1], query.dtype)] if mask is None else _blocks(mask, query.dtype)
    return _Blocked.apply(query, key, value, blocks, scaling)  # type: ignore[no-any-return, no-untyped-call]


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: Blocks,
        scaling: float,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.blocks, ctx.scaling = blocks, scaling
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        for row, group, heads in _groups(query, key):
            keys, values = key[row, :, group].contiguous(), value[row, :, group].contiguous()  # (K, D)
            for block in blocks[row % len(blocks)]:
                queries = _stacked(query[row, block.queries, heads] * scaling)  # (N, D)
                mixed = _probabilities(queries, block.seen(keys), block.bias) @ block.seen(values)
                out[row, block.queries, heads] = mixed.view(-1, heads.stop - heads.start, query.shape[-1])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        by_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        by_key, by_value = torch.empty_like(key), torch.empty_like(value)
        for row, group, heads in _groups(query, key):
            keys, values = key[row, :, group].contiguous(), value[row, :, group].contiguous()
            key_sum, value_sum = torch.zeros(keys.shape), torch.zeros(keys.shape)  # float32: blocks add up
            for block in ctx.blocks[row % len(ctx.blocks)]:
                queries = _stacked(query[row, block.queries, heads] * ctx.scaling)
                slope, seen = _stacked(gradient[row, block.queries, heads]), block.keys
                probabilities = _probabilities(queries, keys[seen], block.bias)
                value_sum[seen] += probabilities.t() @ slope
                slope = slope @ values[seen].t()  # (N, keys seen): of the probabilities, then of the scores
                slope = torch._softmax_backward_data(slope, probabilities, -1, slope.dtype)
                key_sum[seen] += slope.t() @ queries
                turned = (slope @ keys[seen]).mul_(ctx.scaling)
                by_query[row, block.queries, heads] = turned.view(
                    -1, heads.stop - heads.start, query.shape[-1]
                )
            by_key[row, :, group], by_value[row, :, group] = key_sum, value_sum
        return by_query, by_key, by_value, None, None


def _blocks(mask: Tensor, dtype: torch.dtype) -> Blocks:
    """For each row of `mask` (B or 1, 1, S, K) the blocks of its queries."""
    state = None if mask.is_inference() else (mask._version, dtype)  # changes where the mask is written to
    blocks: Blocks
    known, blocks = _blocks_of_mask[mask] if mask in _blocks_of_mask else (None, [])  # noqa: SIM401 (untyped)
    if known is None or known != state:
        starts = range(0, mask.shape[2], BLOCK)
        blocks = [
            [_block(start, row[start : start + BLOCK], dtype) for start in starts] for row in mask[:, 0]
        ]
        _blocks_of_mask[mask] = state, blocks
    return blocks


def _block(start: int, mask: Tensor, dtype: torch.dtype) -> Block:
    """The block of the queries from `start` on, of which `mask` (queries, K) says what they see."""
    some, every = mask.any(0), mask.all(0)
    if not some.any():
        some = ~some  # pads: whatever they see must not become NaN
    partly = (some & ~every).nonzero()[:, 0]
    keys = torch.cat((every.nonzero()[:, 0], partly))
    bias = torch.zeros(len(mask), len(partly), dtype=dtype)
    # Finite: a pad that sees nothing must not become NaN.
    bias.masked_fill_(~mask[:, partly], torch.finfo(dtype).min)
    first, last = int(keys[0]), int(keys[-1])
    in_line = last - first + 1 == len(keys) and bool((keys.diff() > 0).all())
    return Block(slice(start, start + len(mask)), slice(first, last + 1) if in_line else keys, bias)


def _triangles(length: int, dtype: torch.dtype) -> list[Block]:
    """The blocks of causal order: each token sees those before it."""
    queries = [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
    return [Block(some, slice(0, some.stop), _triangle(some.stop - some.start, dtype)) for some in queries]


@cache
def _triangle(size: int, dtype: torch.dtype) -> Tensor:
    """(size, size), minus infinity above the diagonal, zero elsewhere."""
    return torch.full((size, size), -torch.inf, dtype=dtype).triu(1)


def _groups(query: Tensor, key: Tensor) -> Iterator[tuple[int, int, slice]]:
    """Row, group and the query heads of the group, for every row and group."""
    together = query.shape[2] // key.shape[2]
    for row in range(len(query)):
        for group in range(key.shape[2]):
            yield row, group, slice(group * together, (group + 1) * together)


def _stacked(states: Tensor) -> Tensor:
    """(queries, heads, D) as (N, D)."""
    return states.reshape(-1, states.shape[-1])


def _probabilities(queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """(N, keys seen)."""
    scores = queries @ keys.t()
    by_head = scores.view(len(bias), -1, len(keys))  # (queries, heads, keys)
    by_head[:, :, len(keys) - bias.shape[1] :].add_(bias[:, None])
    return torch.softmax(scores, -1, out=scores)
