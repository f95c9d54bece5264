"""Computes causal attention in bfloat16 on a CPU, one block of queries at a time.

Keys that all queries of a block mask are skipped, at any position, and the heads of a group share one product
with their keys. Scores and probabilities are rounded to bfloat16 as in `eager` attention. PyTorch's kernel
computes the masked half of the scores, too, and repeats the keys for each head of a group.

Shapes: B batch, S new tokens, K keys, A query heads, G key/value heads, D head width, N queries of a block
times heads of a group, RG rows of one product times G.
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
SCORES = 1 << 22  # per product, if rows are smaller: the threads of the CPU share a product
MIN_QUERIES, MIN_QUERIES_TRAINING = (
    128,
    32,
)  # queries below which PyTorch's kernel is as fast, for inference and training


@dataclass(frozen=True)
class Block:
    """Consecutive queries, and the keys that at least one of them attends to.

    Keys that all of them attend to come first.
    """

    queries: slice
    """Indices of the queries."""
    keys: slice | Tensor
    """Indices of the keys."""
    bias: Tensor
    """(queries, last keys): added to the scores of the last keys; all queries attend to the others."""

    def select(self, states: Tensor) -> Tensor:
        """Return the states (RG, block keys, D) of the block's keys in `states` (RG, K, D)."""
        return states[:, self.keys] if isinstance(self.keys, slice) else states.index_select(1, self.keys)

    def add(self, total: Tensor, states: Tensor) -> None:
        """Add `states` (RG, block keys, D) in place to those of the block's keys in `total` (RG, K, D)."""
        if isinstance(self.keys, slice):
            total[:, self.keys].add_(states)
        else:
            total.index_add_(1, self.keys, states.to(total.dtype))


Blocks = list[list[Block]]  # by row

_blocks_of_mask = WeakTensorKeyDictionary()
"""Cache, since all layers have the same mask: mask -> its version and its blocks."""


