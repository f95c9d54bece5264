"""Draws the loss as an SVG file that any browser shows, without a plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 48
BLUE, BROWN = "#2b6cb0", "#c05621"
STYLE = f"""
text {{ font: 13px sans-serif; fill: #333 }} .grid {{ stroke: #ddd }} .frame {{ stroke: #888; fill: none }}
.loss {{ stroke: {BLUE}; fill: none; stroke-width: 1.5 }}
.validation {{ stroke: {BROWN}; fill: none; stroke-width: 2 }}
.dot {{ fill: {BROWN} }}
"""

DRAWN = {"loss", "validation_loss"}
"""Keys of a train.jsonl line that are plotted."""


def loss_plot_svg(lines: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return an SVG of the training loss over the steps, and of the validation loss if there is one.

    Args:
        lines: Lines of train.jsonl; at least one has a loss or a validation loss.
        title: Title above the plot.
    """
    losses: list[tuple[int, float]] = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    validation: list[tuple[int, float]] = [
        (line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line
    ]
    values = [value for _, value in losses + validation]
    rows = ticks(min(values), max(values))
    columns = ticks(0, max(step for step, _ in losses + validation))
    low, high, last = rows[0], rows[-1], columns[-1]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def path(points: Sequence[tuple[int, float]], name: str) -> str:
        coordinates = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        return f'<polyline class="{name}" points="{coordinates}"/>'

    legend = f'<tspan fill="{BLUE}">training loss</tspan>'
    if validation:
        legend += f', <tspan fill="{BROWN}">validation loss</tspan>'
    parts = [f'<text x="{LEFT}" y="24">{escape(title)}: {legend}</text>']
    for value in rows:
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
        parts.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y(value) + 4:.1f}">{value:g}</text>')
    for step in columns:
        parts.append(
            f'<text text-anchor="middle" x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 20}">{step:g}</text>'
        )
    parts.append(f'<text text-anchor="middle" x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 8}">step</text>')
    frame = f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
    parts.append(f'<rect class="frame" x="{LEFT}" y="{TOP}" {frame}/>')
    parts.append(path(losses, "loss"))
    parts.append(path(validation, "validation"))
    parts += [f'<circle class="dot" r="3" cx="{x(s):.1f}" cy="{y(v):.1f}"/>' for s, v in validation]
    body = "\n".join(parts)
    box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def ticks(low: float, high: float) -> list[float]:
    """Return four to ten round numbers for an axis; the first is at most `low`, the last at least `high`."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= 8)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
