"""What the user is told while rows are read."""

import logging
from functools import cache

log = logging.getLogger("workbench")


@cache
def say_once(words: str) -> None:
    """Tell the user; rows are read more than once in a run, by the checks and by the steps."""
    log.info(words)
