"""Defines the interface by which the page reads questions and answers, one column at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

NOT_CHOSEN = -1
"""Index in `chosen` for a model that chose none of the options."""


@dataclass(frozen=True, kw_only=True)
class ColumnTexts:
    """Questions and answers of one column, in the order of models and items of its `Outcomes`."""

    questions: Sequence[str]
    """Question of each item, without instruction and few-shot examples."""
    choices: Sequence[Sequence[str]]
    """Options of each item; empty where the answer is generated."""
    targets: Sequence[Sequence[int | str]]
    """Indices of the right options of each item, or the right texts."""
    chosen: NDArray[np.int16] | None = None
    """(num_models, num_items) index of the chosen option, or NOT_CHOSEN; None where answers are generated."""
    loglikelihoods: NDArray[np.float32] | None = None
    """(num_models, num_items, num_choices) in nats; NaN where an item has fewer options or has none."""
    generations: Sequence[Sequence[str | None]] | None = None
    """Per model, the generated text of each item; None where options are chosen."""


class ItemTexts(Protocol):
    """Interface to a board's questions and answers, which are read one column at a time to save memory."""

    def column(self, key: str) -> ColumnTexts | None:
        """Return questions and answers of the column with this key; None if there are none."""
        ...


class NoTexts:
    """An `ItemTexts` without questions and answers, for a board that has only scores."""

    def column(self, key: str) -> ColumnTexts | None:
        """Return None for every column."""
        return None
