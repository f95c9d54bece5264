"""Every error that is the user's to mend: printed as one line, exit status 1.

    WorkbenchError
    ├── ConfigError         a key, a value or a combination of them
    ├── DataError           a file of rows: missing, malformed, empty, of the wrong shape
    ├── DeviceError         this machine can't do what was asked
    ├── CheckpointError     a model or adapter on disk that doesn't fit
    ├── TrainingError       a loss that is no number any more
    └── MissingStepError    a step needs what an earlier step hasn't made yet

A message reads `where: what is wrong, with the value (what is allowed, or what to do)`.
"""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without its full stop; its type where there is no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


class WorkbenchError(Exception):
    """A mistake that the user can mend; the message says where and how."""


class ConfigError(WorkbenchError):
    """A configuration key, value or combination is wrong."""


class DataError(WorkbenchError):
    """A data file is missing, malformed, empty or has the wrong columns."""


class DeviceError(WorkbenchError):
    """This machine has no way to do what was asked."""


class CheckpointError(WorkbenchError):
    """A model or adapter on disk is missing, damaged or of another shape."""


class TrainingError(WorkbenchError):
    """Training broke down: the loss is infinite or not a number."""


class MissingStepError(WorkbenchError):
    """A step was asked for whose input an earlier step has not written."""
