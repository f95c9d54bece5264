"""Encoded examples: the token ids and labels of a row of the data set."""

from dataclasses import dataclass
from itertools import accumulate

from workbench.config.names import IGNORED


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
