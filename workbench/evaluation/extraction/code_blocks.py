"""Finds the code in a generated text, which models put between fences: lines of ``` or ~~~."""

import keyword
import re
from dataclasses import dataclass

from workbench.evaluation.extraction.function_bodies import indented

_OPENING = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n`~]*)"
    r"|(?<![`~])(?P<inline>`{3,}|~{3,})(?P<python>(?:python3?|py)(?=\s)[^\n`~]*)",
    re.M | re.I,
)
"""A fence with the rest of its line; within a line only a fence that names Python counts."""
_PYTHON = ("python", "python3", "py")
_ATTRIBUTES = re.compile(
    r"(?:[ \t]+(?:[\w-]+=(?:\"[^\"]*\"|'[^']*'|[^\s\"'=(]+)|\{[^}]*\}|[\w./-]+\.\w+|[A-Za-z][\w-]*))*[ \t\r]*"
)
"""What may follow a block's language in its first line: title="a.py", {.numbers}, a file's name, a word."""
_LANGUAGE = re.compile(r"[\w+#.{}-]+")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t\r]*$", re.M)
_CODE_START = re.compile(r"(?:[ \t]*\n)*(?:[ ]{2,}\S|\t\s*\S|(?:async def|class|def|from|import)\s|@\w)")
_DEFINITION = re.compile(r"^(?:async[ ]def|class|def)\s", re.M)
_BODY = re.compile(r"(?:[ \t]*\n)*(?:[ ]{2,}|\t)\S")
"""Start of an indented function body."""


@dataclass(frozen=True)
class Block:
    """A block of a text."""

    code: str
    is_python: bool
    """Whether its fence names Python."""


def code(text: str) -> str:
    """Return the code in a text: a block of Python, else its first block, else the text.

    Of several blocks of Python it is the first that has a function, else the first. Code that a lone
    closing fence ends is what precedes the fence. White space at the start is the code's indentation: a block
    loses that of its fence, and a function's body without indentation gets it.
    """
    fence = _FENCE.search(text)
    if fence and _is_code(text[: fence.start()]):
        return indented(text[: fence.start()])
    blocks = _blocks(text)
    python = [block.code for block in blocks if block.is_python]
    whole = [content for content in python if _DEFINITION.search(content) or _BODY.match(content)]
    taken = whole or python or [block.code for block in blocks]
    return indented(taken[0] if taken else text)


def _is_code(text: str) -> bool:
    """Return whether text before a lone fence is code: it starts as code does, or is a function's body."""
    return bool(_CODE_START.match(text)) or indented(text) != text


def _blocks(text: str) -> list[Block]:
    """Return the blocks of a text in order; a block that isn't closed ends with the text."""
    blocks = []
    opening = _OPENING.search(text)
    while opening:
        fence = opening["fence"] or opening["inline"]
        following = text[opening.end() : text.find(fence, opening.end())]
        language, inline_code = _language_and_code(opening["info"] or opening["python"] or "", following)
        is_python = language in _PYTHON
        end = None
        if inline_code:
            start = opening.end() - len(inline_code)
            end = re.compile(fence).search(text, opening.end())
            content = text[start : end.start()] if end else ""
        elif text.startswith("\n", opening.end()):
            end = re.compile(rf"^[ \t]*{fence}|{fence}[ \t\r]*$", re.M).search(text, opening.end() + 1)
            content = text[opening.end() + 1 : end.start() if end else None]
        else:
            content = ""
        if content:
            blocks.append(Block(_without_margin(content, opening["indent"] or ""), is_python))
        opening = _OPENING.search(text, end.end() if end else opening.end()) if end or not content else None
    return blocks


def _language_and_code(info: str, following: str) -> tuple[str, str]:
    """Return the language that a fence names, and the code in the fence's own line; "" for what it lacks.

    What follows the language is code, unless it reads as attributes of the block, and the block's code uses
    none of their names. The whole line is code if it starts with a keyword of Python, if its first word can't
    be a language, or if such code follows the word and it isn't Python's name.

    Args:
        info: rest of the fence's line.
        following: text between that line and the next fence.
    """
    words = info.split()
    if not words:
        return "", ""
    rest = info[info.index(words[0]) + len(words[0]) :]
    if words[0].lower() in _PYTHON:
        return words[0].lower(), rest.lstrip() if _is_inline_code(rest, following) else ""
    starts_code = keyword.iskeyword(words[0].rstrip(":")) and (rest.strip() or following.strip())
    if starts_code or not _LANGUAGE.fullmatch(words[0]) or _is_inline_code(rest, following):
        return "", info.lstrip()
    return words[0].lower(), ""


def _is_inline_code(rest: str, following: str) -> bool:
    """Return whether `rest`, what the opening line of a block has after the language, is code."""
    words = rest.split()
    if not words:
        return False
    if keyword.iskeyword(words[0].rstrip(":")) or not _ATTRIBUTES.fullmatch(rest):
        return True
    names = [word.split("=")[0] for word in words[:20] if "=" in word]
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", following) for name in names)


def _without_margin(content: str, margin: str) -> str:
    """Return lines of code without up to as much indentation as their opening fence has."""
    return re.sub(rf"^[ \t]{{1,{len(margin)}}}", "", content, flags=re.M) if margin else content
