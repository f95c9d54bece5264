"""Rows asked in the very tokens that they would be trained in, instead of as text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from workbench.errors import DataError
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, Example, prompt_hash
from workbench.evaluation.tasks.multiple_choice import by_item
from workbench.evaluation.tasks.requests import Item, item


@dataclass(frozen=True, kw_only=True)
class EncodedExample(Example):
    """An item whose tokens are known: the texts beside them are for the reader."""

    input_ids: tuple[int, ...]
    """The whole row for a loss; the prompt alone for a generated answer."""
    spans: tuple[tuple[int, int], ...] = ()
    """First and one-past-last position of each answer in `input_ids`; none for a generated answer."""


def encoded_item(example: Example) -> Item:
    """The item, hashed by its tokens too."""
    found = item(example, 0)
    if not isinstance(example, EncodedExample):
        return found
    numbers = " ".join(map(str, example.input_ids))
    return replace(found, hash=prompt_hash([found.hash, numbers, str(example.spans)]))


class AnswerLoss:
    """Asks a causal model how likely the answers of encoded rows are, each after all before it."""

    def __init__(self, lm: TransformersLM) -> None:
        """Take the model."""
        self.lm = lm

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as they are: their tokens are neither cut nor wrapped.

        Raises:
            DataError: a row is longer than the model's context.
        """
        for example in examples:
            assert isinstance(example, EncodedExample)
            if len(example.input_ids) > self.lm.max_length:
                raise DataError(
                    f"item {example.id}: {len(example.input_ids):,} tokens are more than the "
                    f"{self.lm.max_length:,} that fit (a lower data.max_length, or a higher "
                    "evaluate.max_length)"
                )
        return [encoded_item(example) for example in examples]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item: the log-likelihood of all its answers, in nats, and their tokens.

        Raises:
            CheckpointError: the model's logits are not numbers.
        """
        requests = [self._requests(item.example) for item in items]
        for number, found in by_item(self.lm, requests):
            total = math.fsum(likelihood.loglikelihood for likelihood in found)
            if math.isnan(total):
                raise not_numbers(f"item {items[number].example.id}")
            count = sum(likelihood.num_tokens for likelihood in found)
            yield number, Answer(loglikelihoods=(total,), num_tokens=(count,))

    def _requests(self, example: Example) -> list[TokenRequest]:
        """A request an answer, which scores its tokens."""
        assert isinstance(example, EncodedExample)
        return [TokenRequest(example.input_ids[:end], first) for first, end in example.spans]
