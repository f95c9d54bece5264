"""Samples tokens: penalties of repetition, the most likely tokens, and generators of random numbers."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.config.benchmark import GenerationConfig


def penalized(logits: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Return logits (rows, vocabulary) in which the tokens that each row has seen are less likely.

    A positive logit is divided by the penalty and a negative one multiplied, however often the token occurs.
    Source: CTRL, arXiv:1909.05858, section 4.1, as transformers does it.

    Args:
        logits: logits of the next tokens.
        seen: token ids of each row's prompt and answer so far.
        penalty: 1 changes nothing.
    """
    if penalty == 1:
        return logits
    changed = logits.clone()
    for row, tokens in enumerate(seen):
        ids = torch.tensor(sorted(set(tokens)), device=logits.device)
        values = logits[row, ids]
        changed[row, ids] = torch.where(values < 0, values * penalty, values / penalty)
    return changed


def nucleus(probabilities: Tensor, limits: GenerationConfig) -> Tensor:
    """Set the probabilities (rows, vocabulary) of tokens outside `top_k`, then outside `top_p`, to 0.

    Source: the nucleus is arXiv:1904.09751, section 3.1; the order of the two is that of transformers.
    """
    if limits.top_k:
        smallest = probabilities.topk(min(limits.top_k, probabilities.shape[-1])).values[:, -1:]
        probabilities = probabilities.where(probabilities >= smallest, 0)
    if limits.top_p < 1:
        normalized = probabilities / probabilities.sum(-1, keepdim=True)
        ordered, indices = normalized.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= limits.top_p  # the most likely token is always inside
        probabilities = probabilities.masked_fill(outside.gather(-1, indices.argsort(-1)), 0)
    return probabilities


def sampler(seed: str) -> torch.Generator:
    """Return a random generator seeded by the hash of a text."""
    number = int.from_bytes(hashlib.sha256(seed.encode("utf-8")).digest()[:7], "big")
    return torch.Generator().manual_seed(number)
