"""Deletes at exit what libraries leave outside the run folder."""

import atexit
import getpass
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path


def compiler_cache() -> Path:
    """Return the folder for compiled kernels, which torch creates on import.

    Source: torch 2.13, torch/_inductor/runtime/cache_dir_utils.py, `default_cache_dir`.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = f"uid_{os.getuid()}"
    name = re.sub(r'[\\/:*?"<>|]', "_", user)
    return Path(tempfile.gettempdir()) / f"torchinductor_{name}"


def leave_no_compiler_cache() -> None:
    """At exit, delete torch's folder for compiled kernels if this process created it and it is empty."""
    folder = compiler_cache()
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and not folder.exists():
        atexit.register(remove_if_empty, folder)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder if it is empty; any other folder stays, and a missing one is no error."""
    with suppress(OSError):
        folder.rmdir()
