"""Encoded examples: the token ids and labels of one sequence of the training data."""

from dataclasses import dataclass
from itertools import accumulate

from workbench.config.names import IGNORED


@dataclass(frozen=True)
class Example:
    """Token ids and labels of one training sequence: a row, a part of one, or several rows packed."""

    input_ids: list[int]
    labels: list[int] | float
    """For each token its id or -100 (no loss); for a classifier the class index or a regression's number."""
    where: str
    """File and line of the row; of packed rows, all of them, or the path of the data."""
    lengths: list[int] | None = None
    """Lengths in tokens of the packed texts, in order; None: a single text."""


def predictable(example: Example) -> list[int] | float:
    """Return a copy of an example's labels with -100 for each text's first token, which nothing predicts.

    A classifier's label is returned unchanged.
    """
    if not isinstance(example.labels, list):
        return example.labels
    labels = list(example.labels)
    for start in accumulate((example.lengths or [0])[:-1], initial=0):
        labels[start] = IGNORED
    return labels
