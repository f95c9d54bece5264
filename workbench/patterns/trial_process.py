"""Runs a child process under a limit on its processor time, which a busy machine doesn't shorten."""

import subprocess
from collections.abc import Sequence

from workbench.machine import processor_seconds

MOST_WAITED = 10
"""Limit on the elapsed time, as a multiple of the limit on processor time."""


def run_trial(command: Sequence[str], trial_input: str, max_seconds: float) -> tuple[str, bool]:
    """Run a command, and kill it if it doesn't end within a limit on its processor time.

    Args:
        command: Program and arguments.
        trial_input: Text for its standard input.
        max_seconds: Limit in elapsed seconds, the start of the program included. If the machine is so busy
            that the process has had less than half of them as processor time, they are granted again, at most
            MOST_WAITED times in all.

    Returns:
        The text on its standard output, and whether it ended by itself with exit status 0.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        pending: str | None = trial_input
        for _ in range(MOST_WAITED):
            try:
                output, _ = process.communicate(pending, timeout=max_seconds)
                return output, process.returncode == 0
            except subprocess.TimeoutExpired:
                pending = None  # the first call's input is still being written
            if processor_seconds(process.pid) >= max_seconds / 2:
                break
        process.kill()
        return process.communicate()[0], False
