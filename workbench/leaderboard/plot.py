"""Where dots and whiskers go: axes in percent of a strip's width, so that a page can be of any width."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workbench.config.names import MODELS, UNTRAINED
from workbench.evaluation.records import Score
from workbench.leaderboard.view_model import Row, RunView

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A range of values, and the round ones in it."""

    low: float
    high: float
    ticks: list[float]

    def x(self, value: float) -> float:
        """Place of a value, in percent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def axis(
    values: Iterable[float], narrowest: float, floor: float = -math.inf, ceiling: float = math.inf
) -> Axis:
    """An axis that holds all values and some room.

    Args:
        values: At least one.
        narrowest: The range is at least so wide, so that small differences don't look large.
        floor: Nothing is possible below.
        ceiling: Nothing is possible above.
    """
    found = list(values)
    low, high = min(found), max(found)
    room = max(narrowest - (high - low), 0.1 * (high - low)) / 2
    step = _round_step((high - low + 2 * room) / 4)
    low = max(floor, math.floor((low - room) / step) * step)
    high = min(ceiling, math.ceil((high + room) / step) * step)
    count = round((high - low) / step)
    ticks = [low + number * step for number in range(count + 1) if low + number * step <= high + step / 1e6]
    return Axis(low, high, [round(tick, 10) for tick in ticks])


def _round_step(rough: float) -> float:
    """The next of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9))


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One model's dot, with its whisker."""

    model: str
    score: Score
    x: float
    low: float
    high: float
    y: int
    """In pixels from the top of the strip."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run in a panel."""

    row: Row
    marks: list[Mark]
    height: int


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One benchmark as several runs were asked it: the same items, examples and prompts."""

    benchmark: str
    language: str
    axis: Axis
    entries: list[Entry]
    several_prompts: bool
    """Whether other runs were asked otherwise, and stand in a panel of their own."""

    @property
    def row(self) -> Row:
        """Any of its rows: what they share."""
        return self.entries[0].row


def panels(views: Sequence[RunView]) -> list[Panel]:
    """A panel for every benchmark and way of asking it."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for view in views:
        for row in view.rows:
            for key, scores in _asked_alike(row).items():
                groups.setdefault((row.benchmark, row.language, row.metric, *key), []).append(
                    replace(row, scores=scores)
                )
    names = [key[:2] for key in groups]
    return [_panel(rows, names.count(key[:2]) > 1) for key, rows in sorted(groups.items())]


def _asked_alike(row: Row) -> dict[tuple[str, ...], dict[str, Score]]:
    """Rule and prompts -> the scores that they gave."""
    found: dict[tuple[str, ...], dict[str, Score]] = {}
    for name, score in row.scores.items():
        key = (score.protocol, str(score.num_fewshot), score.rule, score.prompts)
        found.setdefault(key, {})[name] = score
    return found


def _panel(rows: list[Row], several: bool) -> Panel:
    shown = [score for row in rows for score in row.scores.values() if score.note != UNTRAINED]
    values = [end for score in shown for end in (score.interval or [score.value, score.value])]
    first = rows[0].any_score
    values += [value for value in (first.chance,) if value is not None and rows[0].is_share]
    if rows[0].is_share:
        scale = axis(values or [0.0], 0.2, 0.0, 1.0)
    else:
        spread = max(values) - min(values) if values else 0.0
        scale = axis(values or [0.0], spread or abs(max(values or [1.0])) or 1.0)
    return Panel(
        benchmark=rows[0].benchmark,
        language=rows[0].language,
        axis=scale,
        entries=[_entry(row, scale) for row in rows],
        several_prompts=several,
    )


def _entry(row: Row, scale: Axis) -> Entry:
    names = [name for name in MODELS if name in row.scores and row.scores[name].note != UNTRAINED]
    marks = [_mark(name, row.scores[name], scale, 8 + 11 * place) for place, name in enumerate(names)]
    return Entry(row=row, marks=marks, height=5 + 11 * max(2, len(marks)))


def _mark(name: str, score: Score, scale: Axis, y: int) -> Mark:
    low, high = score.interval or (score.value, score.value)
    return Mark(model=name, score=score, x=scale.x(score.value), low=scale.x(low), high=scale.x(high), y=y)


def gain_axis(views: Sequence[RunView], language: str) -> Axis | None:
    """One axis for the mean differences of all runs; None if there are none."""
    gains = [view.gains[language] for view in views if language in view.gains]
    ends = [end for gain in gains for end in (gain.interval or (gain.value, gain.value))]
    return axis([0.0, *ends], 0.1, -1.0, 1.0) if ends else None
