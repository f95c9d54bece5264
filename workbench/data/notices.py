"""Logs notices about rows while they are read."""

import logging
from functools import cache

log = logging.getLogger("workbench")


@cache
def say_once(message: str) -> None:
    """Log a message unless this process has logged it before: several steps of a run read the same rows."""
    log.info(message)
