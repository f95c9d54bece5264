"""Builds the filter of system calls for what no namespace encloses and no limit bounds."""

import errno
import platform
import socket
import struct

_NAMES = (
    *("add_key", "request_key", "keyctl"),  # the kernel's keys: a program would have those of the harness
    *("memfd_create", "memfd_secret", "shmget", "semget", "msgget"),  # memory outside the address space
    "io_uring_setup",  # makes sockets without the calls below
)
_ARCHITECTURES = {
    "x86_64": (0xC000003E, (248, 249, 250, 319, 447, 29, 64, 68, 425), (41, 53)),
    "aarch64": (0xC00000B7, (217, 218, 219, 279, 447, 194, 190, 186, 425), (198, 199)),
}
"""Machine -> its number in linux/audit.h, and the numbers of _NAMES and of `socket` and `socketpair`."""
_X32_CALLS = 0x4000_0000
"""First number of the calls of x86_64's other ABI, which would pass by the numbers above."""
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
"""Families of sockets that a network namespace encloses; `AF_VSOCK`, for one, has the machine's ports."""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in seccomp_data of linux/seccomp.h
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0000


def call_number(name: str) -> int:
    """Return the number of a refused system call on this machine, or -1, which no call has."""
    _, numbers, _ = _ARCHITECTURES.get(platform.machine(), (0, (), ()))
    return dict(zip(_NAMES, numbers, strict=False)).get(name, -1)


def call_filter() -> bytes:
    """Return the program of seccomp that refuses the calls; empty on a machine with other numbers.

    Calls of another architecture, such as those of 32 bits on x86_64, are refused altogether.
    """
    if platform.machine() not in _ARCHITECTURES:
        return b""
    architecture, numbers, socket_numbers = _ARCHITECTURES[platform.machine()]
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), _refuse(errno.ENOSYS)]
    steps.append((_LOAD, 0, 0, _NUMBER))
    steps += [(_AT_LEAST, 0, 1, _X32_CALLS), _refuse(errno.ENOSYS)]
    for number in numbers:
        steps += [(_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    for number in socket_numbers:
        steps += [(_EQUAL, 0, 3 + 2 * len(_FAMILIES) - 1, number), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
        for family in _FAMILIES:
            steps += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
        steps.append(_refuse(errno.EAFNOSUPPORT))
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _refuse(error: int) -> tuple[int, int, int, int]:
    """Return the step that ends a call with an error."""
    return _RETURN, 0, 0, _REFUSE | error
