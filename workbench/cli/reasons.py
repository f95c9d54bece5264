"""Which exceptions are the user's to mend, and what is said of them."""

import errno
import os

from omegaconf.errors import OmegaConfBaseException

from workbench.errors import CheckpointError, DeviceError, WorkbenchError, first_line
from workbench.file_errors import is_unusable

WITHOUT_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "cannot allocate memory",
    "DefaultCPUAllocator",
    "CUDA out of memory",
    "failed to map segment from shared object",
    "can't start new thread",
    "std::bad_alloc",
)
"""What torch, the loader of libraries and the system say where memory, or a limit on it, ends."""


def users_error(error: BaseException) -> Exception | None:
    """The error that is told in one line for an exception; None: it is our fault and keeps its traceback."""
    if isinstance(error, WorkbenchError | OmegaConfBaseException):
        return error
    reason: WorkbenchError
    if has_no_memory(error):
        reason = DeviceError(
            f"memory: there is too little of it, {line_about_memory(error)} (a smaller model or batch, "
            "quantization=nf4, or a higher limit; recipe=plan says what a training takes)"
        )
    elif isinstance(error, OSError) and error.filename is not None and is_unusable(error):
        reason = WorkbenchError(f"{error.filename}: can't be read or written ({error.strerror})")
    elif isinstance(error, RuntimeError) and "Connection closed by peer" in str(error):
        rank = os.environ.get("RANK", "0")
        reason = WorkbenchError(f"process {rank}: another process has stopped (it says why)")
    elif type(error).__name__ == "PanicException":  # of Rust, and none of Exception
        reason = CheckpointError(f"model: its tokenizer or weights are damaged, {first_line(error)}")
    else:
        return None
    reason.__cause__ = error
    return reason


def has_no_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    is_said_so = isinstance(error, RuntimeError | ImportError | OSError | SystemError)
    return is_said_so and any(words in str(error) for words in WITHOUT_MEMORY)


def line_about_memory(error: BaseException) -> str:
    """The line of an error that says so; numpy and others put advice of their own before it."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if any(words in line for words in WITHOUT_MEMORY)), first_line(error))
