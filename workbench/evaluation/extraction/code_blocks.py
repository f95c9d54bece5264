"""Finds the code in a generated text, which models put between fences: lines of ``` or ~~~."""

import re

_BLOCK = re.compile(
    r"(?<![`~])(?P<one_line>`{3,}|~{3,})(?:python3?|py)[ \t]{1,4}"
    r"(?P<beside>(?:async|class|def|for|from|if|import|return|try|while|with)\b.*?|[^\n`~]*)(?P=one_line)"
    r"|^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>[^\n`~]*)\n"
    r"(?P<lines>.*?)(?:^[ \t]*(?P=fence)|\Z)",
    re.S | re.M | re.I,
)
"""A block: code beside its opening fence, or lines after it; the lines of an open block end with the text."""
_PYTHON = ("python", "python3", "py")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t\r]*$", re.M)
_CODE_START = re.compile(r"(?:[ \t]*\n)*(?:[ ]{2,}\S|\t\s*\S|(?:async def|class|def|from|import)\s|@\w)")
_DEFINITION = re.compile(r"^(?:async[ ]def|class|def)\s", re.M)
_BODY = re.compile(r"(?:[ \t]*\n)*(?:[ ]{2,}|\t)\S")
"""Start of an indented function body."""
_TOP_LEVEL = re.compile(r"^(?:async[ ]def|class|def|from|import)\s|^@", re.M)
_RETURN = re.compile(r"^(?:return|yield)\b", re.M)
_OPEN_LINE = ("(", "[", "{", ",", "\\")


def code(text: str) -> str:
    """Return the code in a text: a block of Python, else its first block, else the text.

    Of several blocks of Python it is the first that has a function, else the first. Code that a lone
    closing fence ends is what precedes the fence. White space at the start is the code's indentation: a block
    loses that of its fence, and a body without it gets it.
    """
    fence = _FENCE.search(text)
    if fence and _CODE_START.match(text, 0, fence.start()):
        return text[: fence.start()]
    blocks = [(_is_python(match), _content(match)) for match in _BLOCK.finditer(text)]
    python = [content for is_python, content in blocks if is_python]
    whole = [content for content in python if _DEFINITION.search(content) or _BODY.match(content)]
    taken = whole or python or [content for _, content in blocks]
    return _indented(taken[0]) if taken else text


def _is_python(block: "re.Match[str]") -> bool:
    words = (block["info"] or "").split()
    return block["one_line"] is not None or (bool(words) and words[0].lower() in _PYTHON)


def _content(block: "re.Match[str]") -> str:
    """Return the code of a block, each line without up to as much indentation as the opening fence has."""
    if block["one_line"] is not None:
        return block["beside"]
    width = len(block["indent"])
    return re.sub(rf"^[ \t]{{1,{width}}}", "", block["lines"], flags=re.M) if width else block["lines"]


def _indented(content: str) -> str:
    """Return a function's body with the indentation that its first line, or each line, lacks."""
    lines = content.splitlines(keepends=True)
    filled = [line for line in lines if line.strip()]
    if not filled or filled[0][0] in " \t" or _TOP_LEVEL.search(content):
        return content
    first, *others = filled
    widths = [len(line) - len(line.lstrip(" \t")) for line in others]
    is_return = _RETURN.match(first) is not None
    is_complete = is_return or not first.rstrip().endswith(_OPEN_LINE)
    opens_block = first.rstrip().endswith(":")
    if widths and min(widths) > 0 and is_complete and not (opens_block and widths[0] == min(widths)):
        margin = others[widths.index(min(widths))][: min(widths)]
        return margin + content[content.index(first) :]
    if _RETURN.search(content):
        return "".join("    " + line if line.strip() else line for line in lines)
    return content
