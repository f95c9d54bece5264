"""Counts the characters of a regular expression whose repetitions are written out."""

import re
from dataclasses import dataclass

from workbench.patterns.re_syntax import COMMENT, COMMENT_OR_HASH, INSIDE, OUTSIDE, set_opening

_REPEAT = re.compile(r"\{(?P<least>\d*)(?:,\d*)?(?<!\{)\}")
_IGNORED = re.compile(COMMENT_OR_HASH.pattern + r"|\s+")
"""What doesn't count with the flag VERBOSE."""
_FLAGS = re.compile(r"\(\?(?P<on>[aiLmsux]*)(?:-(?P<off>[imsx]+))?:")
"""Start of a group with flags of its own."""
_NAME = re.compile(r"\\N\{[^}]*\}")


@dataclass
class _Group:
    """An open group of a pattern."""

    is_verbose: bool
    size: int = 0


def expanded_size(pattern: str, is_verbose: bool = False) -> int:
    r"""Return the number of characters of a pattern with all required repetitions written out.

    The `regex` package compiles `(x{3}){2,}` as six copies of `x` and a repetition, so that its memory grows
    with this number: by up to 400 bytes a character. Escapes and sets count as what `as_re` makes of them.

    Args:
        pattern: A pattern that `re` compiles.
        is_verbose: Whether the pattern has the flag VERBOSE, which allows white space and comments.
    """
    groups = [_Group(is_verbose)]
    last, index = 0, 0  # size of the part that a repetition would repeat; position
    while index < len(pattern):
        group, end = groups[-1], index + 1
        if ignored := (_IGNORED if group.is_verbose else COMMENT).match(pattern, index):
            end = ignored.end()
        elif repeat := _REPEAT.match(pattern, index):
            repeated = last * max(int(repeat["least"] or 0), 1)
            group.size += repeated - last
            last, end = repeated, repeat.end()
        elif pattern[index] == "(":
            groups.append(_Group(_is_verbose(pattern, index, group.is_verbose)))
        elif pattern[index] == ")":
            last = groups.pop().size + 1
            groups[-1].size += last
        else:
            last, end = _part(pattern, index)
            group.size += last
        index = end
    return groups[0].size


def _is_verbose(pattern: str, start: int, is_verbose: bool) -> bool:
    """Return the flag VERBOSE of the group that starts at `start`, where `is_verbose` is that around it."""
    flags = _FLAGS.match(pattern, start)
    return ("x" in flags["on"] or (is_verbose and "x" not in (flags["off"] or ""))) if flags else is_verbose


def _part(pattern: str, start: int) -> tuple[int, int]:
    """Return size and end of the character, escape or character set at `start`."""
    if pattern[start] == "\\":
        name = _NAME.match(pattern, start)
        return len(OUTSIDE.get(pattern[start + 1], "x")), name.end() if name else start + 2
    if pattern[start] != "[":
        return 1, start + 1
    index = start + len(set_opening(pattern, start).replace("\\]", "]"))
    size = index - start
    while pattern[index] != "]":
        is_escape = pattern[index] == "\\"
        size += len(INSIDE.get(pattern[index + 1], "x")) if is_escape else 1
        index += 1 + is_escape
    return size, index + 1
