"""Samples tokens: the most likely ones of a distribution, and generators of random numbers."""

import hashlib

import torch
from torch import Tensor

from workbench.config.benchmark import GenerationConfig


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
