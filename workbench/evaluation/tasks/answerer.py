"""Defines the interface of the classes that answer items."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item


class Answerer(Protocol):
    """Answers items with a model."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """Turn examples into items whose prompts fit the model; few-shot examples are dropped if need be."""

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Yield index and answer of each item, as soon as the answer is known."""
