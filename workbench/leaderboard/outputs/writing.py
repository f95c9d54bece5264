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
"""Name of a file -> function that returns its contents for a board."""

ITEMS = "items.parquet"
HEAD_BYTES = 4096
"""Bytes at the start of a picture in which matplotlib writes its name."""
PICTURES = ("scores.png", "scores.svg", "ranks.png", "ranks.svg")


def write(board: Board, texts: ItemTexts, folder: Path) -> None:
    """Write CSV, JSON, Markdown, LaTeX, Parquet, Every Eval Ever's records and pictures into `folder`.

    Equal boards give equal bytes. A file that can't be written keeps its earlier contents, and the error is
    raised.

    Args:
        board: Board to write.
        texts: Answers to the items, for items.parquet.
        folder: Folder of the leaderboard.
    """
    write_texts(board, texts, folder)
    write_pictures(board, folder)


def write_texts(board: Board, texts: ItemTexts, folder: Path) -> None:
    """Write all files but the pictures.

    Args:
        board: Board to write.
        texts: Answers to the items, for items.parquet.
        folder: Folder of the leaderboard.
    """
    for name, text_of in TEXTS.items():
        settle_file(folder / name)
        write_atomic(folder / name, text_of(board))
    items.write(board, texts, folder / ITEMS)
    every_eval_ever.write(board, folder)


def write_pictures(board: Board, folder: Path) -> None:
    """Draw the pictures if matplotlib is installed; delete those of an earlier board that aren't redrawn."""
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
    """Return whether a file is a picture that matplotlib drew; another file of this name is the user's."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"matplotlib" in file.read(HEAD_BYTES).lower()


def missing_pictures() -> str:
    """Return the note on how to install matplotlib if it is missing; else an empty text."""
    is_installed = find_spec("matplotlib") is not None
    return "" if is_installed else "pictures: none (pip install 'open-llama-workbench[plots]' for them)"
