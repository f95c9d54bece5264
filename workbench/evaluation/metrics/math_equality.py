"""Scores mathematical answers by math_verify, within a limit on the time of each item."""

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from workbench.distributed import all_gather_dict, rank_and_world_size
from workbench.errors import DeviceError
from workbench.evaluation.extraction.cleaning import without_thoughts
from workbench.evaluation.metrics.metric import Judged
from workbench.evaluation.records import Answer, Example
from workbench.progress import Progress

MAX_SECONDS = 5.0
"""Limit on the processor seconds of one comparison; an answer that takes longer counts as wrong."""
MOST_WAITED = 60.0
"""Limit on the elapsed seconds of one comparison, and of the start of a process."""
MOST_WORKERS = 8
"""Limit on the number of processes that compare; each takes about 100 MB."""
_POLL_SECONDS = 0.2
_WORKER = Path(__file__).with_name("math_worker.py")
log = logging.getLogger("workbench")

Question = tuple[str, tuple[str, ...]]
"""Generated text, and the right answers."""
_equal: dict[Question, bool] = {}
"""Question -> whether the text states a right answer, of the benchmark that is scored."""


class MathWorker:
    """A process that compares answers; it is started anew after a comparison that took too long."""

    def __init__(self) -> None:
        """Start no process yet."""
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def compare(self, question: Question) -> bool | None:
        """Return whether a text states a right answer; None: the comparison took too long.

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
        reply = self._reply(process, MAX_SECONDS)
        if reply is None:
            self.close()
        return None if reply is None else bool(json.loads(reply))

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
        command = [sys.executable, "-P", str(_WORKER)]
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        self._process, self._lines = process, queue.Queue()
        threading.Thread(target=_read_lines, args=(process, self._lines), daemon=True).start()
        if self._reply(process, MOST_WAITED) is None:
            self.close()
            raise DeviceError(
                "math_verify: the process that compares doesn't start (`pip check` may say why)"
            )
        return process

    def _reply(self, process: "subprocess.Popen[str]", max_seconds: float) -> str | None:
        """Return the next line; None if the process ends, or computes for longer than `max_seconds`."""
        before, deadline = _processor_seconds(process.pid), time.monotonic() + MOST_WAITED
        while time.monotonic() < deadline and _processor_seconds(process.pid) - before < max_seconds:
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


def _processor_seconds(pid: int) -> float:
    """Return the processor time of a process in seconds; 0 if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def states_target(prediction: int | str | None, answer: Answer, example: Example) -> float:
    """Return 1.0 if the value of the answer that the generated text states is that of a target, else 0.0.

    The answer is what the benchmark's `extract` rule took from the text. If the rule takes the whole text, or
    found nothing, it is what math_verify finds after the last thought: a box, a formula, or the last number.
    """
    question = _question(answer, example)
    if question not in _equal:
        _equal.update(_compared([question], "")[0])
    return float(_equal[question])


def compare_ahead(judged: Sequence[Judged]) -> None:
    """Compare the answers of all items side by side, shared among the ranks; log how many took too long."""
    questions = list(dict.fromkeys(_question(item.answer, item.example) for item in judged))
    rank, world_size = rank_and_world_size()
    equal, num_late = _compared(questions[rank::world_size], "math_verify" if rank == 0 else "")
    gathered = all_gather_dict({json.dumps(question): value for question, value in equal.items()})
    _equal.clear()
    _equal.update({question: gathered[json.dumps(question)] for question in questions})
    if num_late:
        log.warning(
            "math_verify: %d of %d answers took more than %g seconds to compare, and count as wrong",
            num_late,
            len(equal),
            MAX_SECONDS,
        )


def _compared(questions: Sequence[Question], title: str) -> tuple[dict[Question, bool], int]:
    """Return question -> whether it is right, and the number of comparisons that took too long."""
    results: dict[Question, bool | None] = {}
    progress = Progress(title, len(questions), is_shown=bool(title))
    with _workers(len(questions)) as workers, progress:

        def compare(question: Question) -> bool | None:
            worker = workers.get()
            try:
                return worker.compare(question)
            finally:
                workers.put(worker)

        with ThreadPoolExecutor(max(1, workers.qsize())) as pool:
            for question, result in zip(questions, pool.map(compare, questions), strict=True):
                results[question] = result
                progress.advance(1)
    return {q: bool(result) for q, result in results.items()}, list(results.values()).count(None)


@contextmanager
def _workers(num_questions: int) -> Iterator["queue.Queue[MathWorker]"]:
    """Yield a queue of workers, one per processor but no more than there are questions; end them after."""
    count = max(1, min(MOST_WORKERS, os.cpu_count() or 1, num_questions))
    workers: queue.Queue[MathWorker] = queue.Queue()
    for _ in range(count):
        workers.put(MathWorker())
    try:
        yield workers
    finally:
        while not workers.empty():
            workers.get().close()


def _question(answer: Answer, example: Example) -> Question:
    text, extracted = answer.generation or "", answer.extracted
    has_found_answer = extracted is not None and extracted != text.strip()
    return (f"${extracted}$" if has_found_answer else without_thoughts(text)), example.reference_texts
