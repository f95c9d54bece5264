"""Names of the user's that become names of files."""

import re

from workbench.errors import ConfigError

FILE_NAME = re.compile(r"\w[\w .+-]*")
MOST_BYTES = 150
"""A file name has at most 255 bytes; ours add an ending and, while they are written, a random one."""


def check_file_name(key: str, name: str) -> None:
    """Refuse a name that would lead to another folder, or that no file can have.

    Raises:
        ConfigError: with the section that the name stands in.
    """
    if not FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"{key}: {name[:80]!r} can't be the name of a file (letters, digits, and behind the first _ - .)"
        )
    if len(name.encode("utf-8")) > MOST_BYTES:
        raise ConfigError(f"{key}: {name[:40]!r}... is too long a name (at most {MOST_BYTES} bytes)")
