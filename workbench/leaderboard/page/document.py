"""Writes the leaderboard as one HTML file that works without a network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workbench.files import settle_file, write_atomic
from workbench.leaderboard.board import Board
from workbench.leaderboard.page import bundle
from workbench.leaderboard.page.containers import as_json, packed
from workbench.leaderboard.page.core import core, later, reference_key
from workbench.leaderboard.page.items import add_items
from workbench.leaderboard.page.size_limit import MOST_BYTES, Shelf
from workbench.leaderboard.page.texts import ItemTexts
from workbench.shown import clean

PAGE = "leaderboard.html"


def write(board: Board, items: ItemTexts, folder: Path) -> Path:
    """Write leaderboard.html into `folder` and return its path.

    Args:
        board: Board to show.
        items: Source of questions and answers, asked once per column with item scores.
        folder: Folder of the page, which is created if need be.
    """
    path = folder / PAGE
    settle_file(path)
    write_atomic(path, html(board, items))
    return path


def html(board: Board, items: ItemTexts, most_bytes: int = MOST_BYTES) -> str:
    """Return the page as HTML, with as many items as fit into `most_bytes`; equal boards give equal pages.

    What doesn't fit is named in the page. Models, scores and tests are on the page even if they exceed the
    limit.
    """
    values = core(board)
    frame = _rendered(board, values, packed(later(board)))
    shelf = Shelf(most_bytes - len(frame.encode("utf-8")) - _room_for_names(board))
    _fill(shelf, board, items)
    index = as_json(
        {"chunks": sorted(chunk.name for chunk in shelf.chunks), "dropped": sorted(shelf.dropped)}
    )
    chunks = sorted((chunk.name, chunk.text) for chunk in shelf.chunks)
    blocks = [_block("chunks", index, "application/json")]
    blocks += [_block(name, text, "application/octet-stream") for name, text in chunks]
    head, tail = frame.split("<!-- chunks -->")
    return "".join([head, *blocks, tail])


def _fill(shelf: Shelf, board: Board, items: ItemTexts) -> None:
    """Pack the items of all columns into the shelf, with one column in memory at a time."""
    reference = reference_key(board)
    for number, column in enumerate(board.columns):
        outcomes = board.outcomes.get(column.key)
        if outcomes is not None and outcomes.ids:
            row = outcomes.models.index(reference) if reference in outcomes.models else 0
            add_items(shelf, number, outcomes, items.column(column.key), row)


def _room_for_names(board: Board) -> int:
    """Return an upper bound of the bytes of the HTML elements around the chunks."""
    return 2_000 + 1_500 * len(board.columns)


def _block(name: str, text: str, kind: str) -> str:
    return f'<script type="{kind}" id="{name}">{text}</script>\n'


def _rendered(board: Board, values: dict[str, Any], packed_later: str) -> str:
    """Return the page without items; the comment `<!-- chunks -->` marks where they go."""
    environment = Environment(
        loader=FileSystemLoader(bundle.HERE),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    script, style = bundle.script(), bundle.style()
    return environment.get_template("page.html").render(
        title=clean(board.title),
        values=values,
        scores=_plain_scores(values),
        core=as_json(values),
        later=packed_later,
        script=script,
        style=style,
        script_hash=bundle.policy_hash(script),
        style_hash=bundle.policy_hash(style),
    )


def _plain_scores(values: dict[str, Any]) -> list[list[str]]:
    """Return one list per model of its scores as texts, one per column, for readers without JavaScript."""
    rows = [[""] * len(values["columns"]) for _ in values["models"]]
    for cell in values["cells"]:
        model, column, value = cell[:3]
        if value is not None:
            share = values["columns"][column]["is_share"]
            rows[model][column] = f"{100 * value:.1f}" if share else f"{value:.4g}"
    return rows
