"""Scores rows by the exact tokens that training uses, instead of by text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from workbench.errors import DataError
from workbench.evaluation.inference.language_model import LanguageModel
from workbench.evaluation.inference.not_numbers import not_numbers
from workbench.evaluation.inference.prefix_tree import TokenRequest
from workbench.evaluation.records import Answer, Example, prompt_hash
from workbench.evaluation.tasks.multiple_choice import by_item
from workbench.evaluation.tasks.requests import Item, item


@dataclass(frozen=True, kw_only=True)
class EncodedExample(Example):
    """Example that comes with its token ids; its texts are only displayed, never encoded."""

    input_ids: tuple[int, ...]
    """Tokens of the whole row for a loss; of the prompt for a generated answer."""
    spans: tuple[tuple[int, int], ...] = ()
    """First and one-past-last position of each answer in `input_ids`; empty for a generated answer."""


def encoded_item(example: Example) -> Item:
    """Turn an example into an item; the hash of an EncodedExample also covers its tokens.

    Raises:
        DataError: The chat template refuses the conversation.
    """
    plain_item = item(example, 0)
    if not isinstance(example, EncodedExample):
        return plain_item
    tokens = " ".join(map(str, example.input_ids))
    return replace(plain_item, hash=prompt_hash([plain_item.hash, tokens, str(example.spans)]))


class AnswerLoss:
    """Scores the answers of encoded rows with a causal model, each answer given all tokens before it."""

    def __init__(self, lm: LanguageModel) -> None:
        """Create a scorer with a causal model."""
        self.lm = lm

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Return the examples as items; their tokens are neither truncated nor put into a template.

        Raises:
            DataError: A row is longer than the model's context.
        """
        for example in examples:
            assert isinstance(example, EncodedExample)
            if len(example.input_ids) > self.lm.max_length:
                raise DataError(
                    f"item {example.id}: {len(example.input_ids):,} tokens are more than the "
                    f"{self.lm.max_length:,} that fit (lower data.max_length, or raise evaluate.max_length)"
                )
        return [encoded_item(example) for example in examples]

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item: log-likelihood of its answers, in nats, and number of tokens.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        requests = [self._requests(item.example) for item in items]
        for index, likelihoods in by_item(self.lm, requests):
            total = math.fsum(likelihood.loglikelihood for likelihood in likelihoods)
            if math.isnan(total):
                raise not_numbers(f"item {items[index].example.id}")
            count = sum(likelihood.num_tokens for likelihood in likelihoods)
            yield index, Answer(loglikelihoods=(total,), num_tokens=(count,))

    def _requests(self, example: Example) -> list[TokenRequest]:
        """Return one request per answer, which scores the tokens of the answer."""
        assert isinstance(example, EncodedExample)
        return [TokenRequest(example.input_ids[:end], first) for first, end in example.spans]
