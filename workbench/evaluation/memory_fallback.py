"""Repeats a computation on fewer rows or tokens at a time when memory runs out.

A request whose result has been handed on is not computed again.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch

from workbench.config.benchmark import GenerationConfig
from workbench.errors import DeviceError, first_line
from workbench.machine import is_out_of_memory

Request = TypeVar("Request")
Result = TypeVar("Result")

log = logging.getLogger("workbench")

_ROWS = 64  # the slots of a decoder
"""Number of prompts from which the first halving of a decoder's batches starts."""


class BatchDecoder(Protocol):
    """What `tokens_within_memory` needs of a decoder."""

    limits: GenerationConfig
    most_cached: int | None

    def tokens(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """Yield index and generated tokens of each prompt."""


def repeated_on_less(
    requests: Sequence[Request],
    attempt: Callable[[list[Request]], Iterator[tuple[int, Result]]],
    halve: Callable[[list[Request], str], None],
) -> Iterator[tuple[int, Result]]:
    """Yield index and result of each request, in the order of `attempt`.

    When memory runs out, `halve` is called, and `attempt` is called again for the requests without a result.

    Args:
        requests: The requests.
        attempt: Yields index and result of each of the requests that it is given.
        halve: Makes the next attempt take less memory; gets the requests without a result, and the reason. It
            raises an error if less is not possible.
    """
    remaining = dict(enumerate(requests))
    while remaining:
        indices, reason = list(remaining), ""
        try:
            for position, result in attempt(list(remaining.values())):
                del remaining[indices[position]]
                yield indices[position], result
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        if not reason:
            return
        if torch.cuda.is_available():  # here, as an exception that is handled keeps its tensors
            torch.cuda.empty_cache()
        halve(list(remaining.values()), reason)


def tokens_within_memory(
    decoder: BatchDecoder, prompts: Sequence[list[int]], seeds: Sequence[str]
) -> Iterator[tuple[int, list[int]]]:
    """Yield what `decoder.tokens` yields; when memory runs out, its `most_cached` is halved.

    Raises:
        CheckpointError: The model's logits are NaN.
        DeviceError: Memory is too small for a single prompt.
    """

    def attempt(rows: list[tuple[list[int], str]]) -> Iterator[tuple[int, list[int]]]:
        yield from decoder.tokens([prompt for prompt, _ in rows], [seed for _, seed in rows])

    def halve(rows: list[tuple[list[int], str]], reason: str) -> None:
        longest = max(len(prompt) for prompt, _ in rows) + decoder.limits.max_new_tokens
        most_cached = decoder.most_cached or min(len(rows), _ROWS) * longest
        if most_cached <= longest:
            raise DeviceError(
                f"out of memory on a single prompt, of {longest} tokens with its answer ({reason}; "
                "max_new_tokens or quantization=nf4 take less)"
            )
        decoder.most_cached = max(longest, most_cached // 2)
        log.warning(
            "out of memory; prompts and answers in a batch now have at most %d tokens together "
            "(the answers are the same up to rounding)",
            decoder.most_cached,
        )

    yield from repeated_on_less(list(zip(prompts, seeds, strict=True)), attempt, halve)
