"""Declares the range of each numeric configuration field, and checks all of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from workbench.errors import ConfigError

RANGE = "range"
"""Key of the range in a field's metadata."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Range of numbers that a configuration field allows, from `least` to `most`."""

    least: float
    most: float
    without_least: bool = False
    """Whether `least` itself is excluded."""
    without_most: bool = False
    """Whether `most` itself is excluded."""
    also: tuple[float, ...] = ()
    """Numbers outside the range that are allowed too, with a special meaning, such as -1."""

    def __contains__(self, value: object) -> bool:
        """Return whether a value is an allowed number; NaN never is."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if value in self.also:
            return True
        is_above = value > self.least if self.without_least else value >= self.least
        return is_above and (value < self.most if self.without_most else value <= self.most)

    def __str__(self) -> str:
        """Return the range as text: `from 1 to 1,000`, `more than 0, below 1, or -1`."""
        if self.without_least or self.without_most:
            low = f"{'more than' if self.without_least else 'at least'} {_shown(self.least)}"
            text = f"{low}, {'below' if self.without_most else 'at most'} {_shown(self.most)}"
        else:
            text = f"from {_shown(self.least)} to {_shown(self.most)}"
        return ", or ".join([text, *map(_shown, self.also)])


def number(
    default: Any, least: float, most: float, *, above: bool = False, below: bool = False, also: Any = ()
) -> Any:
    """Return a dataclass field for a number, with its range in the metadata, where `check_ranges` reads it.

    Args:
        default: Default of the field; None allows null.
        least: Smallest value.
        most: Largest value.
        above: Whether `least` itself is excluded.
        below: Whether `most` itself is excluded.
        also: Values outside the range that are allowed.
    """
    allowed = Range(least=least, most=most, without_least=above, without_most=below, also=tuple(also))
    return field(default=default, metadata={RANGE: allowed})


def numbers(default: Any, least: float, most: float) -> Any:
    """Return a dataclass field for a mapping of names to numbers from `least` to `most`.

    `default` is a function that returns the default mapping, such as `dict`.
    """
    return field(default_factory=default, metadata={RANGE: Range(least=least, most=most)})


def check_ranges(section: Any, key: str = "") -> None:
    """Check the numbers of all fields made by `number` and `numbers`, in a section and the sections in it.

    Args:
        section: A dataclass of the configuration.
        key: Its dotted key; "" for the root.

    Raises:
        ConfigError: A number is outside its range.
    """
    for spec in fields(section):
        path = f"{key}.{spec.name}" if key else spec.name
        value = getattr(section, spec.name)
        if (allowed := spec.metadata.get(RANGE)) is not None:
            _check(path, value, allowed, spec.default is None)
        sections = {path: value}
        if isinstance(value, Mapping):
            sections |= {f"{path}.{name}": entry for name, entry in value.items()}
        if isinstance(value, list):
            sections |= {f"{path}[{index}]": entry for index, entry in enumerate(value)}
        for inner_path, inner in sections.items():
            if is_dataclass(inner) and not isinstance(inner, type):
                check_ranges(inner, inner_path)


def _check(key: str, value: Any, allowed: Range, optional: bool) -> None:
    """Raise ConfigError if a number, or a number in a mapping, is out of range; `optional` allows None."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check(f"{key}.{name}", inner, allowed, optional=False)
    elif value not in allowed and not (value is None and optional):
        raise ConfigError(f"{key}: {value!r} ({allowed}{', or null' if optional else ''})")


def _shown(value: float) -> str:
    """Return a number as text, integers with thousands separators."""
    is_integer = math.isfinite(value) and value == int(value)
    return f"{int(value):,}" if is_integer else f"{value:g}"
