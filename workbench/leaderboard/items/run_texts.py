"""Reads the questions and answers of a board's items from the runs, one column at a time."""

import os.path
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from workbench.errors import DataError
from workbench.evaluation.records import Prediction
from workbench.leaderboard.board import Board, Outcomes
from workbench.leaderboard.collect import Run
from workbench.leaderboard.page.texts import NOT_CHOSEN, ColumnTexts
from workbench.leaderboard.rows.models import find_models


class RunTexts:
    """Questions and answers of the models that a board compares, as its runs have them."""

    def __init__(self, board: Board, runs: Sequence[Run]) -> None:
        """Keep where each model's answers are.

        Args:
            board: The board.
            runs: The runs that it was built from.
        """
        labels = {run.label: run for run in runs}
        keys = find_models(runs).keys
        names = {(label, key): name for (label, name), key in keys.items()}
        self._outcomes = board.outcomes
        self._benchmarks = {column.key: column.benchmark for column in board.columns}
        self._found = {
            (cell.model, cell.column): (labels[cell.source], names[cell.source, cell.model])
            for cell in board.cells
            if cell.source in labels
        }

    def column(self, key: str) -> ColumnTexts | None:
        """Return the texts of the column with this key; None if no model's answers can be read."""
        outcomes = self._outcomes.get(key)
        if outcomes is None:
            return None
        answers = _Answers(num_models=len(outcomes.models), num_items=len(outcomes.ids))
        for number, model in enumerate(outcomes.models):
            if (predictions := self._predictions(model, key, outcomes)) is not None:
                answers.add(number, predictions)
        return answers.texts(outcomes)

    def _predictions(self, model: str, key: str, outcomes: Outcomes) -> list[Prediction] | None:
        """Return a model's answers in the order of the outcomes; None if they can't be read."""
        run, name = self._found[model, key]
        try:
            found = run.predictions(name, self._benchmarks[key]) or []
        except DataError:
            return None
        by_id = {prediction.id: prediction for prediction in found}
        return [by_id[item] for item in outcomes.ids] if by_id.keys() >= set(outcomes.ids) else None


@dataclass
class _Answers:
    """Answers of the models so far."""

    num_models: int
    num_items: int
    asked: list[Prediction] = field(default_factory=list)
    """Answers of one of the models, from which the questions and options are taken."""
    choices: dict[int, list[int | str | None]] = field(default_factory=dict)
    """Number of a model -> what it answered to each item."""
    generations: dict[int, list[str | None]] = field(default_factory=dict)
    loglikelihoods: dict[int, list[list[float]]] = field(default_factory=dict)

    def add(self, number: int, predictions: list[Prediction]) -> None:
        """Add the answers of one model."""
        self.asked = self.asked or predictions
        self.choices[number] = [prediction.prediction for prediction in predictions]
        texts = [prediction.generation for prediction in predictions]
        if any(text is not None for text in texts):
            self.generations[number] = texts
        if any(prediction.loglikelihoods for prediction in predictions):
            self.loglikelihoods[number] = [prediction.loglikelihoods for prediction in predictions]

    def texts(self, outcomes: Outcomes) -> ColumnTexts | None:
        """Return the texts of the column; None if no answers were added."""
        if not self.asked:
            return None
        nothing: list[str | None] = [None] * self.num_items
        rows = [self.generations.get(number, nothing) for number in range(self.num_models)]
        return ColumnTexts(
            questions=questions([item.context for item in self.asked], outcomes.subsets),
            choices=[item.choices for item in self.asked],
            targets=[_targets(item) for item in self.asked],
            chosen=None if self.generations else self._chosen(),
            loglikelihoods=self._loglikelihoods(),
            generations=rows if self.generations else None,
        )

    def _chosen(self) -> NDArray[np.int16] | None:
        """Return the index of each chosen option; None if there are no options."""
        if not any(item.choices for item in self.asked):
            return None
        chosen = np.full((self.num_models, self.num_items), NOT_CHOSEN, dtype=np.int16)
        for number, answers in self.choices.items():
            chosen[number] = [answer if isinstance(answer, int) else NOT_CHOSEN for answer in answers]
        return chosen

    def _loglikelihoods(self) -> NDArray[np.float32] | None:
        """Return the log-likelihood of each option; None if there are none."""
        if not self.loglikelihoods:
            return None
        width = max(len(values) for rows in self.loglikelihoods.values() for values in rows)
        found = np.full((self.num_models, self.num_items, width), np.nan, dtype=np.float32)
        for number, rows in self.loglikelihoods.items():
            for item, values in enumerate(rows):
                found[number, item, : len(values)] = values
        return found


def _targets(item: Prediction) -> list[int | str]:
    return [*item.target] if isinstance(item.target, list) else [item.target]


def questions(contexts: Sequence[str], subsets: Sequence[str]) -> list[str]:
    """Return each prompt without the first lines that all prompts of its subset share: instruction, shots."""
    by_subset: dict[str, list[str]] = {}
    for context, subset in zip(contexts, subsets, strict=True):
        by_subset.setdefault(subset, []).append(context)
    shared = {
        subset: os.path.commonprefix(texts).rfind("\n") + 1 if len(texts) > 1 else 0
        for subset, texts in by_subset.items()
    }
    return [context[shared[subset] :] or context for context, subset in zip(contexts, subsets, strict=True)]
