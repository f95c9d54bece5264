"""The filters of a task of lm-evaluation-harness, whose patterns are matched under a time limit."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lm_eval.api import metrics

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


class BoundedRe:
    """The module `re` with a bounded `sub`, by which filters and metrics take out `regexes_to_ignore`."""

    def __getattr__(self, name: str) -> Any:
        """All else as `re` has it."""
        return getattr(re, name)

    def sub(self, pattern: Any, repl: Any, string: Any, count: int = 0, flags: int = 0) -> Any:
        """As `re.sub`.

        Raises:
            ValueError: it takes too long.
        """
        if flags or not all(isinstance(value, str) for value in (pattern, repl, string)):
            return re.sub(pattern, repl, string, count=count, flags=flags)
        try:
            return patterns.replaced(pattern, repl, string, count)
        except patterns.PatternError as error:
            raise ValueError(str(error)) from error


def bound_substitutions(function: Any) -> None:
    """Let the module of a function substitute under a time limit from now on."""
    names = getattr(function, "__globals__", {})
    if names.get("re") is re:
        names["re"] = BoundedRe()


def hold_filters(task: Any, where: str) -> None:
    """Make each filter once, so that a wrong one is told before the answers are asked; bound its patterns.

    The patterns of the metric exact_match are bounded as well.

    Raises:
        DataError: a filter can't be made.
    """
    bound_substitutions(metrics.exact_match_hf_evaluate)
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
        if getattr(made, "regexes_to_ignore", None):
            for kind in type(made).__mro__:
                for function in vars(kind).values():
                    bound_substitutions(function)
        return made

    try:
        bounded()
    except (re.error, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: a filter in filter_list can't be made, {first_line(error):.300}"
        ) from error
    return bounded
