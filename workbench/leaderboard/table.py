"""Renders the whole board for the terminal: all models in all columns, with notes below."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench.leaderboard import formatting
from workbench.leaderboard.board import (
    BETTER,
    UNSURE,
    UNTESTED,
    WORSE,
    Board,
    Cell,
    Column,
    Forgetting,
    Mean,
    Model,
)
from workbench.shown import clean

LAYOUT: dict[str, Any] = {
    "title_justify": "left",
    "title_style": "bold",
    "header_style": "dim",
    "box": SIMPLE_HEAD,
    "padding": (0, 1),
    "pad_edge": False,
    "show_lines": False,
}
STYLES = {BETTER: "bold green", WORSE: "bold red", UNSURE: "dim", UNTESTED: "dim"}

NARROWEST = 60
"""Least width of a table with a long title, in characters: that of the narrowest terminal."""

NARROWEST_NAME, NARROWEST_CELL, WIDEST_CELL = 18, 9, 16
"""Least width of the column of names; least and largest width of a column of scores; in characters."""

GAP = 3
"""Characters between two columns: their padding and a separator."""
MOST_ALARMS = 10


def render(board: Board, width: int) -> RenderableType:
    """Render the board for a terminal of this width: scores with ranks, in several tables if need be."""
    if not board.models:
        return Group(*_skipped(board)) if board.skipped else Text("no run has been scored yet")
    names = max(cell_len(clean(model.name)) for model in board.models)
    for_names = min(names, max(NARROWEST_NAME, width // 3))
    blocks = _blocks([*board.means, *board.columns], width - for_names - GAP)
    tables = [_matrix(board, block, for_names, is_first=block is blocks[0]) for block in blocks]
    return Group(*tables, *notes(board), *_skipped(board))


def _blocks(columns: Sequence[Column | Mean], room: int) -> list[list[Column | Mean]]:
    """Split the columns into one group per table, each at most `room` characters wide without the names."""
    blocks: list[list[Column | Mean]] = [[]]
    used = 0
    for column in columns:
        wide = _width(column) + GAP
        if blocks[-1] and used + wide > room:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += wide
    return blocks


def _width(column: Column | Mean) -> int:
    longest = max(map(cell_len, _title(column).split()), default=0)
    return min(max(NARROWEST_CELL, longest), WIDEST_CELL)


def _title(column: Column | Mean) -> str:
    if isinstance(column, Mean):
        return f"mean {formatting.language(column.name)}"
    return clean(column.label)


def _matrix(board: Board, columns: Sequence[Column | Mean], for_names: int, is_first: bool) -> Table:
    """Return a table with a row per model and these columns: scores, rank ranges and tie letters."""
    benchmarks = formatting.benchmarks([column.benchmark for column in board.columns])
    counts = f"{_counted(len(board.models), 'model')} on {benchmarks}"
    title = f"{clean(board.title)}: {counts}" if is_first else None
    table = Table(title=title, min_width=min(cell_len(title or ""), NARROWEST), **LAYOUT)
    table.add_column("model", overflow="fold", width=for_names)
    for column in columns:
        table.add_column(Text(_title(column)), justify="right", overflow="fold", width=_width(column))
    cells = {(cell.model, cell.column): cell for cell in board.cells}
    for model in board.models:
        shown = [
            _mean(column, model)
            if isinstance(column, Mean)
            else _cell(cells.get((model.key, column.key)), column)
            for column in columns
        ]
        table.add_row(Text(clean(model.name)), *shown)
    return table


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _cell(cell: Cell | None, column: Column) -> Text:
    if cell is None:
        return Text("")
    value = formatting.number(cell.score.value, column.is_share)
    if cell.apart:
        return lines(value, clean(cell.apart))
    return lines(value, _rank(cell.best_rank, cell.worst_rank, cell.letters))


def _mean(mean: Mean, model: Model) -> Text:
    score = mean.scores.get(model.key)
    if score is None:
        return Text("")
    return lines(
        formatting.number(score.normalized, True), _rank(score.best_rank, score.worst_rank, score.letters)
    )


def _rank(best: int | None, worst: int | None, letters: str) -> str:
    if best is None or worst is None:
        return ""
    return f"{best} {letters}" if best == worst else f"{best}–{worst} {letters}"


def notes(board: Board) -> list[Text]:
    """Return the notes below the tables: alarms, remarks on rows, meaning of means, ranks and verdicts."""
    found = [Text(clean(alarm), style="bold red") for alarm in board.alarms[:MOST_ALARMS]]
    if len(board.alarms) > MOST_ALARMS:
        found.append(Text(f"{len(board.alarms) - MOST_ALARMS} more alarms on the page", style="bold red"))
    found += [
        Text(clean(f"{model.name}: not scored: {model.failure}"), style="yellow")
        for model in board.models
        if model.failure
    ]
    found += [
        Text(clean(f"{model.name}: {remark}"), style="yellow")
        for model in board.models
        for remark in model.remarks
    ]
    found += [
        Text(clean(f"{_title(mean)} is without {_label(board, column)}: {reason}"), style="dim")
        for mean in board.means
        for column, reason in mean.left_out.items()
    ]
    if board.means:
        found.append(Text("means are above chance: (score − chance) / (1 − chance)", style="dim"))
    found += [Text(_forgotten(board, lost), style=STYLES[lost.verdict]) for lost in board.forgetting]
    if board.family.num_comparisons:
        found.append(Text(family(board), style="dim"))
    return found


def _forgotten(board: Board, found: Forgetting) -> str:
    """Return a sentence on a trained model's mean difference on benchmarks that it was not trained for."""
    change = formatting.change(found.value, True)
    bounds = "" if math.isnan(found.low) else formatting.interval((found.low, found.high), True, signed=True)
    return (
        f"forgetting: {_name(board, found.model)} against {_name(board, found.parent)} on "
        f"{_counted(len(found.columns), 'benchmark')} that it was not trained for: {change}"
        f"{f' ({bounds})' if bounds else ''}, {found.verdict}"
    )


def _label(board: Board, key: str) -> str:
    return next((column.label for column in board.columns if column.key == key), key)


def family(board: Board) -> str:
    """Return a sentence on the comparisons that the board tests and the chance of a false verdict."""
    of = {
        "pairs": "of any two models",
        "reference": f"with {_name(board, board.family.reference)}",
        "names": "of the named models",
    }[board.family.kind]
    return (
        "ranks and letters (models that share one aren't told apart) are by "
        f"{board.family.num_comparisons:,} paired comparisons {of}; the chance that any verdict is false is "
        "at most "
        f"{100 * board.family.alpha:g}%"
    )


def _name(board: Board, key: str) -> str:
    return next((clean(model.name) for model in board.models if model.key == key), "the reference")


def _skipped(board: Board) -> Iterable[Text]:
    return [
        Text(f"skipped {clean(file.path)}: {clean(file.reason)}", style="yellow") for file in board.skipped
    ]


def lines(first: str, *further: str) -> Text:
    """Join texts as lines of one terminal text; `further` lines are dim, and empty texts are left out."""
    text = Text(first)
    for line in further:
        if line:
            text.append(f"\n{line}" if text else line, style="dim")
    return text
