"""Draws each number format's divergence and change of score against its size, as one SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from workbench.pipeline.inspection.quantization_ways import GGUF
from workbench.pipeline.quantization_report.report import Line, Report
from workbench.shown import clean
from workbench.training.reporting.loss_plot import ticks

WIDTH, LEFT, RIGHT, TOP = 720, 70, 70, 80
PANEL, GAP, BOTTOM = 190, 50, 44
UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}
NAME_WIDTH, LINE_HEIGHT = 36, 13
LEAST_DISTANCE = 14
"""Smallest horizontal distance between two dots, in pixels: dots of the same size on disk would cover each
other."""
LEAST_KL = 1e-9
"""Smallest divergence on the logarithmic axis; smaller divergences are drawn as this."""
STYLE = """
text { font: 13px sans-serif; fill: #333 } .grid { stroke: #ddd } .frame { stroke: #888; fill: none }
.bar { stroke-width: 2 } .bar.few { stroke: #2b6cb0 } .bar.gguf { stroke: #c05621 }
.dot.few { fill: #2b6cb0 } .dot.gguf { fill: #c05621 }
.whole { stroke: #333; stroke-dasharray: 4 4 }
.name { paint-order: stroke; stroke: #fff; stroke-width: 4px }
"""


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A dot of a panel: a number format's size on disk, its value, and the value's interval."""

    name: str
    num_bytes: int
    value: float
    low: float
    high: float
    kind: str
    """CSS class of the dot: `few` for the 4 and 8 bits of bitsandbytes, or `gguf`."""


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """A panel of the picture: its dots, and the lines and labels of its vertical axis."""

    title: str
    points: Sequence[_Point]
    rows: Sequence[float]
    labels: Sequence[str]


def picture_svg(report: Report) -> str:
    """Return an SVG with two panels over the size on disk: the divergence, and the change of the mean score.

    With one benchmark, the second panel shows the change of its score. A panel without values is left out.
    """
    panels = [panel for panel in (_divergence(report), _change(report)) if panel is not None]
    sizes = _Sizes([line.measured.num_bytes for line in report.lines])
    height = TOP + len(panels) * (PANEL + GAP) - GAP + BOTTOM
    parts = [
        f'<text x="{LEFT}" y="22">{escape(clean(report.model))}: size, and distance from the unquantized '
        "model</text>",
        f'<text x="{LEFT}" y="42">bars: confidence intervals; dashed: the '
        "unquantized model; blue: bitsandbytes, brown: GGUF</text>",
    ]
    for number, panel in enumerate(panels):
        parts += _drawn(panel, TOP + number * (PANEL + GAP), sizes)
    title = f"size on disk, {sizes.unit_name}"
    parts.append(f'<text text-anchor="middle" x="{WIDTH / 2}" y="{height - 8}">{title}</text>')
    body = "\n".join(parts)
    box = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    background = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<style>{STYLE}</style>\n{background}'
    return f"{head}\n{body}\n</svg>\n"


def _divergence(report: Report) -> _Panel | None:
    """Return the panel of KL divergence, on a logarithmic axis."""
    points = []
    for line in report.lines[1:]:
        if line.fidelity is None:
            continue
        low, high = line.fidelity.kl_interval or (line.fidelity.kl, line.fidelity.kl)
        value = _log(line.fidelity.kl)
        points.append(_point(line, value, max(_log(low), value - 1), _log(high)))
    if not points:
        return None
    least = math.floor(min(point.low for point in points))
    most = max(math.ceil(max(point.high for point in points)), least + 1)
    rows = list(range(least, most + 1, max(1, (most - least) // 6)))
    return _Panel(
        title="KL divergence a token, nats",
        points=points,
        rows=[float(row) for row in rows],
        labels=[f"1e{row}" for row in rows],
    )


def _log(value: float) -> float:
    return math.log10(max(value, LEAST_KL))


def _change(report: Report) -> _Panel | None:
    """Return the panel of the change of the mean score over all benchmarks.

    Where there is no mean, of the first benchmark's score; None without a change.
    """
    points, title, factor = [], "", 1.0
    for line in report.lines[1:]:
        comparison = line.comparison
        if comparison is None:
            continue
        row = comparison.rows[0]
        difference = comparison.means[-1] if comparison.means else row.difference
        if difference is None or difference.value is None:
            continue
        is_share = bool(comparison.means) or row.is_share
        factor = 100.0 if is_share else 1.0
        title = "change of the mean score" if comparison.means else f"change of {row.benchmark}, {row.metric}"
        title += ", points" if is_share else ""
        low, high = (difference.value if end is None else end for end in (difference.low, difference.high))
        points.append(_point(line, factor * difference.value, factor * low, factor * high))
    if not points:
        return None
    ends = [end for point in points for end in (point.low, point.high)]
    rows = ticks(min(0.0, *ends), max(0.0, *ends))
    return _Panel(title=title, points=points, rows=rows, labels=[f"{row:g}" for row in rows])


def _point(line: Line, value: float, low: float, high: float) -> _Point:
    measured = line.measured
    return _Point(
        name=measured.number_format.value,
        num_bytes=measured.num_bytes,
        value=value,
        low=low,
        high=high,
        kind="gguf" if measured.number_format in GGUF else "few",
    )


def _drawn(panel: _Panel, top: float, sizes: "_Sizes") -> list[str]:
    """Return the SVG elements of a panel whose upper edge is at `top`."""
    low, high = panel.rows[0], max(panel.rows[-1], max(point.high for point in panel.points))

    def y(value: float) -> float:
        return top + PANEL - PANEL * (value - low) / (high - low)

    right, bottom = WIDTH - RIGHT, top + PANEL
    parts = [f'<text x="{LEFT}" y="{top - 8}">{escape(clean(panel.title))}</text>']
    for row, label in zip(panel.rows, panel.labels, strict=True):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(row):.1f}" y2="{y(row):.1f}"/>')
        parts.append(f'<text text-anchor="end" x="{LEFT - 6}" y="{y(row) + 4:.1f}">{label}</text>')
    for column in sizes.columns:
        x = sizes.x(column * sizes.unit)
        parts.append(f'<text text-anchor="middle" x="{x:.1f}" y="{bottom + 16}">{column:g}</text>')
    parts.append(_upright("whole", sizes.x(sizes.whole), top, bottom))
    parts.append(f'<rect class="frame" x="{LEFT}" y="{top}" width="{right - LEFT}" height="{PANEL}"/>')
    dots: list[tuple[str, float, float]] = []
    circles: list[str] = []
    for point in sorted(panel.points, key=lambda point: point.num_bytes):
        x = sizes.x(point.num_bytes)
        x = max(x, dots[-1][1] + LEAST_DISTANCE) if dots else x
        dots.append((point.name, x, y(point.value)))
        parts.append(_upright(f"bar {point.kind}", x, y(point.low), y(point.high)))
        circles.append(f'<circle class="dot {point.kind}" r="4" cx="{x:.1f}" cy="{y(point.value):.1f}"/>')
    return [*parts, *_names(dots), *circles]


class _Sizes:
    """The logarithmic axis of sizes, which all panels share."""

    def __init__(self, num_bytes: Sequence[int]) -> None:
        """Fit the axis to the sizes; the first is that of the unquantized model."""
        largest = max(num_bytes)
        self.whole = num_bytes[0]
        self.unit, self.unit_name = next(
            (unit, name)
            for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
            if largest >= unit or unit == 1e3
        )
        self.low, self.high = math.log(min(num_bytes) / 1.1), math.log(largest * 1.1)
        values = [digit * 10.0**power for power in range(-4, 7) for digit in (1, 1.5, 2, 3, 4, 5, 6, 8)]
        self.columns = [value for value in values if self.low <= math.log(value * self.unit) <= self.high]

    def x(self, num_bytes: float) -> float:
        """Convert a size in bytes to a horizontal position in pixels."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(num_bytes) - self.low) / (self.high - self.low)


def _upright(name: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{name}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'


def _names(dots: Sequence[tuple[str, float, float]]) -> list[str]:
    """Return the name right of each dot, moved down where it would cover another name."""
    placed: list[tuple[float, float]] = []
    parts = []
    for name, x, y in sorted(dots, key=lambda dot: dot[2]):
        while any(abs(x - left) < NAME_WIDTH and abs(y - line) < LINE_HEIGHT for left, line in placed):
            y += 1
        placed.append((x, y))
        parts.append(f'<text class="name" x="{x + 7:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    return parts
