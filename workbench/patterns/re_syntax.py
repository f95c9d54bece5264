"""Rewrites regular expressions so that the `regex` package reads them as `re` does."""

import re

WORD = r"\p{L}\p{N}_"
OUTSIDE = {
    "w": f"[{WORD}]",
    "W": f"[^{WORD}]",
    "b": f"(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))",
    "B": f"(?:(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}]))",
    "s": r"[\s\x1c-\x1f]",
    "S": r"[^\s\x1c-\x1f]",
}
"""Letter of an escape such as `\\w` -> what `re` means by it; `regex` differs in accents and separators."""
INSIDE = {"w": WORD, "s": r"\s\x1c-\x1f"}
"""Letter of an escape inside a set, as in `[\\w]` -> what `re` means by it."""
COMMENT = re.compile(r"\(\?#[^)]*\)")
COMMENT_OR_HASH = re.compile(COMMENT.pattern + r"|#[^\n]*")
REPEAT = re.compile(r"\{\d*(?:,\d*)?\}")


def as_re(pattern: str, is_verbose: bool = False) -> str:
    """Rewrite a pattern so that `regex` reads it as `re` reads the original."""
    comment = COMMENT_OR_HASH if is_verbose else COMMENT
    parts, index, in_set = [], 0, False
    while index < len(pattern):
        character, following = pattern[index], pattern[index + 1 : index + 2]
        if character == "\\":
            classes = INSIDE if in_set else OUTSIDE
            parts.append(classes.get(following, character + following))
            index += 2
            if following == "N":  # \N{NAME}, whose braces are not a repetition
                end = pattern.index("}", index) + 1
                parts.append(pattern[index:end])
                index = end
            continue
        if not in_set and (skipped := comment.match(pattern, index)):
            index = skipped.end()
            continue
        if in_set:
            in_set = character != "]"
            parts.append("\\[" if character == "[" else character)
        elif character == "[":
            in_set = True
            opening = set_opening(pattern, index)
            parts.append(opening)
            index += len(opening.replace("\\]", "]")) - 1
        elif character == "{" and not REPEAT.match(pattern, index):
            parts.append("\\{")  # such as {e<=1}, which is fuzzy matching in `regex`
        else:
            parts.append(character)
        index += 1
    return "".join(parts)


def set_opening(pattern: str, start: int) -> str:
    r"""Return the start of the character set at `start`: `[` or `[^`, with `\]` if a literal `]` follows."""
    opening = "[^" if pattern.startswith("[^", start) else "["
    return opening + ("\\]" if pattern.startswith("]", start + len(opening)) else "")
