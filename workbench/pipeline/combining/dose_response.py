"""Draws a search's gain against the factor on all adapters as SVG, and lists the settings in a table."""

import csv
import io
import math
from collections.abc import Sequence
from html import escape

from workbench.leaderboard.shown_table import Table
from workbench.pipeline.combining.choice import JudgedSetting, is_safe
from workbench.training.reporting.loss_plot import ticks

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 48
BESIDE = 3.0
"""Pixels between a point and its interval if there are two curves, whose intervals would overlap."""
BLUE, BROWN = "#2b6cb0", "#c05621"
STYLE = f"""
text {{ font: 13px sans-serif; fill: #333 }} .grid {{ stroke: #ddd }} .frame {{ stroke: #888; fill: none }}
.zero {{ stroke: #888 }} .gain {{ stroke: {BLUE}; fill: none; stroke-width: 2 }} .chosen {{ stroke: #333;
stroke-dasharray: 4 4 }} .guard {{ stroke: {BROWN}; fill: none; stroke-width: 2 }}
.margin {{ stroke: {BROWN}; stroke-dasharray: 2 4 }}
.gain-dot {{ fill: {BLUE} }} .guard-dot {{ fill: {BROWN} }}
"""
Point = tuple[float, float, float, float]
"""Factor, gain in points (hundredths), and the ends of the gain's interval."""


def curve(settings: Sequence[JudgedSetting]) -> list[JudgedSetting]:
    """Return the settings with the same factor on all adapters, sorted by that factor."""
    return sorted(
        (setting for setting in settings if len(set(setting.factors)) == 1),
        key=lambda setting: setting.factors[0],
    )


def dose_response_svg(settings: Sequence[JudgedSetting], chosen: float | None, margin: float) -> str:
    """Return an SVG of the gain over the base, and the gain on the guard set, against the factor.

    Bars show 95% intervals.

    Args:
        settings: From `curve`, two or more.
        chosen: Factor that the search has chosen; None: none, or different ones for each adapter.
        margin: Loss that is allowed on the guard set, as a share.
    """
    gains = [_point(setting.factors[0], setting.gain, setting.low, setting.high) for setting in settings]
    guarded = [
        _point(setting.factors[0], setting.guard_gain, setting.guard_low, setting.guard_high)
        for setting in settings
        if setting.guard_gain is not None
    ]
    values = [value for point in gains + guarded for value in point[1:]]
    rows = ticks(min([0.0, *values, *([-100 * margin] if guarded else [])]), max([0.0, *values]))
    columns = ticks(min(point[0] for point in gains), max(point[0] for point in gains))
    plot = _Plot(columns[0], columns[-1], rows[0], rows[-1])
    legend = f'<tspan fill="{BLUE}">gain</tspan>'
    if guarded:
        legend += f', <tspan fill="{BROWN}">guard set, and its margin</tspan>'
    marks = "bars: 95% intervals" + ("; dashed: chosen" if chosen is not None else "")
    parts = [
        f'<text x="{LEFT}" y="24">Points over the base by the factor on the adapters: {legend}</text>',
        f'<text x="{LEFT}" y="42">{marks}</text>',
        *plot.grid(rows, columns),
        plot.across("zero", 0.0),
    ]
    if guarded:
        parts.append(plot.across("margin", -100 * margin))
    if chosen is not None:
        parts.append(plot.upright("chosen", chosen))
    shift = BESIDE if guarded else 0.0
    parts += [*plot.points(gains, "gain", -shift), *plot.points(guarded, "guard", shift)]
    body = "\n".join(parts)
    box = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'


def settings_table(
    settings: Sequence[JudgedSetting], names: Sequence[str], chosen: JudgedSetting | None, margin: float
) -> Table:
    """Return a table of all settings: gains in points, and which is chosen or may lose too much.

    Args:
        settings: The settings, from `judge`.
        names: Names of the adapters, as headings of their factors.
        chosen: The setting that is merged; None: none.
        margin: Loss that is allowed on the guard set, as a share.
    """
    header = [*names, "gain", "95% interval", "guard", "lost at most", ""]
    rows = [
        [
            *(f"{factor:g}" for factor in setting.factors),
            _points(setting.gain),
            _interval(setting.low, setting.high),
            _points(setting.guard_gain),
            _loss(setting),
            _mark(setting, chosen, margin),
        ]
        for setting in settings
    ]
    title = "Factors on the adapters' weights, and points over the base on the half that chooses"
    return Table(title=title, header=header, rows=rows)


