"""Runs a script that answers questions line by line, and ends it where a question takes too long."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import DeviceError
from workbench.machine import processor_seconds

MOST_WAITED = 60.0
"""Limit on the elapsed seconds of one question, and of the start of a script."""
_POLL_SECONDS = 0.2


class LineWorker:
    """A process that answers questions; it starts with the first, and anew after one that took too long.

    The script writes a line when it is ready, and then one line of JSON for each line of JSON that it reads.
    """

    def __init__(self, script: Path, environment: Mapping[str, str], max_seconds: float) -> None:
        """Start no process yet.

        Args:
            script: Python file.
            environment: Environment variables beside those of this process.
            max_seconds: Limit on the processor seconds of one question.
        """
        self.script = script
        self.environment = environment
        self.max_seconds = max_seconds
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def ask(self, question: object) -> Any:
        """Return the answer to a question; None: it took too long, or ended the process.

        Raises:
            DeviceError: The process doesn't start.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            return None
        reply = self._reply(process, self.max_seconds)
        if reply is None:
            self.close()
        return None if reply is None else json.loads(reply)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None

    def _start(self) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-P", str(self.script)],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env={**os.environ, **self.environment},
        )
        self._process, self._lines = process, queue.Queue()
        threading.Thread(target=_read_lines, args=(process, self._lines), daemon=True).start()
        if self._reply(process, MOST_WAITED) is None:
            self.close()
            raise DeviceError(
                f"{self.script.stem}: the process that checks answers doesn't start (`pip check` may say why)"
            )
        return process

    def _reply(self, process: "subprocess.Popen[str]", max_seconds: float) -> str | None:
        """Return the next line; None if the process ends, or computes for longer than `max_seconds`."""
        before, deadline = processor_seconds(process.pid), time.monotonic() + MOST_WAITED
        while time.monotonic() < deadline and processor_seconds(process.pid) - before < max_seconds:
            try:
                return self._lines.get(timeout=_POLL_SECONDS) or None
            except queue.Empty:
                continue
        return None


def _read_lines(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    """Put each line of a process's output into a queue, and at its end the empty text."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    except ValueError:
        pass  # the stream was closed
    lines.put("")
