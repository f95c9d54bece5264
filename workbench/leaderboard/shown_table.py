"""Tables that a terminal and a notebook show."""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.shown import clean


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells with a title, and lines below them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """The table for a terminal, its columns aligned."""
        lines = [[clean(cell) for cell in line] for line in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([clean(self.title), *aligned, *map(clean, self.notes)])

    def html(self) -> str:
        """The table for a notebook; its texts are shown as they are and are never markup."""

        def line(cells: Sequence[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{_escaped(cell)}</{tag}>' for cell in cells)}</tr>"

        body = "".join(line(cells, "td") for cells in self.rows)
        notes = "".join(f"<p>{_escaped(note)}</p>" for note in self.notes)
        caption = f"<caption>{_escaped(self.title)}</caption>"
        return f"<table>{caption}<thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody></table>{notes}"


class Shown(ABC):
    """What is shown as a table."""

    @abstractmethod
    def table(self) -> Table:
        """The table."""

    def __repr__(self) -> str:
        """The table as text."""
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


def _escaped(text: str) -> str:
    return html.escape(clean(text))
