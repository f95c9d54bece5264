"""`${oc.env:NAME}` in a YAML, whose value is used and never shown."""

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from workbench.shown import remember_secret

SHORTEST = 5
"""Letters of a value that is masked: a shorter one stands in too many other words."""


def register_environment() -> None:
    """Let `oc.env` remember what it has read, so that it is masked wherever it would be shown."""
    OmegaConf.register_new_resolver("oc.env", from_environment, replace=True)


def from_environment(key: str, *default: Any) -> str | None:
    """The environment variable's value, as OmegaConf's own resolver gives it."""
    value = oc.env(key, *default)
    if key in os.environ and value is not None and is_secret(value):
        remember_secret(value)
    return value


def is_secret(value: str) -> bool:
    """Whether a value may be a secret: not a number, and not the path of a file or folder that there is."""
    if len(value) < SHORTEST or value.replace(".", "", 1).isdecimal():
        return False
    return len(value) > 255 or "\0" in value or not Path(value).exists()
