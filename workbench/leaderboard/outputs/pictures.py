"""Draws scores with intervals, and ranks, as PNG and SVG by matplotlib (the extra `plots`)."""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from workbench.leaderboard import formatting
from workbench.leaderboard.board import Board, Cell, Column, Mean, Model
from workbench.leaderboard.outputs import words
from workbench.leaderboard.outputs.texts import one_line

MODELS = 30
"""Largest number of models in a picture: those with the best means, or the first ones if there is no mean."""

Panel = Callable[[Axes, Sequence[Model]], None]
"""Function that draws one panel: the first model at height 0, the next at 1, ..."""

ROW_INCHES, TITLE_INCHES = 0.17, 0.8

COLUMNS = 4
"""Largest number of panels in a row."""

COLORS = {"base": "#555555", "adapter": "#0072B2", "merged": "#009E73", "trained": "#D55E00"}
OTHER_COLOR = "#CC79A7"
"""Colours of roles, which the colour-blind can tell apart too. Source: Okabe and Ito, Color Universal
Design."""

FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
)
"""Fonts to look up for each character in turn, if the machine has them."""

LONGEST_NAME = 44
"""A longer name is cut to this number of characters."""

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "svg.fonttype": "none",  # texts stay texts, which can be searched
    "svg.hashsalt": "leaderboard",  # random otherwise
    "text.parse_math": False,  # a dollar sign in a name is not mathematics
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
}
UNDATED = {"png": {}, "svg": {"Date": None}}
"""Format -> metadata that keeps the time of drawing out of the file."""


def draw(board: Board) -> dict[str, bytes]:
    """Return file name -> picture: scores.png and scores.svg, and ranks.png and ranks.svg if there are ranks.

    Empty for a board without scores.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    style = {**STYLE, "font.family": [font for font in FONTS if font in installed]}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # drawn as a box
        figures = {"scores": scores_figure(board), "ranks": ranks_figure(board)}
        return {
            f"{name}.{suffix}": _bytes(figure, suffix)
            for name, figure in figures.items()
            if figure is not None
            for suffix in UNDATED
        }


def _bytes(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, dpi=120, bbox_inches="tight", metadata=UNDATED[suffix])
    return buffer.getvalue()


def shown(board: Board) -> list[Model]:
    """Return the models to draw: those with scores, at most `MODELS`, best first.

    They are sorted by the mean over most columns; models without it come last, in the board's order.
    """
    widest = max(board.means, key=lambda mean: len(mean.columns), default=None)
    scores = widest.scores if widest else {}
    order = sorted(board.models, key=lambda model: -scores[model.key].raw if model.key in scores else 1.0)
    scored = {cell.model for cell in board.cells}
    return [model for model in order if model.key in scored][:MODELS]


def scores_figure(board: Board) -> Figure | None:
    """Return a figure with a panel per column: all models' scores with intervals; None without scores."""
    cells = {(cell.model, cell.column): cell for cell in board.cells}

    def panel(column: Column) -> Panel:
        cells_of_column = {model: cell for (model, key), cell in cells.items() if key == column.key}
        return lambda axes, models: _score_panel(axes, column, models, cells_of_column)

    return _figure(board, [panel(column) for column in board.columns])


def _score_panel(axes: Axes, column: Column, models: Sequence[Model], cells: dict[str, Cell]) -> None:
    factor = 100 if column.is_share else 1
    scored = [(place, cells[model.key]) for place, model in enumerate(models) if model.key in cells]
    places = [place for place, _ in scored]
    colors = [_color(models[place]) for place in places]
    bounds = [cell.score.interval or [cell.score.value] * 2 for _, cell in scored]
    lows, highs = [factor * low for low, _ in bounds], [factor * high for _, high in bounds]
    axes.hlines(places, lows, highs, colors, lw=1)
    filled = ["white" if cell.apart else color for (_, cell), color in zip(scored, colors, strict=True)]
    values = [factor * cell.score.value for _, cell in scored]
    axes.scatter(values, places, s=16, c=filled, edgecolors=colors, zorder=3)
    if column.chance is not None:
        axes.axvline(factor * column.chance, color="#999999", lw=0.8, ls="--", zorder=0)
    items = f"{words.num_items(column)} items"
    axes.set_title(f"{_name(column.label)}\n{formatting.metric(column.metric)}, {items}")


