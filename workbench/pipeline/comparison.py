"""The leaderboard step."""

import logging
import shutil
import sys
from pathlib import Path

from rich.console import Console

from workbench.config import Config
from workbench.leaderboard import page, table
from workbench.leaderboard.collect import collect
from workbench.leaderboard.compare import compare
from workbench.run_dir import RunDir

log = logging.getLogger("workbench")

PLAIN_WIDTH = 100
"""Columns where the output is no terminal."""


def leaderboard(config: Config, run_dir: RunDir) -> None:
    """Show this run in full and all runs of `leaderboard.folder` beside it, on the terminal and as a page."""
    folder = Path(config.leaderboard.folder)
    board = compare(collect(folder), config.leaderboard.num_samples)
    path = page.write(board, folder)
    own = run_dir.path.resolve()
    labels = {(folder / view.run.label).resolve(): view.run.label for view in board.runs}
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width).print(table.render(board, labels.get(own)))
    log.info("page: %s", path)
