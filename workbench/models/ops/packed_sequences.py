"""Finds the boundaries of texts in packed rows, which contain several texts each, from position ids.

Shapes: B batch, S tokens per row.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedTexts:
    """Lengths and token indices of the texts in a batch of packed rows; texts don't attend to each other.

    Token indices count over the entire batch, row by row.
    """

    lengths: list[int]
    """Length of every text, in order."""
    by_length: list[Tensor]
    """For each distinct length, token indices (texts, length) of the texts of this length."""
    positions: Tensor
    """(B * S,): index of each token in the concatenation of `by_length`."""

    def boundaries(self) -> dict[str, Any]:
        """Return flash attention's arguments for packed rows, under transformers' names (`cu_seq_lens_q`)."""
        ends = torch.tensor([0, *self.lengths], device=self.positions.device).cumsum(0).to(torch.int32)
        longest = max(self.lengths)
        return {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": longest,
            "max_length_k": longest,
        }


def packed_texts(position_ids: Tensor, batch: int) -> PackedTexts | None:
    """Find the texts in `batch` rows with `position_ids` (B or 1, S); None if every row is one text.

    A text begins where a position is not the previous position plus one.
    """
    starts = position_ids.diff(prepend=position_ids[:, :1]) != 1
    if not starts[:, 1:].any():
        return None
    starts[:, 0] = True
    begins = starts.expand(batch, -1).flatten().nonzero().flatten()  # (texts,)
    tokens = batch * position_ids.shape[1]
    lengths = begins.diff(append=begins.new_tensor([tokens]))
    by_length = [
        begins[lengths == length, None] + torch.arange(length, device=begins.device)
        for length in sorted(set(lengths.tolist()))
    ]
    positions = torch.cat([group.flatten() for group in by_length]).argsort()
    return PackedTexts(lengths.tolist(), by_length, positions)
