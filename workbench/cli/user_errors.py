"""Decides which exceptions a user can correct, and converts these to errors of one line."""

import errno
import os

from omegaconf.errors import OmegaConfBaseException

from workbench.errors import CheckpointError, DeviceError, WorkbenchError, first_line
from workbench.file_errors import is_unusable
from workbench.machine import is_out_of_memory

WITHOUT_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "cannot allocate memory",
    "failed to map segment from shared object",
    "can't start new thread",
    "std::bad_alloc",
)
"""Parts of the messages of the library loader and the system when memory runs out."""


def users_error(error: BaseException) -> Exception | None:
    """Return the error whose message is printed for an exception that a user can correct.

    That is the exception itself, or a WorkbenchError whose cause it is, for example if memory has run out.
    None: the exception is a bug of this program, and needs its traceback.
    """
    if isinstance(error, WorkbenchError | OmegaConfBaseException):
        return error
    reason: WorkbenchError
    if has_no_memory(error):
        reason = DeviceError(
            f"memory: not enough, {memory_line(error)} (a smaller model or batch, quantization=nf4, or a "
            "higher limit; recipe=plan forecasts what a training needs)"
        )
    elif isinstance(error, OSError) and error.filename is not None and is_unusable(error):
        reason = WorkbenchError(f"{error.filename}: can't be read or written ({error.strerror})")
    elif isinstance(error, RuntimeError) and "Connection closed by peer" in str(error):
        rank = os.environ.get("RANK", "0")
        reason = WorkbenchError(f"process {rank}: another process has stopped (see its error)")
    elif type(error).__name__ == "PanicException":  # from Rust, not a subclass of Exception
        reason = CheckpointError(f"model: its tokenizer or weights are damaged, {first_line(error)}")
    else:
        return None
    reason.__cause__ = error
    return reason


def has_no_memory(error: BaseException) -> bool:
    """Return whether an error means that memory has run out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    is_possible_type = isinstance(error, RuntimeError | ImportError | OSError | SystemError)
    has_words = any(words in str(error) for words in WITHOUT_MEMORY)
    return is_possible_type and (has_words or is_out_of_memory(error))


def memory_line(error: BaseException) -> str:
    """Return the line of an error's message that says that memory ran out; else its first line."""

    def is_memory(line: str) -> bool:
        return any(words in line for words in WITHOUT_MEMORY) or is_out_of_memory(RuntimeError(line))

    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if is_memory(line)), first_line(error))
