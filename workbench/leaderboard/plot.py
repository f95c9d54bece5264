"""Computes the positions of dots and whiskers, in percent of the plot's width."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workbench.evaluation.records import Score
from workbench.leaderboard.view_model import MODELS, UNTRAINED, Row, RunView

TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Range of values with its ticks."""

    low: float
    high: float
    ticks: list[float]

    def x(self, value: float) -> float:
        """Return the position of a value, in percent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def axis(
    values: Iterable[float], narrowest: float, floor: float = -math.inf, ceiling: float = math.inf
) -> Axis:
    """Return an axis that covers all values with a margin.

    Args:
        values: At least one value.
        narrowest: Minimum width of the range, so that small differences don't look large.
        floor: Smallest possible value.
        ceiling: Largest possible value.
    """
    values = list(values)
    low, high = min(values), max(values)
    margin = max(narrowest - (high - low), 0.1 * (high - low)) / 2
    step = _round_step((high - low + 2 * margin) / 4)
    low = max(floor, math.floor((low - margin) / step) * step)
    high = min(ceiling, math.ceil((high + margin) / step) * step)
    count = round((high - low) / step)
    ticks = [low + index * step for index in range(count + 1) if low + index * step <= high + step / 1e6]
    return Axis(low, high, [round(tick, 10) for tick in ticks])


def _round_step(rough: float) -> float:
    """Round up to 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in TICK_STEPS if step * power >= rough * (1 - 1e-9))


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Dot of one model, with its whisker."""

    model: str
    score: Score
    x: float
    low: float
    high: float
    y: int
    """Pixels from the top of the plot."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Plot of one run in a panel."""

    row: Row
    marks: list[Mark]
    height: int


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One benchmark, with the runs that had the same items, few-shot examples and prompts."""

    benchmark: str
    language: str
    axis: Axis
    entries: list[Entry]
    several_prompts: bool
    """Whether other runs had other prompts, and so a panel of their own."""

    @property
    def row(self) -> Row:
        """Return one of the rows, for what all rows share."""
        return self.entries[0].row


def panels(views: Sequence[RunView]) -> list[Panel]:
    """Return a panel for every benchmark and every way of prompting it."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for view in views:
        for row in view.rows:
            for key, scores in _scores_by_prompts(row).items():
                groups.setdefault((row.benchmark, row.language, row.metric, *key), []).append(
                    replace(row, scores=scores)
                )
    names = [key[:2] for key in groups]
    return [_panel(rows, names.count(key[:2]) > 1) for key, rows in sorted(groups.items())]


def _scores_by_prompts(row: Row) -> dict[tuple[str, ...], dict[str, Score]]:
    """Return the scores by rule and prompts."""
    groups: dict[tuple[str, ...], dict[str, Score]] = {}
    for name, score in row.scores.items():
        key = (score.protocol, str(score.num_fewshot), score.rule, score.prompts)
        groups.setdefault(key, {})[name] = score
    return groups


def _panel(rows: list[Row], several: bool) -> Panel:
    """Return the panel of rows with the same prompts."""
    shown = [score for row in rows for score in row.scores.values() if score.note != UNTRAINED]
    values = [end for score in shown for end in (score.interval or [score.value, score.value])]
    first = rows[0].any_score
    values += [value for value in (first.chance,) if value is not None and rows[0].is_share]
    if rows[0].is_share:
        scale = axis(values or [0.0], 0.2, 0.0, 1.0)
    else:
        width = max(values) - min(values) if values else 0.0
        scale = axis(values or [0.0], width or abs(max(values or [1.0])) or 1.0)
    return Panel(
        benchmark=rows[0].benchmark,
        language=rows[0].language,
        axis=scale,
        entries=[_entry(row, scale) for row in rows],
        several_prompts=several,
    )


def _entry(row: Row, scale: Axis) -> Entry:
    names = [name for name in MODELS if name in row.scores and row.scores[name].note != UNTRAINED]
    marks = [_mark(name, row.scores[name], scale, 8 + 11 * index) for index, name in enumerate(names)]
    return Entry(row=row, marks=marks, height=5 + 11 * max(2, len(marks)))


def _mark(name: str, score: Score, scale: Axis, y: int) -> Mark:
    low, high = score.interval or (score.value, score.value)
    return Mark(model=name, score=score, x=scale.x(score.value), low=scale.x(low), high=scale.x(high), y=y)


def gain_axis(views: Sequence[RunView], language: str) -> Axis | None:
    """Return one axis for the mean differences of all runs; None if there are none."""
    gains = [view.gains[language] for view in views if language in view.gains]
    ends = [end for gain in gains for end in (gain.interval or (gain.value, gain.value))]
    return axis([0.0, *ends], 0.1, -1.0, 1.0) if ends else None
