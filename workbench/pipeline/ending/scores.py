"""Summarizes the scores of a run: base and trained model on each benchmark, with verdicts."""

from rich.cells import cell_len

from workbench.config.leaderboard import LeaderboardConfig
from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Column
from workbench.leaderboard.collect import collect
from workbench.leaderboard.run_table import difference_of, own_board, trained_model, verdict_counts
from workbench.run_dir import RunDir
from workbench.shown import clean
from workbench.wrapping import padded


def scores(run_dir: RunDir, *, is_shown: bool) -> list[str]:
    """Return lines for the summary with the scores of base and trained model, and verdicts, by benchmark.

    Args:
        run_dir: The run; without results the list is empty.
        is_shown: Whether the leaderboard has printed the scores: then one line counts the verdicts.
    """
    runs = [run for run in collect(run_dir.path).runs if run.files.path == run_dir.path]
    if not runs:
        return []
    board = own_board(runs[0], LeaderboardConfig())
    columns = board.columns
    if not is_shown:
        longest = max((cell_len(clean(column.label)) for column in columns), default=0)
        return [f"{padded(clean(column.label), longest)}  {score_line(board, column)}" for column in columns]
    verdicts = [f"{verdict} in {count}" for verdict, count in verdict_counts(board).items()]
    benchmarks = formatting.benchmarks([column.benchmark for column in columns])
    return [f"{benchmarks}: {', '.join(verdicts)}"] if verdicts else []


def score_line(board: Board, column: Column) -> str:
    """Return a benchmark's scores of base and trained model, as `acc 26.3 → 90.0, better (+63.7, ...)`.

    Without a trained model it has the scores of all models; without a test, no verdict.
    """
    cells = {cell.model: cell for cell in board.cells if cell.column == column.key}
    trained = trained_model(board.models)
    shown = [trained.parent, trained.key] if trained is not None else list(cells)
    values = [formatting.number(cells[key].score.value, column.is_share) for key in shown if key in cells]
    text = f"{formatting.metric(column.metric)} {' → '.join(values)}"
    difference = difference_of(board, trained, column) if trained is not None else None
    if difference is None or difference.value is None or difference.p_adjusted is None:
        return text
    change = formatting.change(difference.value, column.is_share)
    return f"{text}, {difference.verdict} ({change}, p {formatting.equal(difference.p_adjusted)})"
