"""An error as the one line that a user reads."""

from hydra.errors import HydraException

from workbench.cli.shipped import options
from workbench.config.mistakes import plainly
from workbench.errors import WorkbenchError


def one_line(error: BaseException) -> str:
    """An error's message, and its cause's where that says more, without line breaks."""
    parts = [str(error)]
    if isinstance(error, HydraException) and error.__cause__ is not None:
        parts.append(str(error.__cause__))
    if isinstance(error, WorkbenchError):
        return " ".join(parts[0].split())
    return plainly(" ".join(parts), options)
