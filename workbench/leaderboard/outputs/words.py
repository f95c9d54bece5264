"""Explains a board's tables in sentences, which Markdown and LaTeX share."""

from collections.abc import Iterator

from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Column


def num_items(column: Column) -> str:
    """Return a column's number of items, as `120 of 11,582`, or `11,582` without a limit."""
    total = f" of {column.num_total:,}" if column.num_total != column.num_items else ""
    return f"{column.num_items:,}{total}"


def ranks(best: int, worst: int) -> str:
    """Return a range of ranks as text, as `2–4`, or `2` if both ends are equal."""
    return str(best) if best == worst else f"{best}–{worst}"


def with_error(value: float, stderr: float) -> str:
    """Return a mean of shares with its standard error in percent, as `51.2 ± 0.8`."""
    return f"{formatting.number(value, True)} ± {formatting.number(stderr, True)}"


def coverage(board: Board) -> str:
    """Return the sentence on units and confidence of the shown scores."""
    levels = sorted({cell.score.confidence for cell in board.cells}) or [0.95]
    shown = " or ".join(f"{100 * level:g}%" for level in levels)
    return f"Shares are in percent, with {shown} intervals of one score alone."


def legend(board: Board) -> str:
    """Return the sentences that explain bold type, letters and † in the table of scores."""
    text = f"{coverage(board)} Bold: no model is shown to be better."
    text += " Models that share a letter aren't told apart."
    if any(cell.apart for cell in board.cells):
        text += " †: set apart, neither ranked nor averaged with the others."
    return text


def family(board: Board) -> str:
    """Return the sentences on the number of comparisons and the chance of a false verdict."""
    names = {model.key: model.name for model in board.models}
    against = f", all against {names[board.family.reference]}" if board.family.reference in names else ""
    return (
        f"{board.family.num_comparisons:,} comparisons{against}; together at most "
        f"{100 * board.family.alpha:g}% would be found different where nothing is. Intervals hold for all "
        "comparisons at once."
    )


def remarks(board: Board) -> Iterator[str]:
    """Yield one line for each remark on a model, and one for each model that could not be scored."""
    for model in board.models:
        if model.failure:
            yield f"{model.name}: could not be scored ({model.failure})"
        for remark in model.remarks:
            yield f"{model.name}: {remark}"
