"""The range of each number of the configuration, declared at its field and checked in one place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from workbench.errors import ConfigError

RANGE = "range"
"""Key of a field's metadata."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a field takes."""

    least: float
    most: float
    without_least: bool = False
    """`least` itself is not allowed."""
    without_most: bool = False
    """Likewise."""
    also: tuple[float, ...] = ()
    """Numbers outside that have a meaning of their own."""

    def __contains__(self, value: object) -> bool:
        """Whether the number is one of these; NaN is not."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if value in self.also:
            return True
        above = value > self.least if self.without_least else value >= self.least
        return above and (value < self.most if self.without_most else value <= self.most)

    def __str__(self) -> str:
        """As an error says it: `from 1 to 1,000`, `more than 0, below 1, or -1`."""
        if self.without_least or self.without_most:
            low = f"{'more than' if self.without_least else 'at least'} {_shown(self.least)}"
            text = f"{low}, {'below' if self.without_most else 'at most'} {_shown(self.most)}"
        else:
            text = f"from {_shown(self.least)} to {_shown(self.most)}"
        return ", or ".join([text, *map(_shown, self.also)])


def number(
    default: Any, least: float, most: float, *, above: bool = False, below: bool = False, also: Any = ()
) -> Any:
    """A numeric field with its range.

    Args:
        default: the field's; None where null is allowed.
        least: smallest value.
        most: largest value.
        above: `least` itself is not allowed.
        below: `most` itself is not allowed.
        also: values outside that are allowed.
    """
    allowed = Range(least=least, most=most, without_least=above, without_most=below, also=tuple(also))
    return field(default=default, metadata={RANGE: allowed})


def numbers(default: Any, least: float, most: float) -> Any:
    """A mapping of names to numbers, each in the range; `default` makes the mapping."""
    return field(default_factory=default, metadata={RANGE: Range(least=least, most=most)})


def check_ranges(section: Any, key: str = "") -> None:
    """Refuse a number outside the range of its field, in a section and the sections in it.

    Args:
        section: a dataclass of the configuration.
        key: its dotted key; "" for the whole configuration.

    Raises:
        ConfigError: names the key, the value and the range.
    """
    for each in fields(section):
        name = f"{key}.{each.name}" if key else each.name
        value = getattr(section, each.name)
        parts = value if isinstance(value, Mapping) else {}
        if (allowed := each.metadata.get(RANGE)) is not None:
            _check(name, value, allowed, each.default is None)
        for part, inner in [("", value), *((f".{part}", inner) for part, inner in parts.items())]:
            if is_dataclass(inner) and not isinstance(inner, type):
                check_ranges(inner, name + part)


def _check(key: str, value: Any, allowed: Range, optional: bool) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check(f"{key}.{name}", inner, allowed, optional=False)
    elif value not in allowed and not (value is None and optional):
        raise ConfigError(f"{key}: {value!r} ({allowed}{', or null' if optional else ''})")


def _shown(value: float) -> str:
    whole = math.isfinite(value) and value == int(value)
    return f"{int(value):,}" if whole else f"{value:g}"
