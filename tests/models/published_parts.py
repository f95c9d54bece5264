"""Parts that published formulas share: norms, rotary positions, attention and the gated MLP, in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rms(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + eps)


def angles(length: int, width: int, theta: float) -> Tensor:
    """(length, width / 2)"""
    return torch.outer(torch.arange(length).float(), theta ** -(torch.arange(0, width, 2).float() / width))


def rotated(heads: Tensor, theta: float) -> Tensor:
    """Rotate the first half of each head against the second; (B, A, S, D)."""
    doubled = angles(heads.shape[-2], heads.shape[-1], theta).repeat(1, 2)
    first, second = heads.chunk(2, -1)
    return heads * doubled.cos() + torch.cat([-second, first], -1) * doubled.sin()


def attended(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention over (B, A, S, D), with fewer heads of keys and values; (B, S, A * D)."""
    copies, length = queries.shape[1] // keys.shape[1], queries.shape[2]
    keys, values = (heads.repeat_interleave(copies, 1) for heads in (keys, values))
    scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ values
    return mixed.transpose(1, 2).flatten(2)


def mlp(hidden: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (F.silu(hidden @ gate.T) * (hidden @ up.T)) @ down.T
