"""Makes texts of other people safe to stand in CSV, Markdown and LaTeX, where they must stay plain text."""

import re

from workbench.shown import clean

FORMULA_STARTS = tuple("=+-@＝＋－＠")
"""First characters with which spreadsheets take a cell for a formula."""

MARKDOWN = {ord(character): f"\\{character}" for character in "\\`*_[]|#~$"} | {
    ord(character): f"&#{ord(character)};" for character in "&<>"
}

BREAK = "\0"
"""Stands between hyphens until they are LaTeX; texts have no such character once they are cleaned."""

LATEX = {
    ord(character): replacement
    for character, replacement in {
        BREAK: "{}",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        "−": "$-$",
        "–": "--",
        "±": r"$\pm$",
        "†": r"\dag{}",
        **{special: f"\\{special}" for special in "{}$&#%_"},
        **{argument: f"{{{argument}}}" for argument in "[]*\"'"},  # \\[ and \\* would end a line otherwise
    }.items()
}


def one_line(text: str) -> str:
    """Return a text in one line, without control characters and secrets."""
    return " ".join(clean(text).split())


def csv_text(text: str) -> str:
    """Return a text in one line that no spreadsheet takes for a formula: `'` goes before what looks like one.

    Source: OWASP, CSV Injection.
    """
    text = one_line(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def markdown(text: str) -> str:
    """Return a text in one line that Markdown shows as it is, also within a table."""
    return one_line(text).translate(MARKDOWN)


def latex(text: str) -> str:
    """Return a text in one line that LaTeX shows as it is, also within a table."""
    return re.sub("-(?=-)", f"-{BREAK}", one_line(text)).translate(LATEX)
