"""Writes every model's score and answer to every item as Parquet, in blocks of rows to bound the memory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from workbench.files import check_replaceable, clear_the_way, part_of
from workbench.leaderboard.board import Board, Column, Outcomes
from workbench.leaderboard.page.items import margins_of
from workbench.leaderboard.page.texts import ColumnTexts, ItemTexts
from workbench.shown import clean

ROWS = 200_000
"""Largest number of rows of a row group, which are in memory at once."""

TEXT = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        ("model", TEXT),
        ("column", TEXT),
        ("benchmark", TEXT),
        ("metric", TEXT),
        ("subset", TEXT),
        ("id", TEXT),
        ("cluster", pa.int32()),
        ("score", pa.float64()),
        ("choice", pa.int16()),
        ("answer", TEXT),
        ("target", TEXT),
        ("margin", pa.float32()),
        ("loglikelihoods", pa.list_(pa.float32())),
        ("model_key", TEXT),
        ("column_key", TEXT),
    ]
)
"""Columns of items.parquet. choice: index of the chosen option, from 0. answer: text of the chosen option, or
the generated text. target: the right options or texts, separated by " | ". margin: log-likelihood of the
likeliest right option minus that of the likeliest wrong one, in nats."""


ENCODING: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": [name for name in SCHEMA.names if name not in ("margin", "loglikelihoods")],
    "use_byte_stream_split": ["margin", "loglikelihoods.list.element"],
}
"""Log-likelihoods hardly repeat: a dictionary of them would take more time and more bytes."""


def write(board: Board, texts: ItemTexts, path: Path) -> None:
    """Write items.parquet under a temporary name and rename it; its folder is created if need be.

    Args:
        board: The board, whose outcomes have the scores.
        texts: Source of the models' answers; columns without answers have only scores.
        path: Path of the file.

    Raises:
        DataError: There is a folder at the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    part = clear_the_way(part_of(path))
    with part.open("xb") as file:
        with pq.ParquetWriter(file, SCHEMA, **ENCODING) as writer:
            for column in board.columns:
                for batch in _batches(board, column, texts):
                    writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _batches(board: Board, column: Column, texts: ItemTexts) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a column in batches of whole models, each of about `ROWS` rows at most."""
    outcomes = board.outcomes.get(column.key)
    if outcomes is None or not outcomes.ids:
        return
    column_texts = texts.column(column.key)
    names = {model.key: model.name for model in board.models}
    width = max(1, ROWS // len(outcomes.ids))
    for start in range(0, len(outcomes.models), width):
        rows = slice(start, start + width)
        yield _batch(column, outcomes, column_texts, names, rows)


def _batch(
    column: Column, outcomes: Outcomes, texts: ColumnTexts | None, names: dict[str, str], rows: slice
) -> pa.RecordBatch:
    """Return the Parquet rows of one column, one per model and item, for a slice of its models."""
    models, num_items = outcomes.models[rows], len(outcomes.ids)
    num_rows = len(models) * num_items
    of_model = np.repeat(np.arange(len(models)), num_items)
    of_item = np.tile(np.arange(num_items), len(models))
    arrays: dict[str, Any] = {
        "model": _encoded([names[key] for key in models], of_model),
        "model_key": _encoded(models, of_model),
        "subset": _encoded(outcomes.subsets, of_item),
        "id": _encoded(outcomes.ids, of_item),
        "cluster": pa.array(outcomes.clusters.astype(np.int32)[of_item]),
        "score": pa.array(outcomes.values[rows].reshape(-1)),
        **{
            name: _encoded([text], np.zeros(num_rows, np.int64))
            for name, text in (
                ("column", column.label),
                ("benchmark", column.benchmark),
                ("metric", column.metric),
                ("column_key", column.key),
            )
        },
        **(_answers(texts, rows, of_item) if texts else {}),
    }
    filled = [
        arrays[field.name] if field.name in arrays else pa.nulls(num_rows, field.type) for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(filled, schema=SCHEMA)


def _answers(texts: ColumnTexts, rows: slice, of_item: NDArray[np.int64]) -> dict[str, Any]:
    """Return those of the Parquet columns target, answer, choice, margin and loglikelihoods that exist."""
    targets = [
        " | ".join(_target_text(target, choices) for target in targets)
        for targets, choices in zip(texts.targets, texts.choices, strict=True)
    ]
    arrays: dict[str, Any] = {"target": _encoded(targets, of_item)}
    if texts.generations is not None:
        answers = [text for answers in texts.generations[rows] for text in answers]
        arrays["answer"] = _encoded(answers, np.arange(len(answers)))
    if texts.chosen is not None:
        arrays |= _chosen(texts, texts.chosen[rows].reshape(-1), of_item)
    if texts.loglikelihoods is not None:
        likelihoods = texts.loglikelihoods[rows]
        arrays["loglikelihoods"] = _lists(likelihoods)
        margins = margins_of(likelihoods, texts.targets).reshape(-1)
        arrays["margin"] = pa.array(margins, pa.float32(), mask=np.isnan(margins))
    return arrays


def _chosen(texts: ColumnTexts, chosen: NDArray[np.int16], of_item: NDArray[np.int64]) -> dict[str, Any]:
    """Return the Parquet columns choice (index) and answer (text) of the chosen options; null where none."""
    num_choices = np.array([len(choices) for choices in texts.choices], dtype=np.int64)
    first = np.cumsum(num_choices) - num_choices
    is_missing = (chosen < 0) | (chosen >= num_choices[of_item])
    options = [option for choices in texts.choices for option in choices]
    return {
        "choice": pa.array(chosen, pa.int16(), mask=is_missing),
        "answer": _encoded(options, first[of_item] + chosen, is_missing),
    }


def _encoded(
    texts: Sequence[str | None], indices: NDArray[np.int64], is_missing: NDArray[np.bool_] | None = None
) -> pa.DictionaryArray:
    """Return the texts at these indices as a dictionary array: cleaned, each distinct text stored once."""
    cleaned = [None if text is None else clean(text) for text in texts]
    return pa.array(cleaned, pa.string()).dictionary_encode().take(pa.array(indices, mask=is_missing))


def _target_text(target: int | str, choices: Sequence[str]) -> str:
    """Return the text of a right answer, which is given as a text or as the index of an option."""
    return choices[target] if isinstance(target, int) and 0 <= target < len(choices) else str(target)


def _lists(likelihoods: NDArray[np.float32]) -> pa.ListArray:
    """Convert (num_models, num_items, num_choices) log-likelihoods to one list per model and item.

    NaN is left out of the lists; a list of NaN only becomes null.
    """
    rows = likelihoods.reshape(-1, likelihoods.shape[-1])
    is_known = ~np.isnan(rows)
    lengths = is_known.sum(1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(rows[is_known], pa.float32()), mask=pa.array(lengths == 0)
    )
