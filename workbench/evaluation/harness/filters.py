"""The filters of a task of lm-evaluation-harness, whose patterns are matched under a time limit."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench import patterns
from workbench.errors import DataError, first_line


@dataclass(frozen=True)
class BoundedPattern:
    """What a filter uses of a compiled pattern."""

    pattern: str

    def findall(self, text: str) -> list[Any]:
        """The groups of all matches, as `re` gives them.

        Raises:
            ValueError: it takes too long.
        """
        try:
            return patterns.all_matches(self.pattern, text)
        except patterns.PatternError as error:
            raise ValueError(str(error)) from error


def hold_filters(task: Any, where: str) -> None:
    """Make each filter once, so that a wrong one is told before the answers are asked; bound its pattern.

    Raises:
        DataError: a filter can't be made.
    """
    for ensemble in getattr(task, "_filters", []):
        ensemble.filters = [held(make, where) for make in ensemble.filters]


def held(make: Callable[[], Any], where: str) -> Callable[[], Any]:
    """A maker of the same filter with a bounded pattern.

    Raises:
        DataError: the filter can't be made.
    """

    def bounded() -> Any:
        made = make()
        compiled = getattr(made, "regex", None)
        if isinstance(compiled, re.Pattern) and isinstance(compiled.pattern, str):
            made.regex = BoundedPattern(compiled.pattern)
        return made

    try:
        bounded()
    except (re.error, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: a filter in filter_list can't be made, {first_line(error):.300}"
        ) from error
    return bounded
