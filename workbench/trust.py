"""Whether code from files that the user's configuration names may be run, and which such code was."""

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
    """The sources whose code has been run, in the order of their first use."""

    sources: list[str] = field(default_factory=list)


_trusted: ContextVar[TrustedCode | None] = ContextVar("trusted", default=None)


@contextmanager
def trusting(trust_code: bool) -> Iterator[TrustedCode]:
    """Let code from named files run within, if `trust_code`; yields the list of what has run."""
    trusted = TrustedCode()
    token = _trusted.set(trusted if trust_code else None)
    try:
        yield trusted
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Whether code from named files may be run."""
    return _trusted.get() is not None


def check_trusted(key: str, source: str) -> None:
    """Refuse to run the code of `source`, or note and say that it is run.

    Args:
        key: where the source is named: a configuration key or a file.
        source: the file or hub id whose code would be run.

    Raises:
        ConfigError: `trust_code` is off.
    """
    trusted = _trusted.get()
    if trusted is None:
        raise ConfigError(
            f"{key}: {source!r} holds code, which is not run (trust_code=true on the command line runs it, "
            "with all rights of yours)"
        )
    if source not in trusted.sources:
        trusted.sources.append(source)
        log.warning("trust_code: runs the code of %s, named by %s", clean(source), clean(key))
