"""Roles of the columns of training rows, and the keys that map them to a file's columns."""

from collections.abc import Mapping

from workbench.errors import ConfigError

COLUMNS = (
    *("instruction", "input", "output", "history", "system"),
    *("conversations", "messages", "tools"),
    *("prompt", "completion"),
    *("text", "pair", "sentence", "sentence1", "sentence2", "question1", "question2"),
    *("premise", "hypothesis", "label"),
)
"""Roles of a row's columns, such as instruction or label; `data.columns` maps roles to a file's columns."""


def key_of(name: str, source: str) -> str:
    """Return the dotted key of a field of a source, as `data.sources.NAME.columns`.

    Args:
        name: Name of the field, as `columns`.
        source: Name of the source; empty: the data section itself, as in `data.columns`.
    """
    return f"data.sources.{source}.{name}" if source else f"data.{name}"


def check_columns(columns: Mapping[str, str], source: str) -> None:
    """Refuse an unknown role: no format would read its column.

    Args:
        columns: Role -> column name.
        source: Name in `data.sources`; empty: the data section itself.

    Raises:
        ConfigError: A role is unknown; the message lists the known ones.
    """
    for role in columns:
        if role not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise ConfigError(f"{key_of('columns', source)}.{role}: unknown role {role!r} (known: {known})")
