"""Controls whether code in files that the configuration names may run, and records which code did."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from workbench.errors import ConfigError
from workbench.shown import clean

log = logging.getLogger("workbench")


@dataclass
class TrustedCode:
    """Files and hub ids whose code has run, in the order of first use."""

    sources: list[str] = field(default_factory=list)


_trusted: ContextVar[TrustedCode | None] = ContextVar("trusted", default=None)


@contextmanager
def trusting(trust_code: bool) -> Iterator[TrustedCode]:
    """During the block, let code in files that the configuration names run if `trust_code`, else refuse it.

    Yields:
        The sources whose code was allowed to run, filled by `check_trusted` during the block.
    """
    trusted = TrustedCode()
    token = _trusted.set(trusted if trust_code else None)
    try:
        yield trusted
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Return whether code of files that the configuration names may run; False outside of `trusting`."""
    return _trusted.get() is not None


def check_trusted(key: str, source: str) -> None:
    """Check that the code of `source` may run; on first use, log a warning and add it to `trusting`'s list.

    Args:
        key: Configuration key or file that names the source.
        source: File or hub id whose code will run.

    Raises:
        ConfigError: `trust_code` is false, or this is called outside of `trusting`.
    """
    trusted = _trusted.get()
    if trusted is None:
        raise ConfigError(
            f"{key}: {source!r} contains code, which is not run (trust_code=true on the command line runs "
            "it, with all your permissions)"
        )
    if source not in trusted.sources:
        trusted.sources.append(source)
        log.warning("trust_code: runs the code of %s, named by %s", clean(source), clean(key))
