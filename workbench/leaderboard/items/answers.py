"""Reads a predictions file into arrays: in bulk by pyarrow, else by the reader that checks each line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from workbench.errors import DataError
from workbench.evaluation.field_checks import LARGEST
from workbench.evaluation.records import SCHEMA_VERSION, Prediction, read_predictions
from workbench.leaderboard.imported_items import ImportedItems
from workbench.leaderboard.items.bulk import first_line, read_bulk, type_of
from workbench.leaderboard.items.model_answers import ModelAnswers, answer_fields, answers_of

LABELS, TEXTS = ("prediction", "target"), ("context",)
"""Fields of a prediction that are read only for metrics that need them: labels, and the text before the
answer."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """One model's items of a benchmark, in the order of the file."""

    ids: pa.Array
    prompts: pa.Array
    """Hash of each item's prompt."""
    subsets: pa.Array
    clusters: pa.Array
    """Name of each item's cluster, such as a common text; empty: the item is independent."""
    values: NDArray[np.float64]
    """Score of each item by one metric."""
    predictions: list[Any] | None = None
    """Model's answer to each item, as in `Prediction`; None: not read."""
    targets: list[Any] | None = None
    """Right answer of each item, as in `Prediction`; None: not read."""
    texts: list[str] | None = None
    """Text before the answer, of a perplexity benchmark the text that is scored; None: not read."""
    weights: NDArray[np.float64] | None = None
    """Bytes or words of each item by another tool's count, which divide its log-likelihood; None: count
    those of `texts`."""
    answers: ModelAnswers | None = None
    """Chosen options and log-likelihoods; None if the file was not read in bulk, or if texts were
    generated."""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.values)

    def answers_same(self, other: "Items") -> bool:
        """Return whether two models have the same items with the same prompts in the same order."""
        return bool(self.ids.equals(other.ids) and self.prompts.equals(other.prompts))

    @property
    def is_clustered(self) -> bool:
        """Whether any item is in a cluster."""
        return bool(pc.any(pc.not_equal(self.clusters, "")).as_py())

    def keys(self) -> list[tuple[str, str]]:
        """Return (id, prompt hash) of each item."""
        return list(zip(self.ids.to_pylist(), self.prompts.to_pylist(), strict=True))


def read_items(path: Path, metric: str, columns: Sequence[str] = ()) -> Items:
    """Read ids, prompt hashes, subsets, clusters and one metric's item scores from a predictions file.

    Args:
        path: Path of the file.
        metric: Metric whose item scores are read.
        columns: Further fields to read, from `LABELS` and `TEXTS`.

    Raises:
        DataError: The file can't be read or is empty, or a line is not a prediction, has no finite score of
            this metric, or repeats an item's id.
    """
    try:
        data = path.read_bytes()
        items = _bulk(data, metric, columns)
        if items is None:
            items = _checked(path, metric, columns)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: can't be read ({error})") from error
    return _distinct(items, str(path))


def _distinct(items: Items, where: str) -> Items:
    """Return the items unchanged after checking that there are some and that no id occurs twice.

    Raises:
        DataError: There are no items, or an id occurs twice; the message starts with `where`.
    """
    if len(items) == 0:
        raise DataError(f"{where}: has no items")
    if pc.count_distinct(items.ids).as_py() < len(items):
        raise DataError(f"{where}: {_repeated(items.ids.to_pylist())}")
    return items


def _repeated(ids: Sequence[str]) -> str:
    """Return a message that names the first id that occurs twice, with both line numbers."""
    first: dict[str, int] = {}
    for number, item in enumerate(ids, 1):
        if item in first:
            return f"item {item!r} is there twice (lines {first[item]} and {number})"
        first[item] = number
    return "an item is there twice"


def _bulk(data: bytes, metric: str, columns: Sequence[str]) -> Items | None:
    """Parse the bytes of a predictions file with pyarrow; None if it can't, as for lines of unlike types."""
    first = first_line(data)
    try:
        fields = _fields(first, metric, columns) if first else {}
    except (TypeError, KeyError):
        return None
    if not first or not fields:
        return None
    with_answers = {**fields, **answer_fields(first)} if first.get("generation") is None else fields
    arrays = read_bulk(data, with_answers)
    if arrays is None and with_answers is not fields:
        arrays = read_bulk(data, fields)
    return None if arrays is None else _items(arrays, metric, columns)


