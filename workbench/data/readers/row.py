"""One row of a file or data set, and where it was read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """The columns of one row, and where it was read."""

    values: dict[str, Any]
    """Column -> value, with the names of `data.columns` for renamed columns."""
    where: str
    """`file:line`, or `file: row n` for files without lines; for messages."""
    source: str = ""
    """Name of the row's source in `data.sources`; empty: there is only `data.path`."""
    file: str = ""
    """Path of the file, or id of the data set, that the row was read from; empty for values in memory."""
    clashes: Mapping[str, str] = field(default_factory=dict)
    """Column that `unfolded` left out, because objects of several levels have it -> its full names."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Column -> its name in the file, if `data.columns` has renamed it."""
    parent: str = ""
    """`where` of the row or object in whose list this row was; empty: the row was not unfolded."""

    @property
    def column_names(self) -> str:
        """Names of the columns as in the file, joined by commas, for messages."""
        return ", ".join(map(self.own_name, self.values))

    @property
    def where_named(self) -> str:
        """File whose first line names the columns (CSV, TSV), else file and line of the row, for messages."""
        return re.sub(r"(\.(csv|tsv)):\d+$", r"\1", self.where, flags=re.IGNORECASE)

    def own_name(self, column: str) -> str:
        """Return the name that a column has in the file; a column that wasn't renamed keeps its name."""
        return self.renamed.get(column, column)

    def content(self) -> str:
        """Return the columns as JSON text, which is equal for rows with equal columns, in any order."""
        return json.dumps(self.values, sort_keys=True, ensure_ascii=False, default=str)