def ranks_figure(board: Board) -> Figure | None:
    """Return a figure with a panel per mean, else per column: all models' ranges of ranks; None if none."""
    panels = [_mean_ranks(mean) for mean in board.means] or [
        found for column in board.columns if (found := _column_ranks(board, column))[1]
    ]

    def panel(title: str, ranks: dict[str, tuple[int, int]]) -> Panel:
        return lambda axes, models: _rank_panel(axes, title, models, ranks)

    return _figure(board, [panel(title, ranks) for title, ranks in panels])


def _mean_ranks(mean: Mean) -> tuple[str, dict[str, tuple[int, int]]]:
    ranks = {key: (score.best_rank, score.worst_rank) for key, score in mean.scores.items()}
    return f"mean, {formatting.language(mean.name)}", ranks


def _column_ranks(board: Board, column: Column) -> tuple[str, dict[str, tuple[int, int]]]:
    cells = [cell for cell in board.cells if cell.column == column.key]
    return column.label, {
        cell.model: (cell.best_rank, cell.worst_rank)
        for cell in cells
        if cell.best_rank is not None and cell.worst_rank is not None
    }


def _rank_panel(axes: Axes, title: str, models: Sequence[Model], ranks: dict[str, tuple[int, int]]) -> None:
    places = [place for place, model in enumerate(models) if model.key in ranks]
    best, worst = zip(*(ranks[models[place].key] for place in places), strict=True) if places else ((), ())
    colors = [_color(models[place]) for place in places]
    axes.hlines(places, best, worst, colors, lw=4, capstyle="round")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.08)
    axes.set_title(f"{_name(title)}\nrank, 1 is best")


def _figure(board: Board, panels: Sequence[Panel]) -> Figure | None:
    """Draw the panels in a grid, each with the models from top to bottom; None without panels or models."""
    models = shown(board)
    if not panels or not models:
        return None
    wide = min(COLUMNS, len(panels))
    high = -(-len(panels) // wide)
    figure = Figure(figsize=(3.0 * wide, high * (TITLE_INCHES + ROW_INCHES * len(models))))
    figure.subplots_adjust(hspace=TITLE_INCHES / (ROW_INCHES * len(models)), wspace=0.12)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(high, wide, number + 1)
        across = axes.get_yaxis_transform()
        axes.hlines(range(len(models)), 0, 1, "#eeeeee", lw=0.8, zorder=0, transform=across)
        panel(axes, models)
        axes.set_ylim(len(models) - 0.4, -0.6)
        named = [_name(model.name) for model in models] if number % wide == 0 else []
        axes.set_yticks(range(len(named)), named)
    _legend(figure, board, models)
    return figure


def _legend(figure: Figure, board: Board, models: Sequence[Model]) -> None:
    """Add a legend above the panels: the role of each colour, and how many models are left out."""
    roles = dict.fromkeys(model.role for model in models)
    handles = [Line2D([], [], marker="o", ls="", color=COLORS.get(role, OTHER_COLOR)) for role in roles]
    left_out = f"{len(models)} of {len(board.models)} models" if len(models) < len(board.models) else None
    top = figure.subplotpars.top + 0.45 / figure.get_figheight()
    figure.legend(
        handles,
        [one_line(role) for role in roles],
        title=left_out,
        ncols=len(roles),
        loc="lower left",
        bbox_to_anchor=(figure.subplotpars.left, top),
        frameon=False,
    )


def _color(model: Model) -> str:
    return COLORS.get(model.role, OTHER_COLOR)


def _name(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
