"""Encoded examples, and how several are packed into one row of a data set."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

from workbench.config.names import IGNORED
from workbench.data.packing import best_fit
from workbench.errors import DataError


@dataclass(frozen=True)
class Example:
    """Token ids and labels of one row of the data set."""

    input_ids: list[int]
    labels: list[int] | float
    """Label of each token; for a classifier the index of the class, or the number of a regression."""
    where: str
    lengths: list[int] | None = None
    """Lengths in tokens of the texts that are packed in this row; None: a single text."""


def predictable(example: Example) -> list[int] | float:
    """Return an example's labels, with each text's first token masked, because nothing predicts this."""
    if not isinstance(example.labels, list):
        return example.labels
    labels = list(example.labels)
    for start in accumulate((example.lengths or [0])[:-1], initial=0):
        labels[start] = IGNORED
    return labels


def packed(examples: Sequence[Example], max_length: int) -> Iterator[Example]:
    """Pack examples into rows of at most `max_length` tokens.

    Best-fit packing keeps the number of rows small.
    """
    for items in best_fit([len(example.input_ids) for example in examples], max_length):
        group = [examples[item] for item in items]
        yield Example(
            [token for example in group for token in example.input_ids],
            [label for example in group for label in cast(list[int], example.labels)],
            ", ".join(dict.fromkeys(example.where for example in group)),
            [length for example in group for length in example.lengths or [len(example.input_ids)]],
        )


def check_packed(examples: Sequence[Example], packed_examples: Sequence[Example]) -> None:
    """Check that packed rows and their examples have the same unmasked labels, each equally often.

    Raises:
        DataError: The unmasked tokens of the packed rows differ from those of the examples.
    """
    labels, packed_labels = Counter[float](), Counter[float]()
    for counts, rows in ((labels, examples), (packed_labels, packed_examples)):
        for example in rows:
            counts.update(cast(list[int], predictable(example)))
    if labels != packed_labels:
        num_unmasked = [counts.total() - counts[IGNORED] for counts in (labels, packed_labels)]
        raise DataError(
            f"data.packing: packed rows have {num_unmasked[1]:,} unmasked tokens, their examples "
            f"{num_unmasked[0]:,} (set data.packing=false)"
        )
