"""Names of models and of columns, and checks of names that the user gives: valid, listed once, in order."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum

from workbench.errors import ConfigError

BASE = "base"
"""Name of the base model, with the run's quantization."""
ADAPTER = "adapter"
"""Name of the base model with the adapter attached."""
MERGED = "merged"
"""Name of the base model with the adapter merged into its weights."""
TRAINED = "trained"
"""Name of the trained model of a run with `adapter=none`."""

MODELS = (BASE, ADAPTER, MERGED, TRAINED)
"""Names of all models of a run, in the order in which they are shown."""

HELD_OUT = "held_out"
"""Name of the benchmark of the rows that a training held out."""

UNTRAINED = "untrained head"
"""Note beside the scores of a base model whose classification head is random."""

SERVED = "served"
"""Note beside the scores of a model behind an endpoint, and its number format, which isn't known."""

IGNORED = -100
"""Label of a token that carries no loss: the `ignore_index` of PyTorch's cross entropy."""

FILE_NAME = re.compile(r"\w[\w .+-]*")
MOST_BYTES = 150
"""Maximum bytes of a name: a file name has at most 255, with our suffixes."""


def check_file_name(key: str, name: str) -> None:
    """Check that a name is a file name of letters, digits, spaces and `_.+-`, not a path, and not too long.

    Raises:
        ConfigError: The name is invalid or too long; the message starts with `key`.
    """
    if not FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"{key}: {name[:80]!r} can't be a file name (allowed: letters, digits, and after the first _ - .)"
        )
    if len(name.encode("utf-8")) > MOST_BYTES:
        raise ConfigError(f"{key}: {name[:40]!r}... is too long (at most {MOST_BYTES} bytes)")


def check_once(key: str, values: Sequence[object] | None) -> None:
    """Check that a list, the value of `key`, has no duplicates; None passes.

    Raises:
        ConfigError: An entry comes twice; the message names the key and the entry.
    """
    for index, value in enumerate(values or ()):
        if values is not None and value in values[:index]:
            name = value.name if isinstance(value, Enum) else value
            raise ConfigError(f"{key}: {name!r} is listed twice (list it once)")


def check_order(steps: Sequence[Enum], needs: Mapping[str, Sequence[str]]) -> None:
    """Check that no step comes before a step whose output it uses.

    Args:
        steps: Steps in the order in which they run.
        needs: Name of a step -> names of the steps whose output it uses.

    Raises:
        ConfigError: The order is wrong; the message names both steps.
    """
    names = [step.name for step in steps]
    for index, name in enumerate(names):
        for later in names[index + 1 :]:
            if later in needs.get(name, ()):
                raise ConfigError(f"steps: {name!r} comes before {later!r}, whose output it uses (swap them)")


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
