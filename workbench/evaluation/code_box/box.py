"""Runs programs in the box, each by itself, and reads how they ended."""

import fcntl
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from workbench.evaluation.code_box.commands import Enclosure, Limits

MOST_OUTPUT = 64 << 10
"""Bytes of a box's output that are read; the rest is thrown away."""
MOST_WORKERS = 16
"""Limit on the number of programs that run at a time; there is at most one per processor."""
_PREFIX = "workbench-box-"
_LEFTOVER_SECONDS = 3600.0
"""Age of an unlocked folder that a killed process left; a new one may not be locked yet."""
MOST_OF_NAME = 80
"""Characters of an exception's name that are shown."""
_ENDING_SECONDS = 10.0
"""Longest wait for the processes of a box that was ended."""


@dataclass(frozen=True)
class Verdict:
    """How a program ended."""

    passed: bool
    """Whether it ran to its end."""
    reason: str = ""
    """Why it did not: the name of the exception, or `time limit`, `processor time` or `no result`."""
    output: str = ""
    """What the box wrote where the program gave no result, such as the reason why a box can't be made."""


class Box:
    """Runs programs in one way of enclosing them; a context manager that removes its folder."""

    def __init__(self, enclosure: Enclosure, limits: Limits) -> None:
        """Make the folder on which each box puts its root; nothing is written to the folder itself.

        Args:
            enclosure: way of enclosing programs.
            limits: limit on the elapsed time; the enclosure has the other limits.
        """
        self.enclosure = enclosure
        self.limits = limits
        _remove_leftovers()
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name).resolve()
        self._lock: int | None = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder.chmod(0o755)  # the box protects the files in it, not their permissions
        self.root = self.folder / "root"
        self.root.mkdir()
        self._numbers = count(os.getpid() * MOST_WORKERS)

    def __enter__(self) -> "Box":
        """Return the box."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder."""
        self.close()

    def close(self) -> None:
        """Remove the folder, and unlock it."""
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def run_all(
        self, programs: Sequence[str], advance: Callable[[int], None] = lambda _: None
    ) -> list[Verdict]:
        """Run programs side by side, and return their verdicts in order; call `advance(1)` after each."""
        workers = max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0)), len(programs)))
        verdicts = []
        with ThreadPoolExecutor(workers) as pool:
            for verdict in pool.map(self.run, programs):
                verdicts.append(verdict)
                advance(1)
        return verdicts

    def run(self, program: str) -> Verdict:
        """Run a program, and return how it ended; all processes that it started have ended, too."""
        token = secrets.token_hex(16).encode()
        number = next(self._numbers)
        source = self.folder / f"{number}.py"
        source.write_bytes(token + b"\n" + program.encode("utf-8", "surrogatepass"))
        try:
            with source.open("rb") as program_input:
                return _verdict(self._command(number), program_input.fileno(), self.limits.seconds, token)
        finally:
            source.unlink()

    def _command(self, number: int) -> list[str]:
        return self.enclosure.command(self.root, number)


def _verdict(command: list[str], program_input: int, seconds: float, token: bytes) -> Verdict:
    """Run a command, end it after `seconds`, and read the verdict from its output."""
    with subprocess.Popen(
        command,
        stdin=program_input,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={},
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            output, ended = _output(process, time.monotonic() + seconds)
            if ended:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                _output(process, time.monotonic() + _ENDING_SECONDS)  # until no process is left that writes
        status = process.wait()
    for line in output.split(b"\n"):
        start, _, ending = line.partition(b" ")
        if start == token and ending == b"passed":
            return Verdict(True)
        if start == token and ending.startswith(b"failed "):
            return Verdict(False, _exception_name(ending.removeprefix(b"failed ")))
    if not ended:
        return Verdict(False, "time limit")
    if status == 128 + signal.SIGXCPU:
        return Verdict(False, "processor time")
    return Verdict(False, "no result", output.decode("utf-8", "replace").strip())


def _remove_leftovers() -> None:
    """Remove the folders of this user's boxes whose process was killed, and which nobody has locked since."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                status = os.fstat(descriptor)
                if status.st_uid == os.geteuid() and status.st_mtime < time.time() - _LEFTOVER_SECONDS:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _exception_name(name: bytes) -> str:
    """Return the name that a program gave to an exception, as far as it can be shown in a line."""
    text = name.decode("utf-8", "replace")
    return "".join(filter(str.isprintable, text)).strip()[:MOST_OF_NAME] or "an exception without a name"


def _output(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[bytes, bool]:
    """Read the first MOST_OUTPUT bytes of a process's output, and discard the rest.

    Returns:
        The bytes, and whether the output ended before the deadline.
    """
    assert process.stdout is not None
    output, descriptor = b"", process.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor)
    while (remaining := deadline - time.monotonic()) > 0:
        if not poll.poll(1000 * remaining):
            break
        chunk = os.read(descriptor, MOST_OUTPUT)
        if not chunk:
            return output, True
        output += chunk[: MOST_OUTPUT - len(output)]
    return output, False
