"""Logs lines that hold for a process: each is said once, however often its cause comes up."""

import logging
from functools import cache

log = logging.getLogger("workbench")


@cache
def log_once(line: str) -> None:
    """Log `line` as info, unless it was logged by this function before in this process."""
    log.info("%s", line)
