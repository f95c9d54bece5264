"""Regular expressions of users: read by Python's `re`, matched by the `regex` package under a time limit.

`re` can't be stopped: `(a+)+$` on a few dozen letters never ends. So `re` says what a pattern is and `regex`
finds its matches; where the two would read a pattern differently, it is rewritten to what `re` means.
"""

import json
import re
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

MAX_SECONDS = 2.0
"""For one text."""
SECONDS_EACH = 0.01
"""For each of many texts, on average."""
MAX_PATTERN = 10_000
"""Characters of a pattern."""
MAX_REPLACED = 10_000_000
"""Characters of a text after a replacement."""

WORD = r"\p{L}\p{N}_"
OUTSIDE = {
    "w": f"[{WORD}]",
    "W": f"[^{WORD}]",
    "b": f"(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))",
    "B": f"(?:(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}]))",
    "s": r"[\s\x1c-\x1f]",
    "S": r"[^\s\x1c-\x1f]",
}
"""What `re` means by some classes; `regex` also counts accents as letters and no separators as space."""
INSIDE = {"w": WORD, "s": r"\s\x1c-\x1f"}
"""The same within brackets."""
COMMENT = re.compile(r"\(\?#[^)]*\)")
COMMENT_OR_HASH = re.compile(COMMENT.pattern + r"|#[^\n]*")
REPEAT = re.compile(r"\{\d*(?:,\d*)?\}")


class PatternError(Exception):
    """A pattern that is none, or takes too long; the message lacks the place."""


def check_pattern(pattern: str) -> None:
    """Refuse what is not a regular expression.

    Raises:
        PatternError: `re` can't read it.
    """
    _compiled(pattern)


def last_match(pattern: str, text: str) -> str | None:
    """The first group of a pattern's last match that took part in it; all of it where there are no groups.

    Raises:
        PatternError: it takes too long.
    """
    with _limited(pattern):
        found = deque(_compiled(pattern).finditer(text, timeout=MAX_SECONDS), maxlen=1)
        if not found:
            return None
        groups = [group for group in found[0].groups() if group is not None]
        return str(groups[0] if groups else found[0].group())


def all_matches(pattern: str, text: str) -> list[Any]:
    """All matches of a pattern or of its groups, as `re.findall` gives them.

    Raises:
        PatternError: it is not a pattern, or takes too long.
    """
    with _limited(pattern):
        return list(_compiled(pattern).findall(text, timeout=MAX_SECONDS))


def replaced(pattern: str, new: str, text: str, count: int = 0) -> str:
    """A text with all matches of a pattern replaced, or the first `count` of them, as `re.sub` does.

    Raises:
        PatternError: it is not a pattern, takes too long, or makes the text too long.
    """
    with _limited(pattern):
        compiled, length = _compiled(pattern), len(text)
        _check_replacement(pattern, new)

        def expanded(found: Any) -> str:
            nonlocal length
            made: str = found.expand(new)
            length += len(made)
            if length > MAX_REPLACED:
                raise PatternError(f"{pattern!r} makes a text of more than {MAX_REPLACED:,} characters")
            return made

        return str(compiled.sub(expanded, text, count=count, timeout=MAX_SECONDS))


@lru_cache(maxsize=256)
def _check_replacement(pattern: str, new: str) -> None:
    """Refuse a replacement that `re` can't read."""
    try:
        re.compile(pattern).sub(new, "")
    except (re.error, IndexError) as error:
        raise PatternError(f"{new!r} is not a replacement for {pattern!r} ({error})") from error


@contextmanager
def _limited(pattern: str) -> Iterator[None]:
    """Say which pattern takes too long."""
    used = _usage(pattern)
    if used.seconds > MAX_SECONDS + SECONDS_EACH * used.count:
        raise PatternError(f"{pattern!r} takes {used.seconds:.1f} seconds on {used.count:,} texts")
    started = time.thread_time()
    try:
        yield
    except (TimeoutError, MemoryError) as error:
        raise PatternError(f"{pattern!r} takes more than {MAX_SECONDS:g} seconds on one text") from error
    finally:
        used.count += 1
        used.seconds += time.thread_time() - started


@dataclass
class Usage:
    """What a pattern has taken."""

    seconds: float = 0.0
    count: int = 0


@lru_cache(maxsize=256)
def _usage(pattern: str) -> Usage:
    """What a pattern has taken so far."""
    return Usage()


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """The pattern as `re` means it, compiled by `regex`.

    Raises:
        PatternError: `re` can't read it.
    """
    try:
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"more than {MAX_PATTERN:,} characters")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that may mean something else one day
            flags = re.compile(pattern).flags
        rewritten = pattern if flags & re.ASCII else as_re(pattern, bool(flags & re.VERBOSE))
        return regex.compile(rewritten, regex.VERSION0)
    except (re.error, regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        shown = pattern if len(pattern) <= 100 else pattern[:100] + "..."
        raise PatternError(f"{shown!r} is not a regular expression ({error})") from error


def as_re(pattern: str, is_verbose: bool = False) -> str:
    """A pattern that means to `regex` what the given one means to `re`."""
    comment = COMMENT_OR_HASH if is_verbose else COMMENT
    parts, place, in_set = [], 0, False
    while place < len(pattern):
        character, following = pattern[place], pattern[place + 1 : place + 2]
        if character == "\\":
            known = INSIDE if in_set else OUTSIDE
            parts.append(known.get(following, character + following))
            place += 2
            if following == "N":  # a name, whose brackets are no repetition
                end = pattern.index("}", place) + 1
                parts.append(pattern[place:end])
                place = end
            continue
        if not in_set and (skipped := comment.match(pattern, place)):
            place = skipped.end()
            continue
        if in_set:
            in_set = character != "]"
            parts.append("\\[" if character == "[" else character)
        elif character == "[":
            in_set = True
            opening = set_opening(pattern, place)
            parts.append(opening)
            place += len(opening.replace("\\]", "]")) - 1
        elif character == "{" and not REPEAT.match(pattern, place):
            parts.append("\\{")  # such as {e<=1}, which allows errors in `regex`
        else:
            parts.append(character)
        place += 1
    return "".join(parts)


def set_opening(pattern: str, place: int) -> str:
    """The beginning of a set, with a backslash before a bracket that would close it at once."""
    opening = "[^" if pattern.startswith("[^", place) else "["
    return opening + ("\\]" if pattern.startswith("]", place + len(opening)) else "")


def slow_in_re(candidates: Sequence[str], texts: Sequence[str]) -> str | None:
    """The first pattern that `re` itself does not match against all texts in time; None: all are fast.

    For patterns that other libraries match. `re` can't be stopped, so it runs in a process of its own, which
    costs a moment; patterns without two repetitions need none.
    """
    risky = [pattern for pattern in candidates if sum(map(pattern.count, "*+{")) > 1]
    if not risky:
        return None
    command = [sys.executable, "-I", "-S", "-c", MATCHING]
    given = json.dumps([risky, list(texts)])
    try:
        subprocess.run(command, input=given, text=True, capture_output=True, timeout=MAX_CHILD_SECONDS)
    except subprocess.TimeoutExpired as error:
        done = (error.stdout or b"").count(b"\n")
        return risky[min(done, len(risky) - 1)]
    return None


MAX_CHILD_SECONDS = 10.0
"""For all patterns and texts of `slow_in_re`."""
MATCHING = """
import json, re, sys
patterns, texts = json.load(sys.stdin)
for pattern in patterns:
    for text in texts:
        re.match(pattern, text), re.fullmatch(pattern, text)
    print(flush=True)
"""
