"""Groups prompts by prefixes that are worth a forward pass of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.encoding import num_common

_GROUP_COST = 256
"""What a further group costs, in computed tokens: its prefix has a forward pass, and an attention product in
each step, of its own."""


@dataclass
class Group:
    """Prompts that share the keys and values of a prefix."""

    prefix: list[int]
    """Empty if the prompts share none."""
    rows: list[Row]
    """The longest prompt first, so that prompts of similar lengths are decoded at the same time."""


@dataclass(frozen=True)
class _Interval:
    """Consecutive prompts in sorted order, all that start with the same `length` tokens."""

    start: int
    end: int
    length: int


def groups(rows: Sequence[Row], share: bool) -> list[Group]:
    """Split prompts into groups, one for each prefix worth sharing, such as a subject's few-shot examples.

    Of all prefixes that prompts have in common, those are worth it that save more tokens, after the prefix
    around them, than a further group costs. A prompt belongs to the longest of its prefixes.

    Args:
        rows: prompts in any order.
        share: whether prefixes are shared at all; otherwise there is a single group without a prefix.
    """
    ordered = sorted(rows, key=lambda row: row.prompt)
    owners, worthwhile = [0] * len(ordered), [_Interval(0, len(ordered), 0)]
    around = [0]
    for interval in _intervals([row.prompt for row in ordered]) if share else []:
        while worthwhile[around[-1]].end <= interval.start:
            around.pop()
        num_new = interval.length - worthwhile[around[-1]].length
        if num_new * (interval.end - interval.start - 1) > _GROUP_COST:
            around.append(len(worthwhile))
            owners[interval.start : interval.end] = [len(worthwhile)] * (interval.end - interval.start)
            worthwhile.append(interval)
    members: dict[int, list[Row]] = {}
    for row, owner in zip(ordered, owners, strict=True):
        members.setdefault(owner, []).append(row)
    return [
        Group(rows[0].prompt[: worthwhile[owner].length], _longest_first(rows))
        for owner, rows in members.items()
    ]


def _intervals(prompts: Sequence[list[int]]) -> list[_Interval]:
    """Return all intervals of at least two sorted prompts with a common prefix, the outer ones first.

    At least one token of each prompt comes after a prefix. Source: the intervals of Abouelhoda, Kurtz and
    Ohlebusch, Replacing suffix trees with enhanced suffix arrays (2004), algorithm 4.1.
    """
    if len(prompts) < 2:
        return []
    common = [
        min(num_common(first, second), len(first) - 1, len(second) - 1) for first, second in pairwise(prompts)
    ]
    intervals, open_intervals = [], [(0, 0)]  # length, start
    for index, length in enumerate([*common, -1]):
        start = index
        while open_intervals and length < open_intervals[-1][0]:
            previous, start = open_intervals.pop()
            intervals.append(_Interval(start, index + 1, previous))
        if not open_intervals or length > open_intervals[-1][0]:
            open_intervals.append((length, start))
    return sorted(intervals, key=lambda interval: (interval.start, -interval.end))


def _longest_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (-len(row.prompt), row.prompt))
