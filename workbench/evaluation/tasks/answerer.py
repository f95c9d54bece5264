"""The interface of everything that answers items."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from workbench.evaluation.records import Answer, Example
from workbench.evaluation.tasks.requests import Item


class Answerer(Protocol):
    """A way to get answers from a model."""

    def items(self, examples: Sequence[Example]) -> list[Item]:
        """The examples as the model is asked them."""

    def answers(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each item, as soon as it is known."""
