"""Puts time limits on the patterns in filters of a task of lm-evaluation-harness."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.errors import DataError, first_line
from workbench.patterns import matching


@dataclass(frozen=True)
class BoundedPattern:
    """Stands in for the compiled pattern of a filter; `findall` raises an error after a time limit."""

    pattern: str

    def findall(self, text: str) -> list[Any]:
        """Return the groups of all matches, like `re.Pattern.findall`.

        Raises:
            ValueError: Matching takes too long.
        """
        try:
            return matching.all_matches(self.pattern, text)
        except matching.PatternError as error:
            raise ValueError(str(error)) from error


class BoundedRe:
    """The module `re` with a time limit on `sub`, which filters and metrics use for `regexes_to_ignore`."""

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the module `re`: only `sub` is replaced."""
        return getattr(re, name)

    def sub(self, pattern: Any, repl: Any, string: Any, count: int = 0, flags: int = 0) -> Any:
        """Substitute like `re.sub`, with a time limit if all arguments are texts and there are no flags.

        Raises:
            ValueError: Matching takes too long.
        """
        if flags or not all(isinstance(value, str) for value in (pattern, repl, string)):
            return re.sub(pattern, repl, string, count=count, flags=flags)
        try:
            return matching.replaced(pattern, repl, string, count)
        except matching.PatternError as error:
            raise ValueError(str(error)) from error


def bound_substitutions(function: Any) -> None:
    """Replace `re` in a function's module, for the rest of the process: substitutions get a time limit."""
    module_names = getattr(function, "__globals__", {})
    if module_names.get("re") is re:
        module_names["re"] = BoundedRe()


def bound_filters(task: Any, where: str) -> None:
    """Put time limits on the patterns of a task's filters, and of the harness's metric exact_match.

    The task is changed in place, the metric for the rest of the process. Each filter is built once, to check
    that it can be built.

    Raises:
        DataError: A filter can't be built.
    """
    from lm_eval.api import metrics  # an optional extra

    bound_substitutions(metrics.exact_match_hf_evaluate)
    for ensemble in getattr(task, "_filters", []):
        ensemble.filters = [bounded_filter(build, where) for build in ensemble.filters]


def bounded_filter(build: Callable[[], Any], where: str) -> Callable[[], Any]:
    """Return a function that builds the same filter as `build`, but with time limits on its patterns.

    The filter is built once here, to check that it can be built.

    Raises:
        DataError: The filter can't be built.
    """

    def bounded() -> Any:
        task_filter = build()
        compiled = getattr(task_filter, "regex", None)
        if isinstance(compiled, re.Pattern) and isinstance(compiled.pattern, str):
            matching.check_pattern(compiled.pattern)
            task_filter.regex = BoundedPattern(compiled.pattern)
        if getattr(task_filter, "regexes_to_ignore", None):
            for base in type(task_filter).__mro__:
                for function in vars(base).values():
                    bound_substitutions(function)
        return task_filter

    try:
        bounded()
    except (re.error, RuntimeError, TypeError, ValueError, OverflowError, matching.PatternError) as error:
        raise DataError(
            f"{where}: a filter in filter_list can't be built: {first_line(error):.300}"
        ) from error
    return bounded
