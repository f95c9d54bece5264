"""Recognizes errors about unusable files and full disks."""

import errno

from workbench.errors import first_line

UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENXIO, errno.EINVAL, errno.ENOENT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
)
"""Error numbers (errno) that mean that the user must fix a file or folder."""


def is_unusable(error: OSError) -> bool:
    """Return whether an error is about a named file or folder that can't be used, or a failing disk."""
    return error.errno == errno.EIO or (error.filename is not None and error.errno in UNUSABLE)


def has_no_room(error: BaseException) -> bool:
    """Return whether an error of Python, Rust or torch says that the disk, or a limit on files, is full."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    is_from_rust = any(f"(os error {number})" in str(error) for number in numbers)
    is_from_system = isinstance(error, OSError) and error.errno in numbers
    return is_from_rust or is_from_system or _is_torch_without_room(error)


def _is_torch_without_room(error: BaseException) -> bool:
    """Return whether `torch.save` failed to write; it gives no reason, but usually the disk is full."""
    text = str(error)
    reasons = ("unexpected pos", "PytorchStreamWriter failed writing")
    is_from_container = "inline_container.cc" in text and any(reason in text for reason in reasons)
    return isinstance(error, RuntimeError) and (is_from_container or "iostream error" in text)


def reason_for_no_room(error: BaseException) -> str:
    """Return why a file could not be written, as text, for an error of which `has_no_room` is true."""
    if _is_torch_without_room(error):
        return "no space left on device, or a limit on file sizes"
    return first_line(error)
