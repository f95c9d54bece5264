"""Measures the memory of this machine and this process, in bytes, and processor time, in seconds."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from workbench.errors import DeviceError

LEAST_ADDRESS_SPACE = 2 * 2**30
"""Bytes of address space; with less, torch aborts the process while it loads, without an exception."""

OUT_OF_MEMORY = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cublaslt ran into an error",
    "cudaerrormemoryallocation",
    "defaultcpuallocator",
)
"""Parts of messages, in small letters, of exceptions about exhausted memory."""


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process in seconds; 0 if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if (peak := linux_peak_bytes(os.getpid())) is not None:
        return peak
    import resource  # POSIX only

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, other systems kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def linux_peak_bytes(pid: int) -> int | None:
    """Return the peak resident memory of a process in bytes; None if it has ended, and on other systems.

    getrusage starts with the peak of the process that started this one, such as a notebook with a model.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else None


def available_bytes() -> int:
    """Return the memory that is available to new processes, in bytes."""
    return int(psutil.virtual_memory().available)


def total_bytes() -> int:
    """Return the memory of the machine in bytes."""
    return int(psutil.virtual_memory().total)


@cache
def libc_function(name: str) -> Any:
    """Return a function of the C library on Linux; None if the library lacks it, or on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def release_freed() -> None:
    """Give memory that the process has freed, but glibc keeps, back to the system; elsewhere do nothing."""
    trim = libc_function("malloc_trim")
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that the GPU or the machine has no memory left.

    Besides PyTorch's own exception, libraries that allocate on a GPU raise plain ones: cuBLAS and cuDNN for
    their workspaces, bitsandbytes and Triton for their kernels.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


def check_address_space() -> None:
    """Check that the limit on this process's address space lets it load torch.

    Raises:
        DeviceError: The limit is too low.
    """
    if sys.platform != "linux":
        return
    import resource  # POSIX only

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise DeviceError(
            f"memory: the address space is limited to {limit / 2**30:.2f} GiB, and loading torch takes "
            f"{LEAST_ADDRESS_SPACE // 2**30} GiB of it (ulimit -v unlimited; a cgroup limits memory itself)"
        )
