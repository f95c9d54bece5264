"""Writes all files of the leaderboard for other programs into its folder."""

from importlib.util import find_spec
from pathlib import Path

from workbench.files import settle_file, write_atomic
from workbench.leaderboard.board import Board
from workbench.leaderboard.outputs import board_json, csv_files, every_eval_ever, items, latex, markdown
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
HEAD_BYTES = 4096
"""Bytes at the beginning of a picture in which matplotlib names itself."""
PICTURES = ("scores.png", "scores.svg", "ranks.png", "ranks.svg")


def write(board: Board, texts: ItemTexts, folder: Path) -> None:
    """Write the files into `folder`, each complete or as it was before; equal boards give equal bytes.

    Args:
        board: What the files show.
        texts: Answers to the items, for items.parquet.
        folder: Folder of the leaderboard.
    """
    write_texts(board, texts, folder)
    write_pictures(board, folder)


def write_texts(board: Board, texts: ItemTexts, folder: Path) -> None:
    """Write all files but the pictures.

    Args:
        board: What the files show.
        texts: Answers to the items, for items.parquet.
        folder: Folder of the leaderboard.
    """
    for name, text_of in TEXTS.items():
        settle_file(folder / name)
        write_atomic(folder / name, text_of(board))
    items.write(board, texts, folder / ITEMS)
    every_eval_ever.write(board, folder)


def write_pictures(board: Board, folder: Path) -> None:
    """Write the pictures if matplotlib is installed; delete old ones of ours that aren't drawn now."""
    drawn: dict[str, bytes] = {}
    if not missing_pictures():
        from workbench.leaderboard.outputs import pictures  # matplotlib is optional, and slow to import

        drawn = pictures.draw(board)
    for name in PICTURES:
        settle_file(folder / name)
        if name in drawn:
            write_atomic(folder / name, drawn[name])
        elif is_drawn(folder / name):
            (folder / name).unlink()


def is_drawn(path: Path) -> bool:
    """Return whether a picture is there that matplotlib drew; others of the same name are the user's."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"matplotlib" in file.read(HEAD_BYTES).lower()


def missing_pictures() -> str:
    """Return that there are no pictures, and what to install for them; empty if they are drawn."""
    is_installed = find_spec("matplotlib") is not None
    return "" if is_installed else "pictures: none (pip install 'open-llama-workbench[plots]' for them)"
