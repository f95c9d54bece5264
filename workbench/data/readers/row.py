"""One row of a file or data set, and the place it came from."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """The columns of one row."""

    values: dict[str, Any]
    where: str
    """`file:line`, or `file: row n` where lines mean nothing."""
    source: str = ""
    """Its name in `data.sources`."""
    file: str = ""
    """The file or data set that it was read from."""
    clashes: Mapping[str, str] = field(default_factory=dict)
    """Column that occurs at several levels of what was unfolded -> its names, one per level."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Column -> its name in the file, where `data.columns` has renamed it."""
    parent: str = ""
    """`where` of the row or object that this row was unfolded from."""

    @property
    def column_names(self) -> str:
        """The columns as the file names them, for messages."""
        return ", ".join(map(self.own_name, self.values))

    @property
    def where_named(self) -> str:
        """Where the columns are named: of a CSV or TSV the file, whose heading names them, else the row."""
        return re.sub(r"(\.(csv|tsv)):\d+$", r"\1", self.where, flags=re.IGNORECASE)

    def own_name(self, column: str) -> str:
        """Return the name that a column has in the file."""
        return self.renamed.get(column, column)

    def content(self) -> str:
        """Return the columns as text, the same for equal rows."""
        return json.dumps(self.values, sort_keys=True, ensure_ascii=False, default=str)
