"""Checks lists for duplicates, and the order of steps."""

from collections.abc import Mapping, Sequence
from enum import Enum

from workbench.errors import ConfigError


def check_once(key: str, values: Sequence[object] | None) -> None:
    """Check that a list has no duplicates.

    Raises:
        ConfigError: It has one; the message names the key and the entry.
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
