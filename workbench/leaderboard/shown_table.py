"""Defines tables that can be shown in a terminal and in a notebook."""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.shown import clean


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts, with a title, a header, and notes below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Return the table as plain text with aligned columns."""
        lines = [[clean(cell) for cell in line] for line in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([clean(self.title), *aligned, *map(clean, self.notes)])

    def html(self) -> str:
        """Return the table as HTML; characters of its texts are escaped."""

        def line(cells: Sequence[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{_escaped(cell)}</{tag}>' for cell in cells)}</tr>"

        body = "".join(line(cells, "td") for cells in self.rows)
        notes = "".join(f"<p>{_escaped(note)}</p>" for note in self.notes)
        caption = f"<caption>{_escaped(self.title)}</caption>"
        return f"<table>{caption}<thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody></table>{notes}"


class Shown(ABC):
    """Base class of results that are shown as a table in a terminal and in a notebook."""

    @abstractmethod
    def table(self) -> Table:
        """Return the results as a table."""

    def __repr__(self) -> str:
        """Return the table as plain text."""
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


def _escaped(text: str) -> str:
    return html.escape(clean(text))
