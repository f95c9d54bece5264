"""What libraries leave outside a run's folder is cleared away when the process ends."""

import atexit
import getpass
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path


def compiler_cache() -> Path:
    """The folder for compiled kernels that torch makes on import, though nothing is compiled.

    Source: torch 2.13, torch/_inductor/runtime/cache_dir_utils.py, `default_cache_dir`.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = f"uid_{os.getuid()}"
    name = re.sub(r'[\\/:*?"<>|]', "_", user)
    return Path(tempfile.gettempdir()) / f"torchinductor_{name}"


def leave_no_compiler_cache() -> None:
    """Delete that folder at the end of the process, unless it was there before or something lies in it."""
    folder = compiler_cache()
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and not folder.exists():
        atexit.register(remove_if_empty, folder)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder in which nothing lies."""
    with suppress(OSError):
        folder.rmdir()
