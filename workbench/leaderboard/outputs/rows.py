"""Converts a board into flat rows: one per model and column, and one per tested difference."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from workbench.leaderboard.board import Board, Cell, Column, Difference, Model


@dataclass(frozen=True, kw_only=True)
class ScoreEntry:
    """A score of the board with its model, the model's parent, and its column."""

    model: Model
    parent: Model | None
    """None if the model has no parent on the board."""
    column: Column
    cell: Cell


@dataclass(frozen=True, kw_only=True)
class DifferenceEntry:
    """A difference of the board with its two models and its column (None for a mean)."""

    first: Model
    second: Model
    column: Column | None
    difference: Difference


def _fact(name: str) -> Callable[[ScoreEntry], Any]:
    return lambda entry: entry.model.facts.get(name)


def _share_of_texts(name: str) -> Callable[[ScoreEntry], Any]:
    """Return a function of a score: the share of its generated texts that `Score.texts` counts as `name`."""

    def share(entry: ScoreEntry) -> float | None:
        counts = entry.cell.score.texts
        return counts[name] / counts["texts"] if counts.get("texts") and name in counts else None

    return share


SCORE_COLUMNS: dict[str, Callable[[ScoreEntry], Any]] = {
    "model": lambda entry: entry.model.name,
    "role": lambda entry: entry.model.role,
    "parent": lambda entry: entry.parent.name if entry.parent else None,
    "benchmark": lambda entry: entry.column.benchmark,
    "column": lambda entry: entry.column.label,
    "language": lambda entry: entry.column.language,
    "metric": lambda entry: entry.column.metric,
    "value": lambda entry: entry.cell.score.value,
    "low": lambda entry: entry.cell.score.interval[0] if entry.cell.score.interval else None,
    "high": lambda entry: entry.cell.score.interval[1] if entry.cell.score.interval else None,
    "confidence": lambda entry: entry.cell.score.confidence,
    "stderr": lambda entry: entry.cell.score.stderr,
    "num_items": lambda entry: entry.cell.score.num_items,
    "num_total": lambda entry: entry.column.num_total,
    "rank_best": lambda entry: entry.cell.best_rank,
    "rank_worst": lambda entry: entry.cell.worst_rank,
    "letters": lambda entry: entry.cell.letters,
    "apart": lambda entry: entry.cell.apart,
    "protocol": lambda entry: entry.cell.score.protocol,
    "num_fewshot": lambda entry: entry.cell.score.num_fewshot,
    "average": lambda entry: entry.column.average,
    "chance": lambda entry: entry.cell.score.chance,
    "answers_per_item": lambda entry: entry.cell.score.num_samples,
    "unextracted": _share_of_texts("unextracted"),
    "cut_at_limit": _share_of_texts("length"),
    "in_thought": _share_of_texts("in_thought"),
    "thought_cut": _share_of_texts("thought_cut"),
    "quantization": _fact("quantization"),
    "dtype": _fact("dtype"),
    "method": _fact("method"),
    "adapter_rank": _fact("rank"),
    "learning_rate": _fact("learning_rate"),
    "seed": _fact("seed"),
    "trained_on": _fact("trained_on"),
    "num_parameters": _fact("num_parameters"),
    "size_bytes": _fact("size_bytes"),
    "tool": lambda entry: entry.model.tool,
    "source": lambda entry: entry.cell.source,
    "note": lambda entry: entry.cell.score.note,
    "model_key": lambda entry: entry.model.key,
    "column_key": lambda entry: entry.column.key,
}
"""Name of a column of leaderboard.csv -> function that returns its value for a score."""

DIFFERENCE_COLUMNS: dict[str, Callable[[DifferenceEntry], Any]] = {
    "model_a": lambda entry: entry.first.name,
    "model_b": lambda entry: entry.second.name,
    "benchmark": lambda entry: entry.column.benchmark if entry.column else f"mean: {entry.difference.column}",
    "column": lambda entry: entry.column.label if entry.column else f"mean: {entry.difference.column}",
    "metric": lambda entry: entry.column.metric if entry.column else "mean above chance",
    "difference": lambda entry: entry.difference.value,
    "low": lambda entry: entry.difference.low,
    "high": lambda entry: entry.difference.high,
    "p_value": lambda entry: entry.difference.p_value,
    "p_adjusted": lambda entry: entry.difference.p_adjusted,
    "test": lambda entry: entry.difference.test,
    "num_pairs": lambda entry: entry.difference.num_pairs,
    "num_clusters": lambda entry: entry.difference.num_clusters,
    "gained": lambda entry: entry.difference.gained,
    "lost": lambda entry: entry.difference.lost,
    "detectable": lambda entry: entry.difference.detectable,
    "verdict": lambda entry: entry.difference.verdict,
    "family": lambda entry: entry.difference.family,
    "problem": lambda entry: entry.difference.problem,
}
"""Name of a column of differences.csv -> function that returns its value; the difference is model_b's
score minus model_a's."""


def scores(board: Board) -> Iterator[ScoreEntry]:
    """Yield every score of the board, ordered by model, then by column."""
    models = {model.key: model for model in board.models}
    columns = {column.key: column for column in board.columns}
    order = {key: index for index, key in enumerate([*models, *columns])}
    for cell in sorted(board.cells, key=lambda cell: (order[cell.model], order[cell.column])):
        model = models[cell.model]
        parent = models.get(model.parent) if model.parent else None
        yield ScoreEntry(model=model, parent=parent, column=columns[cell.column], cell=cell)


def differences(board: Board) -> Iterator[DifferenceEntry]:
    """Yield every difference in columns and means, tested or not, in the board's order."""
    models = {model.key: model for model in board.models}
    columns = {column.key: column for column in board.columns}
    for difference in board.differences:
        yield DifferenceEntry(
            first=models[difference.first],
            second=models[difference.second],
            column=columns.get(difference.column),
            difference=difference,
        )
