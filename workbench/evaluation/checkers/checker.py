"""Checks the answers of a benchmark in several processes, and keeps the results while it is scored."""

import atexit
import json
import logging
import os
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.distributed import all_gather_dict, rank_and_world_size
from workbench.evaluation.checkers.line_worker import LineWorker
from workbench.progress import Progress

MOST_WORKERS = 8
"""Limit on the number of processes of a checker; there is at most one per processor."""
log = logging.getLogger("workbench")


class Checker:
    """Answers questions about generated texts by a script of this folder."""

    def __init__(self, name: str, script: str, environment: Mapping[str, str] | None = None) -> None:
        """Start no process yet.

        Args:
            name: Name of the checker, for messages.
            script: Name of the script in this folder.
            environment: Environment variables of the script, beside those of this process.
        """
        self.name = name
        self.script = Path(__file__).with_name(script)
        self.environment = dict(environment or {})
        self.max_seconds = 5.0
        """Limit on the processor seconds of one question."""
        self._results: dict[str, Any] = {}
        self._worker = LineWorker(self.script, self.environment, self.max_seconds)
        atexit.register(self._worker.close)

    def ask(self, question: object) -> Any:
        """Return the answer to a question, which `ask_ahead` may have asked; None: it took too long."""
        key = json.dumps(question)
        if key not in self._results:
            self._worker.max_seconds = self.max_seconds
            self._results[key] = self._worker.ask(question)
        return self._results[key]

    def ask_ahead(self, questions: Sequence[object]) -> None:
        """Ask the questions of a benchmark side by side, shared among the ranks; log how many took too long.

        Results of other questions are forgotten.
        """
        keys = list(dict.fromkeys(map(json.dumps, questions)))
        kept = {key: self._results[key] for key in keys if key in self._results}
        rank, world_size = rank_and_world_size()
        waiting = [key for key in keys if key not in kept]
        asked = self._asked(waiting[rank::world_size], self.name if rank == 0 else "")
        self._results = {**kept, **all_gather_dict(asked)}
        num_late = sum(self._results[key] is None for key in waiting)
        if num_late and rank == 0:
            log.warning(
                "%s: %d of %d answers took more than %g seconds to check, and count as wrong",
                self.name,
                num_late,
                len(keys),
                self.max_seconds,
            )

    def _asked(self, keys: Sequence[str], title: str) -> dict[str, Any]:
        """Return key -> answer of questions, asked by a process per processor."""
        results: dict[str, Any] = {}
        progress = Progress(title, len(keys), is_shown=bool(title))
        with self._workers(len(keys)) as workers, progress:

            def ask(key: str) -> Any:
                worker = workers.get()
                try:
                    return worker.ask(json.loads(key))
                finally:
                    workers.put(worker)

            with ThreadPoolExecutor(workers.qsize()) as pool:
                for key, result in zip(keys, pool.map(ask, keys), strict=True):
                    results[key] = result
                    progress.advance(1)
        return results

    @contextmanager
    def _workers(self, num_questions: int) -> Iterator["queue.Queue[LineWorker]"]:
        """Yield a queue of workers, a process per processor and question at most; end them afterwards."""
        workers: queue.Queue[LineWorker] = queue.Queue()
        for _ in range(max(1, min(MOST_WORKERS, os.cpu_count() or 1, num_questions))):
            workers.put(LineWorker(self.script, self.environment, self.max_seconds))
        try:
            yield workers
        finally:
            while not workers.empty():
                workers.get().close()
