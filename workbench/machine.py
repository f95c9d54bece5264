"""Memory of this machine and of this process, on any system; in bytes."""

import sys

import psutil

from workbench.errors import DeviceError

LEAST_ADDRESS_SPACE = 2 * 2**30
"""Below this limit torch and its thread pools abort the process while they load, without an exception."""


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


def check_address_space() -> None:
    """Compare the limit on this process's address space with what a run takes at least.

    Raises:
        DeviceError: the limit is too low to load torch.
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
