r"""Writes the leaderboard as LaTeX tables to be read with \input; they need the package booktabs."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Cell, Column, Mean, Model
from workbench.leaderboard.outputs import words
from workbench.leaderboard.outputs.texts import latex

COLUMNS, ROWS = 5, 40
"""Largest numbers of columns and rows of one table, so that it fits on a page."""

HEAD = r"""% Tables of the leaderboard, to be read with \input{leaderboard.tex}.
% Preamble: \usepackage{booktabs}. Names that aren't in ASCII need XeLaTeX or LuaLaTeX and a font that has
% them; \usepackage{ctex} is one way for Chinese."""

Entry = TypeVar("Entry")


def text(board: Board) -> str:
    """Return the contents of leaderboard.tex: scores in tables that fit on a page, then tables of means."""
    tables = [
        _score_table(board, columns, models)
        for columns in _groups(board.columns, COLUMNS)
        for models in _groups(board.models, ROWS)
    ]
    tables += [
        _mean_table(mean, keys, board) for mean in board.means for keys in _groups(list(mean.scores), ROWS)
    ]
    return "\n\n".join([HEAD, *tables]) + "\n"


def _groups(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """Yield consecutive groups of `size` entries; the last may be shorter."""
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def _table(caption: str, header: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> str:
    """Return a LaTeX table; caption and cells must be LaTeX already."""
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{l{'c' * (len(header[0]) - 1)}}}",
        r"\toprule",
        *(_row(cells) for cells in header),
        r"\midrule",
        *(_row(cells) for cells in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _score_table(board: Board, columns: Sequence[Column], models: Sequence[Model]) -> str:
    """Return the LaTeX table of these models' scores in these columns."""
    cells = {(cell.model, cell.column): cell for cell in board.cells}
    header = [
        ["", *(latex(column.label) for column in columns)],
        ["items", *(latex(words.num_items(column)) for column in columns)],
    ]
    body = [
        [latex(model.name), *(_score(cells.get((model.key, column.key)), column) for column in columns)]
        for model in models
    ]
    return _table(f"{latex(board.title)}. {latex(words.legend(board))}", header, body)


def _score(cell: Cell | None, column: Column) -> str:
    """Return a score with its interval and tie letters as LaTeX; a dash without a score."""
    if cell is None:
        return "--"
    value = latex(formatting.number(cell.score.value, column.is_share))
    bounds = latex(formatting.interval(cell.score.interval, column.is_share))
    shown = rf"\textbf{{{value}}}" if cell.best_rank == 1 else value
    shown += rf" {{\scriptsize ({bounds})}}" if bounds else ""
    shown += rf"\textsuperscript{{{latex(cell.letters)}}}" if cell.letters else ""
    return rf"{shown}\textsuperscript{{\dag}}" if cell.apart else shown


def _mean_table(mean: Mean, keys: Sequence[str], board: Board) -> str:
    """Return the LaTeX table of these models' means, with the columns of the mean in the caption."""
    names = {model.key: model.name for model in board.models}
    labels = {column.key: column.label for column in board.columns}
    body = [
        [
            latex(names[key]),
            latex(words.with_error(score.raw, score.raw_stderr)),
            latex(words.with_error(score.normalized, score.normalized_stderr)),
            latex(words.ranks(score.best_rank, score.worst_rank)),
            latex(score.letters),
        ]
        for key in keys
        for score in [mean.scores[key]]
    ]
    over = ", ".join(labels[key] for key in mean.columns)
    caption = f"Mean ({latex(formatting.language(mean.name))}) over {latex(over)}, with standard errors."
    return _table(caption, [["", "mean", "above chance", "rank", ""]], body)
