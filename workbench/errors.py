"""Defines the errors that a user can fix: each is printed as one line, with exit status 1.

    WorkbenchError
    ├── ConfigError         a key, a value or a combination of them is wrong
    │   ├── FileOfAnotherToolError  a file is another tool's; the command has a line of its own
    │   └── FolderInUseError    another process is using a run's folder
    ├── DataError           a data file or a run's file is missing, malformed, changed or in the way
    ├── DeviceError         this machine can't do what was asked
    ├── EndpointError       a model behind an endpoint can't be reached, or its answers can't be trusted
    ├── CheckpointError     a model or adapter on disk is missing, damaged or has the wrong shape
    │   └── OtherArchitectureError  Open-Llama doesn't compute what the checkpoint does; transformers may
    ├── TrainingError       the training broke down, for example with a loss of NaN
    └── MissingStepError    a step needs the output of a step that has not run

A message reads `where: what is wrong, with the value (what is allowed, or what to do)`.
"""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or its type if it has none.

    Python's message of a KeyError is the bare key, so its type is added.
    """
    if isinstance(error, KeyError):
        return f"KeyError: {error}"
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


class WorkbenchError(Exception):
    """An error that the user can fix; the message says where and how."""


class ConfigError(WorkbenchError):
    """A configuration key, value or combination is wrong."""


class FileOfAnotherToolError(ConfigError):
    """The user gave another tool's configuration file; the message has our command for the same job."""


class FolderInUseError(ConfigError):
    """Another process is using a run's folder."""


class DataError(WorkbenchError):
    """A data file is missing, malformed or empty, or has the wrong columns; or a run's file is unusable.

    Of a run's files: one was damaged or changed since, or a folder or link is in the place of one.
    """


class DeviceError(WorkbenchError):
    """This machine lacks the hardware, memory or package that the configuration needs."""


class CheckpointError(WorkbenchError):
    """A model or adapter on disk is missing, damaged or has the wrong shape."""


class OtherArchitectureError(CheckpointError):
    """A checkpoint's model_type is neither Open-Llama's nor that of a relative.

    Its attribute `reason` says so without the file, as in "model_type 'gpt2' is not a LLaMA". A relative with
    a field that Open-Llama doesn't compute is a plain CheckpointError.
    """

    def __init__(self, where: object, reason: str, way_out: str) -> None:
        """Build the message: the file `where`, the `reason`, and directly after it the hint `way_out`."""
        super().__init__(f"{where}: {reason}{way_out}")
        self.reason = reason


class EndpointError(WorkbenchError):
    """A model behind an endpoint can't be reached, or its answers can't be trusted."""


class TrainingError(WorkbenchError):
    """The training broke down, can't be deterministic, or failed the resume_check.

    It breaks down when a loss or weight is infinite, NaN or far too large, or memory or disk space runs out.
    """


class MissingStepError(WorkbenchError):
    """A step needs the output of a step that has not run."""
