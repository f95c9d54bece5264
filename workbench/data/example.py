"""One row of a data set to be, and several of them packed into one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

from workbench.data.packing import best_fit
from workbench.errors import DataError
from workbench.labels import IGNORED


@dataclass(frozen=True)
class Example:
    """One row of a data set to be."""

    input_ids: list[int]
    labels: list[int] | float
    """Of each token; or the class's number; or the number to be met."""
    where: str
    lengths: list[int] | None = None
    """Of the texts packed in it; None where it is one."""


def predictable(example: Example) -> list[int] | float:
    """The labels, without that of the first token of each text, which nothing stands before to predict it."""
    if not isinstance(example.labels, list):
        return example.labels
    labels = list(example.labels)
    for start in accumulate((example.lengths or [0])[:-1], initial=0):
        labels[start] = IGNORED
    return labels


def packed(examples: Sequence[Example], max_length: int) -> Iterator[Example]:
    """The examples in as few rows as they fit in."""
    for items in best_fit([len(example.input_ids) for example in examples], max_length):
        together = [examples[item] for item in items]
        yield Example(
            [token for example in together for token in example.input_ids],
            [label for example in together for label in cast(list[int], example.labels)],
            ", ".join(dict.fromkeys(example.where for example in together)),
            [length for example in together for length in example.lengths or [len(example.input_ids)]],
        )


def check_packed(examples: Sequence[Example], together: Sequence[Example]) -> None:
    """Hold packed rows against the examples in them, which have been checked one by one.

    Raises:
        DataError: other tokens, or another number of them, would be trained than without packing.
    """
    apart, packed_labels = Counter[float](), Counter[float]()
    for group, found in ((examples, apart), (together, packed_labels)):
        for example in group:
            found.update(cast(list[int], predictable(example)))
    if apart != packed_labels:
        trained = [found.total() - found[IGNORED] for found in (apart, packed_labels)]
        raise DataError(
            f"data.packing: packed rows train {trained[1]:,} tokens, their examples {trained[0]:,} "
            "(data.packing=false)"
        )
