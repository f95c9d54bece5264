"""Builds the commands that run a program in the box: by util-linux as root or as a user, or by bubblewrap."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.evaluation.code_box.system_calls import call_filter

_SHOWN_PATHS = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
)
"""Paths that programs can read, where they exist: libraries and devices, nobody's files."""
_SCRIPT = Path(__file__).with_name("enclose.sh")
_SEARCHED = "/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_UID, _NUM_UIDS = 20_000, 40_000
"""User ids of programs; each program that runs gets another one, as far as there are enough."""


@dataclass(frozen=True)
class Limits:
    """What a program may take."""

    processor_seconds: int = 3
    """Processor time of each process."""
    seconds: float = 15.0
    """Elapsed time: longer, since the machine may be busy."""
    memory: int = 1 << 30
    """Bytes of address space of each process."""
    processes: int = 16
    """Processes and threads at a time."""
    file: int = 16 << 20
    """Bytes of each file."""


Command = Callable[[Path, int], list[str]]
"""Returns the command that runs a program, given the box's empty folder and a number of the program."""


@dataclass(frozen=True)
class Enclosure:
    """One way to enclose a program."""

    name: str
    command: Command


def enclosures(limits: Limits) -> list[Enclosure]:
    """Return the ways to enclose a program that may work on this machine, the preferred one first."""
    if not sys.platform.startswith("linux"):
        return []
    if os.geteuid() == 0:
        return [Enclosure("namespaces of root", _by_namespaces(limits, "root"))]
    by_user = Enclosure("a user namespace", _by_namespaces(limits, "user"))
    if shutil.which("bwrap") is None:
        return [by_user]
    return [Enclosure("bubblewrap", _by_bubblewrap(limits)), by_user]


def _by_namespaces(limits: Limits, owner: str) -> Command:
    """Return the command of util-linux's `unshare`, `mount`, `setpriv` and `prlimit`."""
    user = ["--user", "--map-root-user"] if owner == "user" else []
    namespaces = ["--net", "--pid", "--mount", "--ipc", "--uts", "--propagation", "private"]

    def command(root: Path, number: int) -> list[str]:
        uid = _FIRST_UID + number % _NUM_UIDS
        return [
            *_for_a_time(limits),
            *(tool("unshare"), *user, *namespaces, "--fork", "--kill-child"),
            *("/bin/sh", str(_SCRIPT), str(root), owner, str(uid), *shown_paths(), "--"),
            *_limited_interpreter(limits),
        ]

    return command


def _by_bubblewrap(limits: Limits) -> Command:
    """Return the command of bubblewrap."""

    def command(root: Path, number: int) -> list[str]:
        uid = str(_FIRST_UID + number % _NUM_UIDS)
        shown = []
        for path in shown_paths():
            if os.path.islink(path):
                shown += ["--symlink", os.readlink(path), path]
            else:
                shown += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
        return [
            *_for_a_time(limits),
            *(tool("choom"), "-n", "1000", "--", tool("bwrap"), "--unshare-all", "--unshare-user"),
            *("--uid", uid, "--gid", uid, "--cap-drop", "ALL", "--clearenv", "--new-session"),
            *("--die-with-parent", *shown),
            *("--perms", "1777", "--size", str(64 << 20), "--tmpfs", "/tmp"),
            *("--perms", "1777", "--size", str(64 << 20), "--tmpfs", "/dev/shm"),
            *("--remount-ro", "/", "--chdir", "/tmp", *_limited_interpreter(limits)),
        ]

    return command


def _for_a_time(limits: Limits) -> list[str]:
    """Return the words that end the next command when this process, which should, was killed before."""
    return [tool("timeout"), "--signal=KILL", str(limits.seconds + 5)]


def _limited_interpreter(limits: Limits) -> list[str]:
    """Return the command of the interpreter with its limits, seeded hashes, and nothing else around it."""
    return [
        *(tool("prlimit"), f"--cpu={limits.processor_seconds}:{limits.processor_seconds + 1}"),
        *(f"--as={limits.memory}", f"--nproc={limits.processes}", f"--fsize={limits.file}"),
        *("--nofile=64", "--core=0", "--"),
        *(tool("env"), "-i", "PYTHONHASHSEED=0", interpreter(), "-s", "-S", "-P", "-B", "-X", "utf8", "-c"),
        Path(__file__).with_name("run_program.py").read_text(encoding="utf-8"),
        call_filter().hex(),
    ]


def interpreter() -> str:
    """Return the path of the interpreter without links, out of a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def shown_paths() -> list[str]:
    """Return the paths that programs can read: the system's libraries, and the interpreter with its own.

    Of the folder in which the interpreter is installed only the libraries are shown, and none but Python's if
    that folder is the user's home.
    """
    prefix = os.path.realpath(sys.base_prefix)
    own = [sysconfig.get_path("stdlib"), str(Path(prefix) / "lib" / sysconfig.get_config_var("INSTSONAME"))]
    if prefix != os.path.realpath(os.path.expanduser("~")):
        own = [*(str(Path(prefix) / name) for name in ("lib", "lib64")), *own]
    own = [os.path.realpath(path) for path in (*own, interpreter()) if os.path.lexists(path)]
    shown = [path for path in _SHOWN_PATHS if os.path.lexists(path)]
    for path in own:
        if not any(Path(path).is_relative_to(os.path.realpath(parent)) for parent in shown):
            shown.append(path)
    return shown


def tool(name: str) -> str:
    """Return the path of a program of the system, also where PATH lacks the folders for root."""
    return shutil.which(name) or shutil.which(name, path=_SEARCHED) or name
