"""Reads questions and answers of a predictions file: in bulk by pyarrow, else line by line."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench.errors import DataError
from workbench.evaluation.records import Prediction, read_predictions
from workbench.leaderboard.items.answers import Items
from workbench.leaderboard.items.bulk import first_line, read_bulk, type_of
from workbench.leaderboard.items.model_answers import ModelAnswers, bulk_answers, checked_answers


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Prompts, options and right answers of a benchmark's items, in the order of a leaderboard column."""

    contexts: Sequence[str]
    choices: Sequence[list[str]]
    targets: Sequence[list[int | str]]


class AnswerFile:
    """One model's file of predictions on one benchmark."""

    def __init__(self, path: Path, items: Items | None = None) -> None:
        """Remember the path; the file is read when answers or questions are asked for.

        Args:
            path: Path of the file.
            items: Cached items of a file with this content; None: the cache has none.
        """
        self._path = path
        self._items = items

    def answers(self, ids: pa.Array) -> ModelAnswers | None:
        """Return the model's answers to the items with these ids, in this order, from the cache if possible.

        None if an item is missing, or the file can't be read. The file's bytes stay in memory.
        """
        if self._items is not None and self._items.answers is not None and self._items.ids.equals(ids):
            return self._items.answers
        found = bulk_answers(self._data)
        if found is not None and found[0].equals(ids):
            return found[1]
        ordered = self._ordered(ids)
        return None if ordered is None else checked_answers(ordered)

    def asked(self, ids: pa.Array) -> Asked | None:
        """Return prompts, options and right answers of the items with these ids, in this order.

        None if an item is missing, or the file can't be read.
        """
        arrays = _bulk_questions(self._data)
        if arrays is not None and arrays["id"].equals(ids):
            return Asked(
                contexts=arrays["context"].to_pylist(),
                choices=arrays["choices"].to_pylist(),
                targets=[_as_list(target) for target in arrays["target"].to_pylist()],
            )
        ordered = self._ordered(ids)
        if ordered is None:
            return None
        return Asked(
            contexts=[item.context for item in ordered],
            choices=[item.choices for item in ordered],
            targets=[_as_list(item.target) for item in ordered],
        )

    @cached_property
    def _data(self) -> bytes:
        """Content of the file; empty if it can't be read."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""

    def _ordered(self, ids: pa.Array) -> list[Prediction] | None:
        """Read the file line by line, and return the predictions with these ids, in this order.

        None if an id is missing or a line is damaged.
        """
        try:
            by_id = {each.id: each for each in read_predictions(self._path)}
        except (DataError, OSError, UnicodeDecodeError):
            return None
        wanted = ids.to_pylist()
        return [by_id[item] for item in wanted] if by_id.keys() >= set(wanted) else None


def _bulk_questions(data: bytes) -> dict[str, pa.Array] | None:
    """Read the fields id, context, choices and target of all lines as columns; None if pyarrow can't."""
    first = first_line(data)
    try:
        target = type_of(first.get("target")) if first else None
    except TypeError:
        return None
    if target is None:
        return None
    texts = {"id": pa.string(), "context": pa.string(), "choices": pa.list_(pa.string()), "target": target}
    arrays = read_bulk(data, texts)
    return arrays if arrays and not arrays["choices"].flatten().null_count else None


def _as_list(target: Any) -> list[int | str]:
    return [*target] if isinstance(target, list) else [target]
