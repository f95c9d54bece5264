"""Reads the questions and answers of a leaderboard's items from the runs, one column at a time."""

import os.path
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.errors import DataError
from workbench.leaderboard.board import Board, Outcomes
from workbench.leaderboard.collect import Run
from workbench.leaderboard.items.answer_file import AnswerFile, Asked
from workbench.leaderboard.items.index import ItemIndex
from workbench.leaderboard.items.model_answers import ModelAnswers
from workbench.leaderboard.page.texts import NOT_CHOSEN, ColumnTexts
from workbench.leaderboard.rows.models import find_models


class RunTexts:
    """Source of the questions and answers that the page shows, read from the runs' predictions files."""

    def __init__(self, board: Board, runs: Sequence[Run], index: ItemIndex | None = None) -> None:
        """Look up which run has each cell's answers; no file is read yet.

        Args:
            board: The board.
            runs: The runs that it was built from.
            index: Cache of items that was filled for the board; None: the files are read again.
        """
        labels = {run.label: run for run in runs}
        keys = find_models(runs).keys
        names = {(label, key): name for (label, name), key in keys.items()}
        self._outcomes = board.outcomes
        self._columns = {column.key: column for column in board.columns}
        self._index = index or ItemIndex(None)
        self._texts: dict[str, ColumnTexts | None] = {}
        self._found = {
            (cell.model, cell.column): (labels[cell.source], names[cell.source, cell.model])
            for cell in board.cells
            if cell.source in labels
        }

    def column(self, key: str) -> ColumnTexts | None:
        """Return questions and answers of the column with this key; None if no model's answers can be read.

        The result is kept for further calls, except for columns with generated texts, which are read again.
        """
        if key in self._texts:
            return self._texts[key]
        outcomes = self._outcomes.get(key)
        texts = None if outcomes is None else self._read(key, outcomes)
        if texts is None or texts.generations is None:  # generated texts are too large to be kept
            self._texts[key] = texts
        return texts

    def _read(self, key: str, outcomes: Outcomes) -> ColumnTexts | None:
        ids = pa.array(outcomes.ids, pa.string())
        asked: Asked | None = None
        answers: dict[int, ModelAnswers] = {}
        for number, model in enumerate(outcomes.models):
            source = self._source(model, key)
            if source is not None and (found := source.answers(ids)) is not None:
                answers[number] = found
                asked = asked or source.asked(ids)
        if asked is None:
            return None
        return _texts(asked, answers, outcomes)

    def _source(self, model: str, key: str) -> AnswerFile | None:
        """Return the predictions file of a model in a column; None if it is missing, changed or damaged."""
        run, name = self._found[model, key]
        column = self._columns[key]
        try:
            file = run.file_of(name, column.benchmark)
        except DataError:
            return None
        if file is None:
            return None
        path, digest = file
        return AnswerFile(path, self._index.get(digest, column.metric))


def _texts(asked: Asked, answers: dict[int, ModelAnswers], outcomes: Outcomes) -> ColumnTexts:
    """Combine a column's questions with all models' answers, as arrays over models and items.

    Args:
        asked: Prompts, options and right answers.
        answers: Index of a model in the outcomes -> its answers.
        outcomes: Models and items of the column.
    """
    num_models, num_items = len(outcomes.models), len(outcomes.ids)
    nothing: list[str | None] = [None] * num_items
    texts = {number: each.generations for number, each in answers.items() if each.generations}
    rows = [texts.get(number, nothing) for number in range(num_models)]
    chosen = np.full((num_models, num_items), NOT_CHOSEN, dtype=np.int16)
    for number, each in answers.items():
        chosen[number] = each.chosen
    return ColumnTexts(
        questions=questions(asked.contexts, outcomes.subsets),
        choices=asked.choices,
        targets=asked.targets,
        chosen=chosen if not texts and any(asked.choices) else None,
        loglikelihoods=_loglikelihoods(answers, num_models, num_items),
        generations=rows if texts else None,
    )


def _loglikelihoods(
    answers: dict[int, ModelAnswers], num_models: int, num_items: int
) -> NDArray[np.float32] | None:
    """Stack log-likelihoods as (num_models, num_items, num_choices), NaN where missing; None: no options."""
    width = max(each.loglikelihoods.shape[1] for each in answers.values())
    if not width:
        return None
    found = np.full((num_models, num_items, width), np.nan, dtype=np.float32)
    for number, each in answers.items():
        found[number, :, : each.loglikelihoods.shape[1]] = each.loglikelihoods
    return found


def questions(contexts: Sequence[str], subsets: Sequence[str]) -> list[str]:
    """Return the prompts without the first lines that all prompts of their subset share.

    These are the instruction and the few-shot examples. The only prompt of a subset stays whole, and so does
    a prompt of which nothing would remain.
    """
    by_subset: dict[str, list[str]] = {}
    for context, subset in zip(contexts, subsets, strict=True):
        by_subset.setdefault(subset, []).append(context)
    shared = {
        subset: os.path.commonprefix(texts).rfind("\n") + 1 if len(texts) > 1 else 0
        for subset, texts in by_subset.items()
    }
    return [context[shared[subset] :] or context for context, subset in zip(contexts, subsets, strict=True)]
