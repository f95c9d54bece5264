"""Escapes names and texts for CSV, Markdown and LaTeX, so that they are shown as they are."""

import re

from workbench.shown import clean

FORMULA_STARTS = tuple("=+-@＝＋－＠")
"""First characters by which spreadsheets take a cell for a formula."""

MARKDOWN = {ord(character): f"\\{character}" for character in "\\`*_[]|#~$"} | {
    ord(character): f"&#{ord(character)};" for character in "&<>"
}

BREAK = "\0"
"""Placeholder between two hyphens until they are escaped for LaTeX; cleaned texts don't have this
character."""

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
    """Return a text as one line with single spaces, cleaned by `shown.clean` (secrets become `***`)."""
    return " ".join(clean(text).split())


def csv_text(text: str) -> str:
    """Return a text as one line for CSV, with `'` before what a spreadsheet would take for a formula.

    Source: OWASP, CSV Injection.
    """
    text = one_line(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def markdown(text: str) -> str:
    """Return a text as one line with Markdown's special characters escaped, also those of tables."""
    return one_line(text).translate(MARKDOWN)


def latex(text: str) -> str:
    """Return a text as one line with LaTeX's special characters escaped, also those of tables."""
    return re.sub("-(?=-)", f"-{BREAK}", one_line(text)).translate(LATEX)
