"""Lists in which each entry counts once, and the order of steps."""

from collections.abc import Mapping, Sequence
from enum import Enum

from workbench.errors import ConfigError


def check_once(key: str, values: Sequence[object] | None) -> None:
    """Refuse a list that names something twice.

    Raises:
        ConfigError: with the key and the first entry that comes again.
    """
    for index, value in enumerate(values or ()):
        if values is not None and value in values[:index]:
            name = value.name if isinstance(value, Enum) else value
            raise ConfigError(f"{key}: {name!r} comes twice (once is enough)")


def check_order(steps: Sequence[Enum], needs: Mapping[str, Sequence[str]]) -> None:
    """Refuse steps of which one comes before another whose result it works on.

    Args:
        steps: In the order in which they will be taken.
        needs: Name of a step -> names of steps whose results it works on.

    Raises:
        ConfigError: names both.
    """
    names = [step.name for step in steps]
    for index, name in enumerate(names):
        for later in names[index + 1 :]:
            if later in needs.get(name, ()):
                raise ConfigError(f"steps: {name!r} comes before {later!r}, whose result it works on")
