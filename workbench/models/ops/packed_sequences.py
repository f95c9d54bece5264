"""Rows that hold several texts, one after the other, told apart by their positions.

Shapes: B batch, S tokens of a row.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedTexts:
    """Several texts in one row, one after the other, that must not see each other.

    Tokens are counted over the whole batch, row after row.
    """

    lengths: list[int]
    """Of every text, in order."""
    alike: list[Tensor]
    """For each distinct length, the tokens of the texts of this length, (texts, length)."""
    places: Tensor
    """(B * S,): where each token is when `alike` is laid out flat."""

    def boundaries(self) -> dict[str, Any]:
        """What flash attention wants to know, under transformers' names."""
        ends = torch.tensor([0, *self.lengths], device=self.places.device).cumsum(0).to(torch.int32)
        longest = max(self.lengths)
        return {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": longest,
            "max_length_k": longest,
        }


def packed_texts(position_ids: Tensor, batch: int) -> PackedTexts | None:
    """The texts that `position_ids` (B or 1, S) separate, or None if every row is one text.

    A text begins where the position is not the one before plus one.
    """
    starts = position_ids.diff(prepend=position_ids[:, :1]) != 1
    if not starts[:, 1:].any():
        return None
    starts[:, 0] = True
    begins = starts.expand(batch, -1).flatten().nonzero().flatten()  # (texts,)
    tokens = batch * position_ids.shape[1]
    lengths = begins.diff(append=begins.new_tensor([tokens]))
    alike = [
        begins[lengths == length, None] + torch.arange(length, device=begins.device)
        for length in sorted(set(lengths.tolist()))
    ]
    places = torch.cat([group.flatten() for group in alike]).argsort()
    return PackedTexts(lengths.tolist(), alike, places)
