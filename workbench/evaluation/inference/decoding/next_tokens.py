"""Chooses the next token of each row from the model's logits, and says which rows it ends."""

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor

from workbench.config.benchmark import GenerationConfig
from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.decoding.settings import DecodingSettings
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.sampling import nucleus, penalized

_BLOCK = 512
"""Largest number of logits whose maximum is taken at once."""


def append_next(rows: Sequence[Row], logits: Tensor, settings: DecodingSettings) -> set[int]:
    """Append the next token of each row to its `generated`; return the indices of the rows that have ended.

    Args:
        rows: prompts with the tokens generated so far.
        logits: (rows, vocabulary).
        settings: how tokens are chosen, where answers end, and what is called with each new token.

    Raises:
        CheckpointError: The logits are NaN.
    """
    for row, token in zip(rows, next_tokens(rows, logits, settings.limits), strict=True):
        row.generated.append(token)
        if settings.on_token is not None:
            settings.on_token(row.generated)
    most_new = settings.limits.max_new_tokens
    return {i for i, row in enumerate(rows) if settings.endings.finished(row.generated, most_new)}


def next_tokens(rows: Sequence[Row], logits: Tensor, limits: GenerationConfig) -> list[int]:
    """Return the next token of each row: the argmax of its logits, or a sample if there is a temperature.

    Logits are read from the device once. Without a temperature only the tokens are.

    Args:
        rows: prompts with the tokens generated so far, and their random generators.
        logits: (rows, vocabulary).
        limits: temperature, top_k, top_p and repetition penalty.

    Raises:
        CheckpointError: The logits are NaN.
    """
    changed = penalized(logits, [row.tokens for row in rows], limits.repetition_penalty)
    maxima, tokens = argmax(changed)
    if limits.temperature == 0:
        chosen, is_nan = torch.stack((tokens, maxima.isnan().long())).tolist()
        _check_numbers(is_nan, rows)
        return list(chosen)
    _check_numbers(maxima.isnan().tolist(), rows)
    probabilities = nucleus((changed.double() / limits.temperature).softmax(-1).cpu(), limits)
    return [
        int(torch.multinomial(distribution, 1, generator=row.sampler))
        for row, distribution in zip(rows, probabilities, strict=True)
    ]


def argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest logit of each row and its index, the first of several; NaN if a logit is NaN.

    On a CPU torch searches an index one by one, but the maximum of a block at once: the maxima of blocks
    first, then the index within a block, take a tenth of the time in bfloat16.

    Args:
        logits: (rows, vocabulary).
    """
    size = gcd(logits.shape[-1], _BLOCK)
    if logits.device.type != "cpu" or size < 16:
        maxima = logits.max(-1)
        return maxima.values, maxima.indices
    blocks = logits.view(len(logits), -1, size)  # (rows, blocks, size)
    block = blocks.amax(-1).float().argmax(-1)
    largest = blocks[torch.arange(len(logits)), block].float().max(-1)
    return largest.values, block * size + largest.indices


def _check_numbers(is_nan: Sequence[bool | int], rows: Sequence[Row]) -> None:
    """Raise an error that names the first prompt whose next logits are NaN, if there is one."""
    for row, nan in zip(rows, is_nan, strict=True):
        if nan:
            raise not_numbers(f"after a prompt of {len(row.prompt)} tokens")
