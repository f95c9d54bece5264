"""Cuts the question of an item that is too long for a model."""

from collections.abc import Callable
from dataclasses import replace

from workbench.config.evaluate import TooLong
from workbench.evaluation.records import Example

_ROUNDS = 12
"""Most texts that are encoded to find how much of a question fits."""


def shortened(
    example: Example, num_tokens: Callable[[Example], int], longest: int, too_long: TooLong
) -> Example | None:
    """Return an example with as much of its question as fits, within a few characters; None: nothing fits.

    Args:
        example: example without few-shot examples that is too long.
        num_tokens: returns the number of tokens of an example's prompt with its longest answer.
        longest: largest number of tokens that fits.
        too_long: `truncate-left` or `truncate-middle`.
    """
    low, high = 0, max(map(len, example.questions))
    tokens_low, tokens_high = num_tokens(_with_length(example, 0, too_long)), num_tokens(example)
    if tokens_low > longest:
        return None
    for _ in range(_ROUNDS):
        if high - low < 2 or tokens_low == longest:
            break
        share = (longest - tokens_low) / max(1, tokens_high - tokens_low)
        length = min(max(low + int(share * (high - low)), low + 1), high - 1)
        tokens = num_tokens(_with_length(example, length, too_long))
        if tokens <= longest:
            low, tokens_low = length, tokens
        else:
            high, tokens_high = length, tokens
    return _with_length(example, low, too_long) if low else None


def _with_length(example: Example, length: int, too_long: TooLong) -> Example:
    return replace(example, questions=tuple(_cut(text, length, too_long) for text in example.questions))


def _cut(text: str, length: int, too_long: TooLong) -> str:
    """Return the last `length` characters of a text, or its first and last ones for `truncate-middle`."""
    if len(text) <= length:
        return text
    if too_long is TooLong["truncate-left"]:
        return text[len(text) - length :]
    return text[: length - length // 2] + text[len(text) - length // 2 :]
