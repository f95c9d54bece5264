"""Defines how the page gets the questions and answers of a board's items, one column at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

NOT_CHOSEN = -1
"""Choice of a model that chose none of the options."""


@dataclass(frozen=True, kw_only=True)
class ColumnTexts:
    """Texts and answers of one column, in the order of models and items of its `Outcomes`."""

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
    """For each model, its generated text of each item; None where options are chosen."""


class ItemTexts(Protocol):
    """Source of a board's questions and answers; only one column is in memory at a time."""

    def column(self, key: str) -> ColumnTexts | None:
        """Return the texts of the column with this key; None if there are none."""
        ...


class NoTexts:
    """Source of a board without questions and answers."""

    def column(self, key: str) -> ColumnTexts | None:
        """Return None."""
        return None
