"""Decodes with fewer tokens in memory at a time when memory runs out; see `repeated_on_less`."""

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from workbench.config.benchmark import GenerationConfig
from workbench.errors import DeviceError
from workbench.evaluation.inference.decoding import slot_decoding
from workbench.evaluation.memory_fallback import repeated_on_less

log = logging.getLogger("workbench")


class BatchDecoder(Protocol):
    """What `tokens_within_memory` needs of a decoder."""

    limits: GenerationConfig
    most_cached: int | None

    def tokens(self, prompts: Sequence[list[int]], seeds: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """Yield index and generated tokens of each prompt."""


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
        most_cached = decoder.most_cached or min(len(rows), slot_decoding.SLOTS) * longest
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
