"""Defines the interface of the classes that answer items."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item


class Answerer(Protocol):
    """Answers items with a model."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Turn each example into an item whose prompts fit; few-shot examples are dropped if need be.

        Raises:
            ConfigError: A setting doesn't fit the model.
            DataError: An item can't fit, and `too_long` is `refuse`.
        """

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item, as soon as the answer is known, in any order."""
