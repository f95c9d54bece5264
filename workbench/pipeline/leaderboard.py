"""The leaderboard step: shows scores in the terminal, and writes the leaderboard's page and files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from workbench.config import Config, Step
from workbench.config.leaderboard import LeaderboardConfig
from workbench.errors import ConfigError
from workbench.files import locked
from workbench.leaderboard import page, run_table, table
from workbench.leaderboard.board import Board
from workbench.leaderboard.board_cache import keeping
from workbench.leaderboard.build import build
from workbench.leaderboard.collect import Run as CollectedRun
from workbench.leaderboard.imported_runs import collect_all
from workbench.leaderboard.items.run_texts import RunTexts
from workbench.leaderboard.outputs import model_folders, writing
from workbench.pipeline.run_state import Run
from workbench.run_dir import RunDir
from workbench.wrapping import output_width, plain_console

log = logging.getLogger("workbench")

NO_SCORES = "there are no scores yet in %r ('benchmark=[NAME,...]' names what to score on)"

LOCK = ".leaderboard.lock"
"""File that a process locks while it reads the runs and writes the page."""


def leaderboard(run: Run) -> None:
    """Show this run, and the board of all models of `leaderboard.folder`, in the terminal and as a page.

    Page and files are written into that folder, and a model card into each model folder of this run. Without
    any scores, only a warning is logged.

    Raises:
        ConfigError: `leaderboard.folder` was set, and doesn't exist.
        ConfigError: `leaderboard.reference` or `leaderboard.names` names no model of the board.
        DataError: There is a folder or a link in the place of a file to write.
    """
    config, run_dir = run.config, run.run_dir
    folder = board_folder(config, run_dir)
    if not run_dir.results_json.is_file() and not folder.is_dir():
        if config.steps == [Step.leaderboard] and config.leaderboard.folder != LeaderboardConfig().folder:
            raise ConfigError(f"leaderboard.folder: there is no folder {config.leaderboard.folder!r}")
        log.warning(f"leaderboard: {NO_SCORES}", str(folder))
        return
    own_folder = run_dir.path.resolve()
    with (
        locked(folder / LOCK, wait=True),  # of two runs at the same time, the second one sees both
        keeping(folder) as index,
    ):
        collection = collect_all(folder)
        if not (collection.runs or collection.skipped or collection.failures or collection.comparisons):
            log.warning(f"leaderboard: {NO_SCORES}", str(folder))
            return
        own = [scored for scored in collection.runs if scored.files.path.resolve() == own_folder]
        board = build(collection, config.leaderboard, index)
        warn_of_unknown(board, config.leaderboard)
        show(board, own, config.leaderboard)
        texts = RunTexts(board, collection.runs, index)
        path = page.write(board, texts, folder)
        writing.write(board, texts, folder)
        cards = [card for scored in own for card in model_folders.write(board, scored)]
    for card in cards:
        log.info("card: %s", card)
    log.info("page: %s", path)
    if config.steps == [Step.leaderboard] and (missing := writing.missing_pictures()):
        log.info(missing)


def warn_of_unknown(board: Board, config: LeaderboardConfig) -> None:
    """Log a warning for each benchmark of `leaderboard.trained_for` that is not on the board."""
    known = list(dict.fromkeys(column.benchmark for column in board.columns))
    for name in config.trained_for or ():
        if name not in known:
            log.warning(
                "leaderboard.trained_for: no scores on %r (known: %s)", name, ", ".join(known) or "none"
            )


def show(board: Board, own: Sequence[CollectedRun], config: LeaderboardConfig) -> None:
    """Print the models of this command's run in full; then the board, unless it would only repeat them.

    The board is printed if other runs have scores, a model could not be scored, forgetting was tested, a file
    was skipped, or this command's run has no scores. Means alone, which a run has too, don't print it: they
    are on the page.

    Args:
        board: The board of all runs.
        own: The run of this command; empty if it has no scores.
        config: The leaderboard section.
    """
    width = output_width()
    console = plain_console(width=width)
    for run in own:
        console.print(run_table.render_run(run_table.own_board(run, config)))
    has_failures = any(model.failure for model in board.models)
    has_others = len(board.provenance) > len(own)
    if has_others or has_failures or board.forgetting or board.skipped or not own:
        console.print(table.render(board, width))


def board_folder(config: Config, run_dir: RunDir) -> Path:
    """Return the folder whose runs are on the board: `leaderboard.folder`, or the run's own folder.

    It is the run's own folder if `leaderboard.folder` is the default, and the run has scores but isn't inside
    the default folder.
    """
    folder = Path(config.leaderboard.folder)
    is_default = config.leaderboard.folder == LeaderboardConfig().folder
    is_outside = not run_dir.path.resolve().is_relative_to(folder.resolve())
    return run_dir.path if is_default and is_outside and run_dir.results_json.is_file() else folder
