"""Says in words what the tables of a board mean, the same in Markdown and LaTeX."""

from collections.abc import Iterator

from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Column


def num_items(column: Column) -> str:
    """Return how many items a column has, as `120 of 11,582`."""
    total = f" of {column.num_total:,}" if column.num_total != column.num_items else ""
    return f"{column.num_items:,}{total}"


def ranks(best: int, worst: int) -> str:
    """Return an interval of ranks."""
    return str(best) if best == worst else f"{best}–{worst}"


def with_error(value: float, stderr: float) -> str:
    """Return a mean of shares in percent with its standard error."""
    return f"{formatting.number(value, True)} ± {formatting.number(stderr, True)}"


def coverage(board: Board) -> str:
    """Return what the numbers of single scores mean."""
    levels = sorted({cell.score.confidence for cell in board.cells}) or [0.95]
    shown = " or ".join(f"{100 * level:g}%" for level in levels)
    return f"Shares are in percent, with {shown} intervals of one score alone."


def legend(board: Board) -> str:
    """Return what the signs in the table of scores mean."""
    text = f"{coverage(board)} Bold: no model is shown to be better."
    text += " Models that share a letter aren't told apart."
    if any(cell.apart for cell in board.cells):
        text += " †: set apart, neither ranked nor averaged with the others."
    return text


def family(board: Board) -> str:
    """Return what the board tests, and how sure its verdicts are."""
    names = {model.key: model.name for model in board.models}
    against = f", all against {names[board.family.reference]}" if board.family.reference in names else ""
    return (
        f"{board.family.num_comparisons:,} comparisons{against}; together at most "
        f"{100 * board.family.alpha:g}% would be found different where nothing is. Intervals hold for all "
        "comparisons at once."
    )


def remarks(board: Board) -> Iterator[str]:
    """Yield what a reader needs before trusting a row, and why a model has no scores."""
    for model in board.models:
        if model.failure:
            yield f"{model.name}: could not be scored ({model.failure})"
        for remark in model.remarks:
            yield f"{model.name}: {remark}"
