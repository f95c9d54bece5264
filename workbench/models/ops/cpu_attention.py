"""Causal attention in bfloat16 on a CPU, a block of queries at a time.

Keys that no query of the block sees are left out, wherever they stand, and the heads of a group go through
one product with the keys they share. Scores and probabilities are rounded to bfloat16 as in `eager`
attention. PyTorch's own kernel computes half of a causal square in vain and repeats the keys of a group.

Shapes: B batch, S new tokens, K keys, A query heads, G key/value heads, D head width, N queries of a block
times the heads of a group, RG rows that go together times G.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

from workbench.models.ops.fused import is_plain

BLOCK = 128  # queries
SCORES = 1 << 22  # at once, if that is more than those of a row: the machine's threads share these products
FEWEST, FEWEST_TRAINED = 128, 32  # queries below which PyTorch's kernel is as fast, forward and both ways


@dataclass(frozen=True)
class Block:
    """Some queries, and the keys that any of them sees, those last that not all of them see."""

    queries: slice
    keys: slice | Tensor
    bias: Tensor
    """(queries, the last keys): added to their scores; the keys before are seen by all."""

    def seen(self, states: Tensor) -> Tensor:
        """The rows of `states` (RG, K, D) that belong to the keys."""
        return states[:, self.keys] if isinstance(self.keys, slice) else states.index_select(1, self.keys)

    def add(self, total: Tensor, states: Tensor) -> None:
        """Add `states` to the rows of `total` (RG, K, D) that belong to the keys."""
        if isinstance(self.keys, slice):
            total[:, self.keys].add_(states)
        else:
            total.index_add_(1, self.keys, states.to(total.dtype))


Blocks = list[list[Block]]  # by row

_blocks_of_mask = WeakTensorKeyDictionary()
"""Every layer is given the same mask: mask -> its version, its blocks."""


def takes(query: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Whether the call is one that this module does faster: `query` (B, A, S, D)."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] >= (FEWEST_TRAINED if query.requires_grad else FEWEST)
        and dropout == 0.0
        and (mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1))
        and not is_plain()
        and multiplies_bfloat16()
    )


@cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    present = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return present and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    texts: Sequence[int] | None = None,
) -> Tensor:
    """Mixed values (B, S, A, D).

    Args:
        query: (B, S, A, D).
        key: (B, K, G, D); K is S if there is no mask.
        value: (B, K, G, D).
        mask: (B or 1, 1, S, K), True where a query sees a key; None: each token sees those before it.
        scaling: Factor on the scores.
        texts: Instead of a mask: lengths of the texts that lie one behind the other, row after row, and don't
            see each other.
    """
    length = query.shape[1]
    if mask is None:
        blocks = _triangles(tuple(texts or [length]), length, query.dtype)
    else:
        blocks = _blocks(mask, query.dtype)
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
        groups = key.shape[2]
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        for rows, some in _together(blocks, query, key):
            keys, values = _by_group(key[rows], groups), _by_group(value[rows], groups)  # (RG, K, D)
            for block in some:
                queries = _by_group(query[rows, block.queries], groups) * scaling  # (RG, N, D)
                mixed = _probabilities(queries, block.seen(keys), block.bias) @ block.seen(values)
                _put(out[rows, block.queries], mixed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        groups = key.shape[2]
        by_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        by_key, by_value = torch.empty_like(key), torch.empty_like(value)
        for rows, some in _together(ctx.blocks, query, key):
            keys, values = _by_group(key[rows], groups), _by_group(value[rows], groups)
            key_sum, value_sum = torch.zeros(keys.shape), torch.zeros(keys.shape)  # float32: blocks add up
            for block in some:
                queries = _by_group(query[rows, block.queries], groups) * ctx.scaling
                slope, seen = _by_group(gradient[rows, block.queries], groups), block.seen(keys)
                probabilities = _probabilities(queries, seen, block.bias)
                block.add(value_sum, probabilities.transpose(1, 2) @ slope)
                slope = slope @ block.seen(values).transpose(1, 2)  # (RG, N, keys seen)
                slope = torch._softmax_backward_data(slope, probabilities, -1, slope.dtype)
                block.add(key_sum, slope.transpose(1, 2) @ queries)
                _put(by_query[rows, block.queries], (slope @ seen).mul_(ctx.scaling))
            _put(by_key[rows], key_sum)
            _put(by_value[rows], value_sum)
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


@lru_cache(16)
def _triangles(texts: tuple[int, ...], length: int, dtype: torch.dtype) -> Blocks:
    """The blocks of causal order in rows of `length` tokens that hold `texts`."""
    rows: Blocks = []
    start = 0  # counted over all rows
    for size in texts:
        if start % length == 0:
            rows.append([])
        first, last = start % length, start % length + size
        for begin in range(first, last, BLOCK):
            end = min(begin + BLOCK, last)
            rows[-1].append(Block(slice(begin, end), slice(first, end), _triangle(end - begin, dtype)))
        start += size
    return rows


@cache
def _triangle(size: int, dtype: torch.dtype) -> Tensor:
    """(size, size), minus infinity above the diagonal, zero elsewhere."""
    return torch.full((size, size), -torch.inf, dtype=dtype).triu(1)


def _together(blocks: Blocks, query: Tensor, key: Tensor) -> Iterator[tuple[slice, list[Block]]]:
    """Rows that go through the same products, and their blocks."""
    of_a_row = query.shape[2] * min(BLOCK, query.shape[1]) * key.shape[1]
    count = max(1, SCORES // of_a_row) if len(blocks) == 1 else 1
    for start in range(0, len(query), count):
        yield slice(start, start + count), blocks[start % len(blocks)]


def _by_group(states: Tensor, groups: int) -> Tensor:
    """(rows, tokens, A or G, D) as (rows * G, tokens * heads of a group, D), in one piece."""
    rows, tokens, _, width = states.shape
    apart = states.reshape(rows, tokens, groups, -1, width).transpose(1, 2)  # (rows, G, tokens, heads, D)
    return apart.reshape(rows * groups, -1, width)


def _put(target: Tensor, states: Tensor) -> None:
    """Write what `_by_group` has stacked to where it was taken from."""
    rows, tokens, heads, width = target.shape
    groups = len(states) // rows
    apart = states.view(rows, groups, tokens, -1, width).transpose(1, 2)  # (rows, tokens, G, heads, D)
    target.view(rows, tokens, groups, heads // groups, width).copy_(apart)


def _probabilities(queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """(RG, N, keys seen)."""
    scores = queries @ keys.transpose(1, 2)
    by_query = scores.view(len(scores), len(bias), -1, scores.shape[2])  # (RG, queries, heads, keys)
    by_query[..., scores.shape[2] - bias.shape[1] :].add_(bias[:, None])
    return torch.softmax(scores, -1, out=scores)
