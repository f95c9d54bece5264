"""Finds the boundaries and lengths of texts, in packed rows too, and describes the branches of a tree.

Shapes: B batch, S tokens per row, K keys (cached and new).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

TILE = 64
"""Queries of which a kernel computes scores at once."""
COPY = 200
"""Scores of one head that are computed in the time in which a key and a value are copied.

Estimated: 512 bytes, read and written, at 3 TB/s take as long as 200 scores of 512 operations at 300 TFLOP/s.
"""
SMALL = 1 << 18
"""Scores of a row for which the difference doesn't matter."""


@dataclass(frozen=True)
class PackedTexts:
    """Lengths and token indices of the texts in a batch of packed rows; texts don't attend to each other.

    Token indices count over the entire batch, row by row. Tensors are created when a kernel first needs them;
    all layers share them.
    """

    lengths: list[int]
    """Length of every text, in order."""
    device: torch.device
    """Device of the tensors."""

    @cached_property
    def longest(self) -> int:
        """Length of the longest text."""
        return max(self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """(texts + 1,): index of each text's first token, and the number of tokens, in int32."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32).to(
            self.device, non_blocking=True
        )

    @cached_property
    def by_length(self) -> list[Tensor]:
        """For each distinct length, token indices (texts, length) of the texts of this length."""
        begins: dict[int, list[int]] = {length: [] for length in sorted(set(self.lengths))}
        for length, end in zip(self.lengths, accumulate(self.lengths), strict=True):
            begins[length].append(end - length)
        return [
            (torch.tensor(texts)[:, None] + torch.arange(length)).to(self.device)
            for length, texts in begins.items()
        ]

    @cached_property
    def positions(self) -> Tensor:
        """(B * S,): index of each token in the concatenation of `by_length`."""
        return torch.cat([group.flatten() for group in self.by_length]).argsort()

    def boundaries(self) -> dict[str, Any]:
        """Return flash attention's arguments for packed rows, under transformers' names (`cu_seq_lens_q`)."""
        return {
            "cu_seq_lens_q": self.offsets,
            "cu_seq_lens_k": self.offsets,
            "max_length_q": self.longest,
            "max_length_k": self.longest,
        }


@dataclass(frozen=True)
class Branches:
    """Chains of tokens, which make up one row of a tree, each with the keys of its ancestors.

    A chain attends to all of its keys, of which the last ones are its own tokens', in causal order. Stands in
    place of a mask (1, 1, S, K).
    """

    lengths: list[int]
    """Number of tokens of each chain, in the order of the row."""
    keys: list[list[range]]
    """Indices of each chain's keys, in order, among the K keys."""
    device: torch.device
    """Device of the tensors."""

    @cached_property
    def key_lengths(self) -> list[int]:
        """Number of keys of each chain."""
        return [sum(map(len, ranges)) for ranges in self.keys]

    @cached_property
    def indices(self) -> Tensor:
        """Indices (sum of `key_lengths`,) of all chains' keys."""
        indices = [torch.arange(keys.start, keys.stop) for ranges in self.keys for keys in ranges]
        return torch.cat(indices).to(self.device, non_blocking=True)

    @cached_property
    def offsets(self) -> tuple[Tensor, Tensor]:
        """(chains + 1,) each, in int32: index of each chain's first token and first key, and the ends."""
        both = ([0, *accumulate(lengths)] for lengths in (self.lengths, self.key_lengths))
        tokens, keys = (torch.tensor(starts, dtype=torch.int32) for starts in both)
        return tokens.to(self.device, non_blocking=True), keys.to(self.device, non_blocking=True)

    def is_cheaper(self, num_keys: int, heads: int) -> bool:
        """Return whether a kernel for texts of any lengths takes less time than one with a mask over K keys.

        Its time is that of whole tiles of scores, and of a copy of each chain's keys, which `heads` query
        heads share. Small rows are always cheap.
        """
        masked = sum(self.lengths) * num_keys
        tiles = sum(
            -(-length // TILE) * TILE * keys
            for length, keys in zip(self.lengths, self.key_lengths, strict=True)
        )
        return masked <= SMALL or tiles + COPY / heads * sum(self.key_lengths) < masked


def packed_texts(
    position_ids: Tensor, batch: int, text_lengths: Sequence[int] | None = None
) -> PackedTexts | None:
    """Find the texts in `batch` rows with `position_ids` (B or 1, S); None if every row is one text.

    A text begins where a position is not the previous position plus one. Given `text_lengths`, their lengths
    in order, nothing is read from the device.
    """
    if text_lengths is not None:
        return PackedTexts(list(text_lengths), position_ids.device) if len(text_lengths) > batch else None
    starts = position_ids.diff(prepend=position_ids[:, :1]) != 1
    if not starts[:, 1:].any():
        return None
    starts[:, 0] = True
    begins = starts.expand(batch, -1).flatten().nonzero().flatten()  # (texts,)
    tokens = batch * position_ids.shape[1]
    return PackedTexts(begins.diff(append=begins.new_tensor([tokens])).tolist(), position_ids.device)


def text_lengths(position_ids: Tensor) -> Tensor:
    """Return the length of each token's text (B, S), in tokens: the text's last position plus one.

    A text begins where a position of `position_ids` (B, S) is not the previous position plus one.
    """
    columns = torch.arange(position_ids.shape[-1], device=position_ids.device).expand_as(position_ids)
    is_last = position_ids.diff(append=position_ids[..., -1:]) != 1
    last = columns.masked_fill(~is_last, position_ids.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    return position_ids.gather(-1, last) + 1


def row_lengths(position_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return the length of each row (B, 1), in tokens: the largest position of its tokens plus one.

    Args:
        position_ids: (B or 1, S).
        attention_mask: (B, K), 0 for padding; None: there is no padding.
    """
    if attention_mask is not None:
        is_padding = attention_mask[:, -position_ids.shape[-1] :] == 0
        position_ids = position_ids.masked_fill(is_padding, 0)
    return position_ids.amax(-1, keepdim=True) + 1


def positions_of_tokens(attention_mask: Tensor) -> Tensor:
    """Return the position (B, K) of each token in its row, without padding: of an `attention_mask` (B, K).

    Padding gets the position of the token before it, or 0.
    """
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
