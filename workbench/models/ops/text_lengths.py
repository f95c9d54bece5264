"""Finds the length of the text that each token belongs to.

Shapes: B batch, S new tokens, K keys (cached and new).
"""

import torch
from torch import Tensor


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
