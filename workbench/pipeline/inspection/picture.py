"""Draws the norms of an adapter's updates, layer by layer, for the terminal and as SVG."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from workbench.shown import clean

BARS = "▁▂▃▄▅▆▇█"
LAYER = re.compile(r"\.(\d+)\.")
CELL, LABEL_WIDTH, TOP = 18, 150, 40


def grid(values: Mapping[str, float]) -> dict[str, list[float | None]]:
    """Return kind of module -> value in each layer, from module name -> value.

    The kind is the last part of a module's name, such as q_proj. None stands for a layer without such a
    module; modules outside of numbered layers count as layer 0.
    """
    cells: dict[str, dict[int, float]] = {}
    for module, value in values.items():
        number = LAYER.search(f".{module}.")
        cells.setdefault(module.rpartition(".")[2], {})[int(number[1]) if number else 0] = value
    return {kind: [layers.get(layer) for layer in range(max(layers) + 1)] for kind, layers in cells.items()}


def bars(values: Sequence[float | None], largest: float) -> str:
    """Return a character for each value, a bar as high as its share of `largest`; `·` stands for None."""
    return "".join(
        "·" if value is None else BARS[min(7, int(8 * value / largest))] if largest else BARS[0]
        for value in values
    )


def picture_svg(rows: Mapping[str, Sequence[float | None]], title: str) -> str:
    """Return an SVG with a cell for each module, the darker the larger its value.

    Args:
        rows: Kind of module -> value in each layer; None: the layer has no such module.
        title: Title above the cells.
    """
    largest = max((value for row in rows.values() for value in row if value is not None), default=0.0)
    columns = max((len(row) for row in rows.values()), default=0)
    width, height = LABEL_WIDTH + CELL * max(columns, 20) + 20, TOP + CELL * len(rows) + 40
    parts = [f'<text x="10" y="24">{escape(clean(title))}</text>']
    for line, (kind, row) in enumerate(rows.items()):
        y = TOP + CELL * line
        parts.append(
            f'<text x="{LABEL_WIDTH - 8}" y="{y + 13}" text-anchor="end">{escape(clean(kind))}</text>'
        )
        for column, value in enumerate(row):
            if value is not None:
                shade = 1.0 if not largest else 0.08 + 0.92 * value / largest
                area = f'x="{LABEL_WIDTH + CELL * column}" y="{y}" width="{CELL - 2}" height="{CELL - 2}"'
                hint = f"<title>{escape(clean(kind))}, layer {column}: {value:.4g}</title>"
                parts.append(f'<rect {area} fill="#2b6cb0" fill-opacity="{shade:.3f}">{hint}</rect>')
    for column in range(0, columns, 4):
        parts.append(f'<text x="{LABEL_WIDTH + CELL * column}" y="{height - 22}">{column}</text>')
    parts.append(f'<text x="{LABEL_WIDTH}" y="{height - 6}">layer; darkest: {largest:.4g}</text>')
    body = "\n".join(parts)
    style = "text { font: 12px sans-serif; fill: #333 }"
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<style>{style}</style>\n{body}\n</svg>\n'
