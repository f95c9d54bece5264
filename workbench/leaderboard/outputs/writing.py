"""Writes all files of the leaderboard for other programs into its folder."""

from pathlib import Path

from workbench.files import settle_file, write_atomic
from workbench.leaderboard.board import Board
from workbench.leaderboard.outputs import board_json, csv_files, items, latex, markdown
from workbench.leaderboard.page.texts import ItemTexts

TEXTS = {
    "leaderboard.csv": csv_files.scores,
    "differences.csv": csv_files.differences,
    "leaderboard.json": board_json.text,
    "leaderboard.md": markdown.text,
    "leaderboard.tex": latex.text,
}
"""Name of a file -> function that makes its text from a board."""

ITEMS = "items.parquet"


def write(board: Board, texts: ItemTexts, folder: Path) -> None:
    """Write the files into `folder`, each complete or as it was before; equal boards give equal bytes.

    Args:
        board: What the files show.
        texts: Answers to the items, for items.parquet.
        folder: Folder of the leaderboard.
    """
    for name, text_of in TEXTS.items():
        settle_file(folder / name)
        write_atomic(folder / name, text_of(board))
    items.write(board, texts, folder / ITEMS)