def settings_csv(settings: Sequence[JudgedSetting], names: Sequence[str]) -> str:
    """Return all settings as CSV, with gains and losses as shares; `names` are those of the adapters."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "gain", "low", "high", "guard_gain", "guard_low", "guard_high", "most_lost"])
    for setting in settings:
        values: list[float | None] = [setting.gain, setting.low, setting.high, setting.guard_gain]
        values += [setting.guard_low, setting.guard_high, setting.most_lost]
        blank = ["" if value is None or math.isnan(value) else f"{value:.6g}" for value in values]
        writer.writerow([*setting.factors, *blank])
    return text.getvalue()


class _Plot:
    """Converts factors and gains to pixels, and draws axes, lines and curves as SVG."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self.left, self.right, self.low, self.high = left, right, low, high

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / (self.high - self.low)

    def grid(self, rows: Sequence[float], columns: Sequence[float]) -> list[str]:
        """Return SVG elements: the frame, a horizontal line for each of `rows`, the numbers of both axes."""
        parts = [self.across("grid", value) for value in rows]
        parts += [
            f'<text text-anchor="end" x="{LEFT - 8}" y="{self.y(value) + 4:.1f}">{value:g}</text>'
            for value in rows
        ]
        bottom = HEIGHT - BOTTOM + 20
        parts += [
            f'<text text-anchor="middle" x="{self.x(value):.1f}" y="{bottom}">{value:g}</text>'
            for value in columns
        ]
        middle = (WIDTH + LEFT) / 2
        parts.append(f'<text text-anchor="middle" x="{middle}" y="{HEIGHT - 8}">{escape("factor")}</text>')
        size = f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
        return [*parts, f'<rect class="frame" x="{LEFT}" y="{TOP}" {size}/>']

    def across(self, name: str, value: float) -> str:
        y = f"{self.y(value):.1f}"
        return f'<line class="{name}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'

    def upright(self, name: str, value: float) -> str:
        x = f"{self.x(value):.1f}"
        return f'<line class="{name}" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'

    def points(self, points: Sequence[Point], name: str, shift: float) -> list[str]:
        """Return SVG elements: a curve, a dot at each point, and an interval `shift` pixels beside it."""
        if not points:
            return []
        pixels = [(self.x(x), *map(self.y, gains)) for x, *gains in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in pixels)
        bars = [
            f'<line class="{name}" x1="{x + shift:.1f}" x2="{x + shift:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
            for x, _, low, high in pixels
        ]
        dots = [f'<circle class="{name}-dot" r="4" cx="{x:.1f}" cy="{y:.1f}"/>' for x, y, _, _ in pixels]
        return [f'<polyline class="{name}" points="{line}"/>', *bars, *dots]


def _point(factor: float, gain: float, low: float, high: float) -> Point:
    """Convert a gain and its interval to points; without an interval, both ends are the gain."""
    ends = (gain if math.isnan(low) else low, gain if math.isnan(high) else high)
    return factor, 100 * gain, 100 * ends[0], 100 * ends[1]


def _points(gain: float | None) -> str:
    return "-" if gain is None else f"{_tenths(gain):+.1f}"


def _loss(setting: JudgedSetting) -> str:
    """Format the bound of a setting's loss on the guard set; the base loses nothing to itself."""
    if setting.most_lost is None or not any(setting.factors):
        return "-"
    return f"{_tenths(setting.most_lost):.1f}"


def _tenths(share: float) -> float:
    """Round a share to tenths of a point, without a negative zero."""
    return round(100 * share, 1) + 0.0


def _interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) or math.isnan(high) else f"{100 * low:+.1f} to {100 * high:+.1f}"


def _mark(setting: JudgedSetting, chosen: JudgedSetting | None, margin: float) -> str:
    if chosen is not None and setting.factors == chosen.factors:
        return "chosen"
    if not any(setting.factors):
        return "base"
    return "" if is_safe(setting, margin) else "may lose too much"