def _items(arrays: dict[str, pa.Array], metric: str, columns: Sequence[str]) -> Items | None:
    """Build the items from columns read in bulk; None if a score isn't finite or a line's version is old."""
    values = arrays["scores"].field(metric)
    if values.null_count or not _are_scores(numbers := values.to_numpy(zero_copy_only=False)):
        return None
    if pc.unique(arrays["schema_version"]).to_pylist() != [SCHEMA_VERSION]:
        return None
    answers = answers_of(arrays) if "loglikelihoods" in arrays else None
    wanted = {name: arrays[name].to_pylist() for name in columns}
    return Items(
        ids=arrays["id"],
        prompts=arrays["prompt_hash"],
        subsets=arrays["subset"],
        clusters=pc.fill_null(arrays["cluster"], ""),
        values=numbers,
        predictions=wanted.get("prediction"),
        targets=wanted.get("target"),
        texts=wanted.get("context"),
        answers=answers if answers and answers.generations is None else None,
    )


def _fields(first: dict[str, Any], metric: str, columns: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the fields to read in bulk, with their types on the file's first line.

    Raises:
        KeyError: The line lacks a field.
        TypeError: A value has a type that isn't read in bulk.
    """
    fields: dict[str, pa.DataType] = dict.fromkeys(("id", "subset", "prompt_hash", "cluster"), pa.string())
    fields |= {"schema_version": pa.int64(), "scores": pa.struct([(metric, pa.float64())])}
    return fields | {name: type_of(first[name]) for name in columns}


def _are_scores(values: NDArray[np.float64]) -> bool:
    return bool(np.all(np.abs(values) < LARGEST))  # false for NaN


def _checked(path: Path, metric: str, columns: Sequence[str]) -> Items:
    """Read a predictions file line by line, which is slower than in bulk and names the line of an error.

    Raises:
        DataError: A line is not a prediction, or has no score of this metric.
    """
    return items_of(read_predictions(path), metric, columns, str(path))


def items_of(
    predictions: Sequence[Prediction], metric: str, columns: Sequence[str] = (), where: str = "predictions"
) -> Items:
    """Convert predictions in memory to arrays: one metric's item scores, and the fields in `columns`.

    Raises:
        DataError: There are no predictions, one has no score of this metric, an id occurs twice, or a text is
            not Unicode; the message starts with `where`.
    """
    for number, prediction in enumerate(predictions, 1):
        if metric not in prediction.scores:
            raise DataError(f"{where}:{number}: item {prediction.id!r} has no score of {metric}")

    def texts(name: str) -> pa.Array:
        return _text_array([getattr(prediction, name) for prediction in predictions], where)

    def wanted(name: str) -> list[Any] | None:
        return [getattr(prediction, name) for prediction in predictions] if name in columns else None

    items = Items(
        ids=texts("id"),
        prompts=texts("prompt_hash"),
        subsets=texts("subset"),
        clusters=texts("cluster"),
        values=np.array([prediction.scores[metric] for prediction in predictions], dtype=np.float64),
        predictions=wanted("prediction"),
        targets=wanted("target"),
        texts=wanted("context"),
    )
    return _distinct(items, where)


def imported_items(found: ImportedItems, metric: str, where: str) -> Items:
    """Convert items imported from another tool to arrays, with the item scores of one metric.

    Raises:
        DataError: There are no items, one has no finite score of this metric, two have the same id, or a text
            is not Unicode; the message starts with `where`.
    """
    values = np.array(found.values.get(metric, []), dtype=np.float64)
    if len(values) != len(found.ids) or not _are_scores(values):
        raise DataError(f"{where}: has no finite score of {metric} for each item")
    ids, prompts, subsets, clusters = (
        _text_array(texts, where) for texts in (found.ids, found.prompts, found.subsets, found.clusters)
    )
    items = Items(
        ids=ids,
        prompts=prompts,
        subsets=subsets,
        clusters=clusters,
        values=values,
        predictions=found.predictions,
        targets=found.targets,
        texts=found.texts,
        weights=np.array(found.weights[metric], dtype=np.float64) if metric in found.weights else None,
    )
    return _distinct(items, where)


def _text_array(texts: Sequence[str], where: str) -> pa.Array:
    """Convert texts to a pyarrow array.

    Raises:
        DataError: A text has half of a surrogate pair; the message starts with `where`.
    """
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {error.object!r:.80} is not Unicode text ({error.reason})") from error


def num_words(text: str) -> int:
    """Return the number of words of a text: its parts between whitespace, as word perplexity counts them."""
    return len(re.split(r"\s+", text))
