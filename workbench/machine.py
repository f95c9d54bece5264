"""Measures the memory of this machine and this process, in bytes."""

import sys

import psutil


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # POSIX only

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, other systems kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_bytes() -> int:
    """Return the memory that is available to new processes."""
    return int(psutil.virtual_memory().available)


def total_bytes() -> int:
    """Return the memory of the machine."""
    return int(psutil.virtual_memory().total)