def takes(query: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Return whether `attend` supports a call and is faster than PyTorch's kernel.

    Args:
        query: (B, A, S, D).
        mask: (B or 1, 1, S, K); None: causal.
        dropout: Probability of dropping an attention probability, which must be 0.
    """
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] >= (MIN_QUERIES_TRAINING if query.requires_grad else MIN_QUERIES)
        and dropout == 0.0
        and (mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1))
        and not is_plain()
        and multiplies_bfloat16()
    )


@cache
def multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16 products."""
    is_available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    texts: Sequence[int] | None = None,
    window: int | None = None,
) -> Tensor:
    """Compute attention outputs (B, S, A, D) on the CPU; it supports the backward pass.

    Args:
        query: (B, S, A, D).
        key: (B, K, G, D); K is S if there is no mask.
        value: (B, K, G, D).
        mask: (B or 1, 1, S, K), True where a query attends to a key; None: causal.
        scaling: Factor on the scores.
        texts: Without a mask: lengths of packed texts, row by row, which don't attend to each other; None:
            each row is one text.
        window: Without a mask: number of keys that a query attends to, its own included; None: all.
    """
    length = query.shape[1]
    if mask is None:
        blocks = _triangles(tuple(texts or [length]), length, query.dtype, window)
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
        for rows, row_blocks in _shared_products(blocks, query, key):
            keys, values = _by_group(key[rows], groups), _by_group(value[rows], groups)  # (RG, K, D)
            for block in row_blocks:
                queries = _by_group(query[rows, block.queries], groups) * scaling  # (RG, N, D)
                mixed = _probabilities(queries, block.select(keys), block.bias) @ block.select(values)
                _write_ungrouped(out[rows, block.queries], mixed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        groups = key.shape[2]
        query_grad = torch.empty_like(query, memory_format=torch.contiguous_format)
        key_grad, value_grad = torch.empty_like(key), torch.empty_like(value)
        for rows, row_blocks in _shared_products(ctx.blocks, query, key):
            keys, values = _by_group(key[rows], groups), _by_group(value[rows], groups)
            key_sum, value_sum = (
                torch.zeros(keys.shape),
                torch.zeros(keys.shape),
            )  # float32, since blocks are summed
            for block in row_blocks:
                queries = _by_group(query[rows, block.queries], groups) * ctx.scaling
                slope, block_keys = _by_group(gradient[rows, block.queries], groups), block.select(keys)
                probabilities = _probabilities(queries, block_keys, block.bias)
                block.add(value_sum, probabilities.transpose(1, 2) @ slope)
                slope = slope @ block.select(values).transpose(1, 2)  # (RG, N, block keys)
                slope = torch._softmax_backward_data(slope, probabilities, -1, slope.dtype)
                block.add(key_sum, slope.transpose(1, 2) @ queries)
                _write_ungrouped(query_grad[rows, block.queries], (slope @ block_keys).mul_(ctx.scaling))
            _write_ungrouped(key_grad[rows], key_sum)
            _write_ungrouped(value_grad[rows], value_sum)
        return query_grad, key_grad, value_grad, None, None


def _blocks(mask: Tensor, dtype: torch.dtype) -> Blocks:
    """Return for each row of `mask` (B or 1, 1, S, K) its blocks of queries; they are cached by mask."""
    version = None if mask.is_inference() else (mask._version, dtype)  # changes with in-place writes
    blocks: Blocks
    cached_version, blocks = _blocks_of_mask[mask] if mask in _blocks_of_mask else (None, [])  # noqa: SIM401 (untyped)
    if cached_version is None or cached_version != version:
        starts = range(0, mask.shape[2], BLOCK)
        blocks = [
            [_block(start, row[start : start + BLOCK], dtype) for start in starts] for row in mask[:, 0]
        ]
        _blocks_of_mask[mask] = version, blocks
    return blocks


def _block(start: int, mask: Tensor, dtype: torch.dtype) -> Block:
    """Return the block of the queries from index `start` on; `mask` has their rows (queries, K)."""
    seen_by_any, seen_by_all = mask.any(0), mask.all(0)
    if not seen_by_any.any():
        seen_by_any = ~seen_by_any  # padding: its outputs don't matter, but must not be NaN
    seen_by_some = (seen_by_any & ~seen_by_all).nonzero()[:, 0]
    keys = torch.cat((seen_by_all.nonzero()[:, 0], seen_by_some))
    bias = torch.zeros(len(mask), len(seen_by_some), dtype=dtype)
    # Finite: padding that attends to nothing must not be NaN.
    bias.masked_fill_(~mask[:, seen_by_some], torch.finfo(dtype).min)
    first, last = int(keys[0]), int(keys[-1])
    is_contiguous = last - first + 1 == len(keys) and bool((keys.diff() > 0).all())
    return Block(slice(start, start + len(mask)), slice(first, last + 1) if is_contiguous else keys, bias)


@lru_cache(16)
def _triangles(texts: tuple[int, ...], length: int, dtype: torch.dtype, window: int | None) -> Blocks:
    """Return for each row of `length` tokens its blocks of queries; none contains tokens of two texts.

    Attention is causal. `texts` has the length of every text, row by row.
    """
    window = length if window is None else window
    rows: Blocks = []
    start = 0  # over all rows
    for size in texts:
        if start % length == 0:
            rows.append([])
        first, last = start % length, start % length + size
        for begin in range(first, last, BLOCK):
            end = min(begin + BLOCK, last)
            keys = slice(max(first, begin + 1 - window), end)
            bias = _bias(end - begin, end - keys.start, window, dtype)
            rows[-1].append(Block(slice(begin, end), keys, bias))
        start += size
    return rows


def _bias(size: int, keys: int, window: int, dtype: torch.dtype) -> Tensor:
    """Return the bias of `size` queries over `keys` keys, of which the last `size` are the queries' own.

    If no query's window excludes a key, the bias covers only the last `size` keys.
    """
    return _triangle(size, dtype) if keys <= window else _band(size, keys, window, dtype)


@cache
def _triangle(size: int, dtype: torch.dtype) -> Tensor:
    """Return (size, size) with minus infinity above the diagonal and zero elsewhere."""
    return torch.full((size, size), -torch.inf, dtype=dtype).triu(1)


@lru_cache(64)
def _band(size: int, keys: int, window: int, dtype: torch.dtype) -> Tensor:
    """Return a bias (size, keys): zero in the window of each query, minus infinity elsewhere.

    The last `size` keys are the queries' own.
    """
    outside = torch.full((size, keys), -torch.inf, dtype=dtype)
    return outside.triu(keys - size + 1) + outside.tril(keys - size - window)


def _shared_products(blocks: Blocks, query: Tensor, key: Tensor) -> Iterator[tuple[slice, list[Block]]]:
    """Yield slices of rows that are multiplied at once, with their blocks; these rows share a mask."""
    scores_per_row = query.shape[2] * min(BLOCK, query.shape[1]) * key.shape[1]
    count = max(1, SCORES // scores_per_row) if len(blocks) == 1 else 1
    for start in range(0, len(query), count):
        yield slice(start, start + count), blocks[start % len(blocks)]


def _by_group(states: Tensor, groups: int) -> Tensor:
    """Reshape (rows, tokens, A or G, D) to a contiguous (rows * G, tokens * heads of a group, D)."""
    rows, tokens, _, width = states.shape
    by_group = states.reshape(rows, tokens, groups, -1, width).transpose(1, 2)  # (rows, G, tokens, heads, D)
    return by_group.reshape(rows * groups, -1, width)


def _write_ungrouped(target: Tensor, states: Tensor) -> None:
    """Write `states`, in the shape that `_by_group` returns, to `target` (rows, tokens, A or G, D)."""
    rows, tokens, heads, width = target.shape
    groups = len(states) // rows
    by_group = states.view(rows, groups, tokens, -1, width).transpose(1, 2)  # (rows, tokens, G, heads, D)
    target.view(rows, tokens, groups, heads // groups, width).copy_(by_group)


def _probabilities(queries: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Compute attention probabilities (RG, N, block keys) of scaled `queries` (RG, N, D)."""
    scores = queries @ keys.transpose(1, 2)
    by_query = scores.view(len(scores), len(bias), -1, scores.shape[2])  # (RG, queries, heads, keys)
    by_query[..., scores.shape[2] - bias.shape[1] :].add_(bias[:, None])
    return torch.softmax(scores, -1, out=scores)
