"""Attention, chosen by name from a table of functions with one signature.

Shapes: B batch, S new tokens, K keys (cached and new), A query heads, G key/value heads, D head width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface


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
    """Attention step by step, in plain PyTorch: the only one that returns its probabilities.

    Args:
        module: The attention layer; asked for nothing but its mode.
        query: (B, A, S, D).
        key: (B, G, K, D); A is a multiple of G.
        value: (B, G, K, D).
        attention_mask: (B or 1, 1, S, K), added to the scores.
        scaling: Factor on the scores.
        dropout: Probability of dropping an attention probability, in train mode.

    Returns:
        Mixed values (B, S, A, D) and probabilities (B, A, S, K).
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    grouped = query.reshape(batch, groups, heads // groups * length, width)  # the heads of a group share its keys
    scores = (grouped @ key.transpose(2, 3) * scaling).view(batch, heads, length, -1)
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = F.dropout(scores.softmax(-1, dtype=torch.float32).to(query.dtype), dropout, module.training)
    mixed = probabilities.view(batch, groups, -1, key.shape[2]) @ value
    return mixed.view(batch, heads, length, width).transpose(1, 2), probabilities


# A table of our own on top of the one all models share, so that nothing changes for other models.
ATTENTION_FUNCTIONS = AttentionInterface()
ATTENTION_FUNCTIONS["eager"] = eager
