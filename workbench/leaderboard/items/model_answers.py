"""Defines one model's answers to a benchmark's items as arrays, and builds them from a predictions file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.evaluation.records import Prediction
from workbench.leaderboard.items.bulk import first_line, read_bulk
from workbench.leaderboard.page.texts import NOT_CHOSEN

LARGEST_CHOICE = 2**15 - 1


@dataclass(frozen=True, kw_only=True)
class ModelAnswers:
    """One model's answers to a benchmark's items: chosen options, log-likelihoods, generated texts."""

    chosen: NDArray[np.int16]
    """(num_items,) index of the chosen option, or NOT_CHOSEN."""
    loglikelihoods: NDArray[np.float32]
    """(num_items, num_choices) in nats; NaN where an item has fewer options."""
    generations: list[str | None] | None = None
    """Generated text of each item; None in place of the list: no text was generated."""


def answer_fields(first: dict[str, Any]) -> dict[str, pa.DataType]:
    """Return the fields that `answers_of` needs, with types that fit a predictions file's first line."""
    is_index = isinstance(first.get("prediction"), int)
    return {
        "prediction": pa.int64() if is_index else pa.string(),
        "loglikelihoods": pa.list_(pa.float64()),
        "generation": pa.string(),
    }


def answers_of(arrays: dict[str, pa.Array]) -> ModelAnswers | None:
    """Build the answers from the fields of `answer_fields`, as `read_bulk` returns them.

    None if a log-likelihood is null, or the index of a chosen option doesn't fit into 16 bits.
    """
    chosen, lists, texts = (arrays[name] for name in ("prediction", "loglikelihoods", "generation"))
    numbers = lists.flatten()
    if numbers.null_count:
        return None
    if not pa.types.is_integer(chosen.type):
        indices = np.full(len(chosen), NOT_CHOSEN, np.int16)
    else:
        values = pc.fill_null(chosen, NOT_CHOSEN).to_numpy()
        if np.abs(values).max(initial=0) > LARGEST_CHOICE:
            return None
        indices = values.astype(np.int16)
    return ModelAnswers(
        chosen=indices,
        loglikelihoods=_padded(numbers.to_numpy(), np.diff(lists.offsets.to_numpy())),
        generations=None if texts.null_count == len(texts) else texts.to_pylist(),
    )


def bulk_answers(data: bytes) -> tuple[pa.Array, ModelAnswers] | None:
    """Return ids and answers from the bytes of a predictions file; None if pyarrow can't read it in bulk."""
    first = first_line(data)
    arrays = first and read_bulk(data, {"id": pa.string(), **answer_fields(first)})
    answers = answers_of(arrays) if arrays else None
    return (arrays["id"], answers) if arrays and answers else None


def checked_answers(predictions: Sequence[Prediction]) -> ModelAnswers:
    """Build the answers from a list of predictions; an answer that isn't a small index is NOT_CHOSEN."""
    choices = [
        each.prediction
        if isinstance(each.prediction, int) and abs(each.prediction) <= LARGEST_CHOICE
        else NOT_CHOSEN
        for each in predictions
    ]
    texts = [each.generation for each in predictions]
    numbers = [number for each in predictions for number in each.loglikelihoods]
    lengths = np.array([len(each.loglikelihoods) for each in predictions])
    return ModelAnswers(
        chosen=np.array(choices, dtype=np.int16),
        loglikelihoods=_padded(np.array(numbers, dtype=np.float64), lengths),
        generations=texts if any(text is not None for text in texts) else None,
    )


def _padded(numbers: NDArray[np.float64], lengths: NDArray[Any]) -> NDArray[np.float32]:
    """Split `numbers` into rows of these lengths, padded with NaN to the longest row."""
    width = int(lengths.max(initial=0))
    rows: NDArray[np.float32] = np.full((len(lengths), width), np.nan, dtype=np.float32)
    rows[np.arange(width) < lengths[:, None]] = numbers
    return rows
