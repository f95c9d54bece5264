"""Writes the leaderboard as Markdown: a table of models and columns, the means, and the differences."""

from collections.abc import Iterator, Sequence

from workbench.leaderboard import formatting
from workbench.leaderboard.board import UNTESTED, Board, Cell, Column, Difference, Mean
from workbench.leaderboard.outputs import rows, words
from workbench.leaderboard.outputs.texts import markdown

MOST_DIFFERENCES = 200
"""If there are more differences, the table of differences is left out; differences.csv has all."""


def text(board: Board) -> str:
    """Return the contents of leaderboard.md."""
    parts = [
        [f"# {markdown(board.title)}"],
        [f"**{markdown(alarm)}**\n" for alarm in board.alarms],
        _scores(board),
        *(_mean(mean, board) for mean in board.means),
        _differences(board),
        [f"- {markdown(remark)}" for remark in words.remarks(board)],
        [f"- Skipped {markdown(file.path)}: {markdown(file.reason)}" for file in board.skipped],
    ]
    return "\n\n".join("\n".join(lines).rstrip() for lines in parts if lines) + "\n"


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; its cells must be Markdown already."""
    return [_line(header), _line(["---"] * len(header)), *map(_line, body)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _scores(board: Board) -> list[str]:
    """Return the lines of the table of scores with intervals, and its legend."""
    if not board.columns:
        return ["No scores."]
    cells = {(cell.model, cell.column): cell for cell in board.cells}
    header = ["model", *(markdown(column.label) for column in board.columns)]
    body = [["*items*", *(markdown(words.num_items(column)) for column in board.columns)]]
    for model in board.models:
        scores = [score(cells.get((model.key, column.key)), column) for column in board.columns]
        body.append([markdown(model.name), *scores])
    return ["## Scores", "", *table(header, body), "", words.legend(board)]


def score(cell: Cell | None, column: Column, signs: bool = True) -> str:
    """Return a score with its interval, as `**51.2** (40.1–62.3) a`, shares in percent; empty for None.

    Args:
        cell: The score.
        column: Its column.
        signs: Whether rank 1 is bold, and tie letters and the reason for being set apart follow.
    """
    if cell is None:
        return ""
    value = formatting.number(cell.score.value, column.is_share)
    bounds = formatting.interval(cell.score.interval, column.is_share)
    shown = f"**{value}**" if signs and cell.best_rank == 1 else value
    shown += f" ({bounds})" if bounds else ""
    if not signs:
        return shown
    shown += f" {markdown(cell.letters)}" if cell.letters else ""
    return f"{shown} † {markdown(cell.apart)}" if cell.apart else shown


def _mean(mean: Mean, board: Board) -> list[str]:
    """Return the lines of the table of one mean, with its columns and those left out."""
    names = {model.key: model.name for model in board.models}
    labels = {column.key: column.label for column in board.columns}
    body = [
        [
            markdown(names[key]),
            words.with_error(found.raw, found.raw_stderr),
            words.with_error(found.normalized, found.normalized_stderr),
            words.ranks(found.best_rank, found.worst_rank),
            markdown(found.letters),
        ]
        for key, found in mean.scores.items()
    ]
    lines = [f"## Mean, {markdown(formatting.language(mean.name))}", ""]
    lines += [f"Over {markdown(', '.join(labels[key] for key in mean.columns))}.", ""]
    lines += table(["model", "mean ± standard error", "above chance ± standard error", "rank", ""], body)
    left_out = [f"- Not {markdown(labels[key])}: {markdown(why)}" for key, why in mean.left_out.items()]
    return [*lines, *(["", *left_out] if left_out else [])]


def _differences(board: Board) -> list[str]:
    """Return the lines of the table of differences, or a reference to differences.csv if there are many."""
    if not board.differences:
        return []
    lines = ["## Differences", "", markdown(words.family(board)), ""]
    if len(board.differences) > MOST_DIFFERENCES:
        return [*lines, f"All {len(board.differences):,} are in differences.csv."]
    header = ["model", "against", "benchmark", "difference", "p, corrected", "verdict"]
    return [*lines, *table(header, list(_difference_lines(board)))]


def _difference_lines(board: Board) -> Iterator[list[str]]:
    for entry in rows.differences(board):
        found, is_share = entry.difference, entry.column.is_share if entry.column else True
        yield [
            markdown(entry.second.name),
            markdown(entry.first.name),
            markdown(entry.column.label if entry.column else f"mean: {found.column}"),
            change(found, is_share),
            "" if found.p_adjusted is None else markdown(formatting.p_value(found.p_adjusted)),
            markdown(f"{found.verdict}: {found.problem}" if found.verdict == UNTESTED else found.verdict),
        ]


def change(found: Difference, is_share: bool) -> str:
    """Return a difference with its interval, as `+1.2 (+0.3 to +2.1)`; empty if it has no value.

    Differences of shares are in percentage points.
    """
    if found.value is None:
        return ""
    bounds = None if found.low is None or found.high is None else [found.low, found.high]
    shown = formatting.interval(bounds, is_share, signed=True)
    return formatting.change(found.value, is_share) + (f" ({shown})" if shown else "")
