"""Memory of this machine and of this process, on any system; in bytes."""

import sys

import psutil


def resident_bytes() -> int:
    """Memory that this process holds."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most memory that this process has held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # POSIX only

    unit = 1 if sys.platform == "darwin" else 1024  # a Mac counts bytes, others kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_bytes() -> int:
    """Memory that the machine could give to new processes."""
    return int(psutil.virtual_memory().available)


def total_bytes() -> int:
    """Memory of the machine."""
    return int(psutil.virtual_memory().total)
