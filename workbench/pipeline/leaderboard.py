"""The leaderboard step."""

import logging
import shutil
import sys
from pathlib import Path

from rich.console import Console

from workbench.config import Config
from workbench.config.leaderboard import LeaderboardConfig
from workbench.config.names import ADAPTER, MERGED, TRAINED
from workbench.files import locked
from workbench.leaderboard import card, run_page, table
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare
from workbench.leaderboard.view_model import RunView
from workbench.pipeline.run_state import Run
from workbench.run_dir import MODEL_CARD, RunDir

log = logging.getLogger("workbench")

LOCK = ".leaderboard.lock"
"""File that a process holds while it reads the runs and writes the page; the folder may be a run's own."""

PLAIN_WIDTH = 100
"""Columns where the output is no terminal."""


def leaderboard(run: Run) -> None:
    """Show this run in full and all runs of `leaderboard.folder` beside it, on the terminal and as a page."""
    config, run_dir = run.config, run.run_dir
    folder = board_folder(config, run_dir)
    if not run_dir.results_json.is_file() and not folder.is_dir():
        log.warning(
            "leaderboard: nothing has been scored yet ('benchmark=[NAME,...]' names what to score on)"
        )
        return
    own = run_dir.path.resolve()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    with locked(folder / LOCK, wait=True):  # of two runs at once the later one sees what the other wrote
        board = compare(collect(folder), config.leaderboard.num_samples)
        labels = {(folder / view.run.label).resolve(): view.run.label for view in board.runs}
        Console(width=width).print(table.render(board, labels.get(own)))
        path = run_page.write(board, folder)
    for view in board.runs:
        if (folder / view.run.label).resolve() == own or folder == run_dir.path:
            write_cards(view, run_dir)
    log.info("page: %s", path)


def board_folder(config: Config, run_dir: RunDir) -> Path:
    """`leaderboard.folder`; the run's own for one that lies outside of the usual folder."""
    folder = Path(config.leaderboard.folder)
    usual = config.leaderboard.folder == LeaderboardConfig().folder
    outside = not run_dir.path.resolve().is_relative_to(folder.resolve())
    return run_dir.path if usual and outside and run_dir.results_json.is_file() else folder


def write_cards(view: RunView, run_dir: RunDir) -> None:
    """A model card into the folder of each model of the run that has been scored."""
    folders = {ADAPTER: run_dir.adapter, MERGED: run_dir.merged, TRAINED: run_dir.model}
    for name, folder in folders.items():
        if folder.is_dir() and name in view.run.models and card.write(view, name, folder):
            log.info("card: %s", folder / MODEL_CARD)
