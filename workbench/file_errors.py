"""What an error of the system or of a library says about a file or a disk."""

import errno

from workbench.errors import first_line

UNUSABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENXIO, errno.EINVAL, errno.ENOENT),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
)
"""What the system says of a file or folder that can't be used as it is, for the user to mend."""


def is_unusable(error: OSError) -> bool:
    """Whether an error is of a named file or folder that can't be used, or of a disk that fails."""
    return error.errno == errno.EIO or (error.filename is not None and error.errno in UNUSABLE)


def has_no_room(error: BaseException) -> bool:
    """Whether an error says that the disk, or the share of it that the user may have, is full."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    by_rust = any(f"(os error {number})" in str(error) for number in full)
    return by_rust or _is_torch_without_room(error) or (isinstance(error, OSError) and error.errno in full)


def _is_torch_without_room(error: BaseException) -> bool:
    """Whether `torch.save` could not write; it doesn't say why, and on a disk it is for want of room."""
    text = str(error)
    unwritten = ("unexpected pos", "PytorchStreamWriter failed writing")
    by_container = "inline_container.cc" in text and any(words in text for words in unwritten)
    return isinstance(error, RuntimeError) and (by_container or "iostream error" in text)


def reason_for_no_room(error: BaseException) -> str:
    """What to say of an error for which `has_no_room` is true, in a few words."""
    if _is_torch_without_room(error):
        return "no space left on device, or a limit on the size of files"
    return first_line(error)
