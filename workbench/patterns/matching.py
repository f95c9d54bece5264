"""Matches users' regular expressions with `re`'s syntax and the `regex` package's time limit.

`re` can't be interrupted: `(a+)+$` on a few dozen letters never ends. So `re` checks the pattern, and `regex`
matches it; a pattern that the two would read differently is rewritten to what `re` means.
"""

import re
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import regex

from workbench.patterns.expanded_size import expanded_size
from workbench.patterns.re_syntax import as_re

T = TypeVar("T")

MAX_SECONDS = 2.0
"""Limit on the processor seconds for matching one text."""
SECONDS_EACH = 0.01
"""Limit on the processor seconds per text, on average over all texts of a pattern."""
MOST_TRIALS = 10
"""Number of times that a match is tried on a machine that is too busy to run it."""
MAX_PATTERN = 10_000
"""Limit on the characters of a pattern."""
MAX_EXPANDED = 100_000
"""Limit on the characters of a pattern whose repetitions are written out, as `regex` compiles them: 40 MB."""
MAX_REPLACED = 10_000_000
"""Limit on the characters of a text after a replacement."""


class PatternError(Exception):
    """A pattern is invalid or takes too long; callers put the key or file before the message."""


def check_pattern(pattern: str) -> None:
    """Check that a pattern is a regular expression, and takes little memory.

    Raises:
        PatternError: `re` can't compile it, or its repetitions are too large.
    """
    _compiled(pattern)


def last_match(pattern: str, text: str) -> str | None:
    """Return the last match of a pattern: its first group that took part, or without one the whole match.

    None: the pattern matches nowhere in the text.

    Raises:
        PatternError: The pattern is invalid or takes too long.
    """
    compiled = _compiled(pattern)
    last = _within_limit(pattern, lambda seconds: deque(compiled.finditer(text, timeout=seconds), maxlen=1))
    if not last:
        return None
    groups = [group for group in last[0].groups() if group is not None]
    return str(groups[0] if groups else last[0].group())


def all_matches(pattern: str, text: str) -> list[Any]:
    """Return the list that `re.findall` returns: all matches, or the group or tuple of groups of each.

    Raises:
        PatternError: The pattern is invalid or takes too long.
    """
    compiled = _compiled(pattern)
    return _within_limit(pattern, lambda seconds: list(compiled.findall(text, timeout=seconds)))


def replaced(pattern: str, new: str, text: str, count: int = 0) -> str:
    r"""Return a text with the first `count` matches of a pattern replaced, or all for 0, as `re.sub` does.

    Args:
        pattern: Regular expression.
        new: Replacement, in which `\1` stands for the first group.
        text: Text to search.
        count: Largest number of replacements; 0: any number.

    Raises:
        PatternError: The pattern or the replacement is invalid, takes too long, or makes the text too long.
    """
    compiled = _compiled(pattern)
    _check_replacement(pattern, new)

    def substitute(seconds: float) -> str:
        length = len(text)

        def expand(match: Any) -> str:
            nonlocal length
            replacement: str = match.expand(new)
            length += len(replacement)
            if length > MAX_REPLACED:
                raise PatternError(f"{pattern!r} makes a text of more than {MAX_REPLACED:,} characters")
            return replacement

        return str(compiled.sub(expand, text, count=count, timeout=seconds))

    return _within_limit(pattern, substitute)


@lru_cache(maxsize=256)
def _check_replacement(pattern: str, new: str) -> None:
    """Check that `re` accepts `new` as the replacement for a pattern's matches; its groups must exist."""
    try:
        re.compile(pattern).sub(new, "")
    except (re.error, IndexError) as error:
        raise PatternError(f"{new!r} is not a replacement for {pattern!r} ({error})") from error


def _within_limit(pattern: str, match: Callable[[float], T]) -> T:
    """Call `match`, and return its result unless it takes more than MAX_SECONDS of processor time.

    Args:
        pattern: Pattern that `match` uses.
        match: Function of a limit on the elapsed seconds. Time elapses also while a busy machine runs other
            processes, so a match that reaches the limit with little processor time is tried again.

    Raises:
        PatternError: The match, or all matches of this pattern so far together, take too long.
    """
    usage = _usage(pattern)
    if usage.seconds > MAX_SECONDS + SECONDS_EACH * usage.count:
        raise PatternError(f"{pattern!r} takes {usage.seconds:.1f} seconds on {usage.count:,} texts")
    started = time.thread_time()
    try:
        for _ in range(MOST_TRIALS):
            before = time.thread_time()
            try:
                return match(MAX_SECONDS)
            except TimeoutError:
                if time.thread_time() - before >= MAX_SECONDS / 2:
                    break
    except MemoryError:
        pass
    finally:
        usage.count += 1
        usage.seconds += time.thread_time() - started
    raise PatternError(f"{pattern!r} takes more than {MAX_SECONDS:g} seconds on one text")


@dataclass
class Usage:
    """Processor seconds that a pattern has taken so far, and the number of texts matched against it."""

    seconds: float = 0.0
    count: int = 0
    """Number of texts that were matched."""


@lru_cache(maxsize=256)
def _usage(pattern: str) -> Usage:
    """Return the usage of a pattern so far; callers update this object."""
    return Usage()


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """Compile a pattern with `regex` so that it means what `re` means.

    Raises:
        PatternError: `re` can't compile it, or it would take too much memory.
    """
    shown = pattern if len(pattern) <= 100 else pattern[:100] + "..."
    try:
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"more than {MAX_PATTERN:,} characters")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sets whose meaning may change
            flags = re.compile(pattern).flags
        is_verbose = bool(flags & re.VERBOSE)
        if (size := expanded_size(pattern, is_verbose)) > MAX_EXPANDED:
            raise PatternError(
                f"{shown!r} has {size:,} characters when its repetitions are written out, which takes too "
                f"much memory (at most {MAX_EXPANDED:,}; write smaller numbers in braces)"
            )
        rewritten = pattern if flags & re.ASCII else as_re(pattern, is_verbose)
        return regex.compile(rewritten, regex.VERSION0)
    except (re.error, regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        reason = str(error) or "it takes too much memory"
        raise PatternError(f"{shown!r} is not a regular expression ({reason})") from error
