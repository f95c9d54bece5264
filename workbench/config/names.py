"""The names of a run's models, and names of the user's that become names of files."""

import re

from workbench.errors import ConfigError

BASE = "base"
"""The model of the model section, in the run's quantization."""
ADAPTER = "adapter"
"""The adapter on the base."""
MERGED = "merged"
"""The base with the adapter merged into it."""
TRAINED = "trained"
"""With `adapter=none` the trained model itself."""

MODELS = (BASE, ADAPTER, MERGED, TRAINED)
"""All of them, in the order in which they are shown."""

UNTRAINED = "untrained head"
"""Note of the scores of a base whose classification head is random."""

FILE_NAME = re.compile(r"\w[\w .+-]*")
MOST_BYTES = 150
"""Maximum bytes of a name: a file name has at most 255, with our suffixes."""


def check_file_name(key: str, name: str) -> None:
    """Check that a name is a valid file name and no path.

    Raises:
        ConfigError: It isn't; the message starts with `key`.
    """
    if not FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"{key}: {name[:80]!r} can't be a file name (allowed: letters, digits, and after the first _ - .)"
        )
    if len(name.encode("utf-8")) > MOST_BYTES:
        raise ConfigError(f"{key}: {name[:40]!r}... is too long (at most {MOST_BYTES} bytes)")


IGNORED = -100
"""Label of a token that carries no loss: the `ignore_index` of PyTorch's cross entropy."""
