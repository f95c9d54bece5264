"""Runs the thread that computes answers, and the queue of requests that wait for it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from workbench.errors import DataError, WorkbenchError
from workbench.serving.answering import Answers, Work
from workbench.serving.refusal import Refusal, failure
from workbench.serving.requests import Request

LAST_PASS_SECONDS = 30
"""Longest wait, when the server stops, for the end of a forward pass."""


@dataclass(frozen=True)
class Chunk:
    """The next characters of a streamed answer, or with a finish reason the answer's end."""

    index: int
    """Number of the answer in the request, from 0."""
    text: str
    finish_reason: str | None = None
    """stop or length, with an empty text; None: the answer goes on."""


Event = Chunk | Answers | Refusal
"""What a job emits: chunks in a stream, and as its last event all answers or an error."""


class _GivenUpError(Exception):
    """The job was given up."""


class Job:
    """A request that waits for the worker or is computed.

    Attributes:
        request: The request.
        events: Queue in the event loop, from which the job's events are read.
        given_up: Set when nobody waits for the answers anymore.
    """

    def __init__(self, request: Request) -> None:
        """Create a job whose events are read in the running event loop."""
        self.request = request
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.given_up = threading.Event()
        self._loop = asyncio.get_running_loop()

    def emit(self, event: Event) -> None:
        """Put an event into `events`; may be called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody waits anymore
            self.given_up.set()

    def work(self) -> Work:
        """Return the request with callbacks that emit this job's chunks, and end it once it is given up."""
        return Work(
            self.request,
            self._check,
            on_text=lambda index, text: self.emit(Chunk(index, text)),
            on_end=lambda index, reason: self.emit(Chunk(index, "", reason)),
        )

    def _check(self) -> None:
        if self.given_up.is_set():
            raise _GivenUpError


class Worker:
    """Computes jobs one after the other in a thread of its own, in the order in which they came."""

    def __init__(
        self,
        answer: Callable[[Work], Answers],
        most_waiting: int,
        context: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Create a worker.

        Args:
            answer: Function that computes the answers to a request.
            most_waiting: Number of jobs that may wait while another one is computed.
            context: Returns a context manager, within which the thread computes all answers.
        """
        self._answer, self._most_waiting, self._context = answer, most_waiting, context
        self._jobs: deque[Job] = deque()
        self._current: Job | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    def start(self) -> None:
        """Start the thread; called once."""
        self._thread.start()

    def submit(self, request: Request) -> Job:
        """Add a request to the end of the queue, and return its job.

        Raises:
            Refusal: Too many requests wait, or the server stops.
        """
        with self._changed:
            if self._stopping:
                raise Refusal(503, "the server stops")
            if len(self._jobs) >= self._most_waiting:
                raise Refusal(
                    503, f"{len(self._jobs):,} requests wait already (try again later)", code="busy"
                )
            job = Job(request)
            self._jobs.append(job)
            self._changed.notify()
        return job

    def give_up(self, job: Job) -> None:
        """Remove a job from the queue, or if it is being computed, stop it before its next token."""
        job.given_up.set()
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)

    def stop(self) -> None:
        """Refuse all jobs with status 503, and tell the thread to end after its present forward pass."""
        with self._changed:
            self._stopping = True
            jobs = [*self._jobs, *([self._current] if self._current else [])]
            self._jobs.clear()
            self._changed.notify()
        for job in jobs:
            job.given_up.set()
            job.emit(Refusal(503, "the server stops"))

    def join(self) -> None:
        """Wait until the thread has ended, at most `LAST_PASS_SECONDS`."""
        self._thread.join(LAST_PASS_SECONDS)

    def _run(self) -> None:
        with self._context():
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._jobs or self._stopping)
                    if self._stopping:
                        return
                    job = self._current = self._jobs.popleft()
                try:
                    job.emit(self._result(job))
                except _GivenUpError:
                    pass
                finally:
                    with self._changed:
                        self._current = None

    def _result(self, job: Job) -> Event:
        """Return a job's answers, or the error for its client; one request's error doesn't end the server."""
        try:
            return self._answer(job.work())
        except Refusal as refusal:
            return refusal
        except _GivenUpError:
            raise
        except WorkbenchError as error:
            return Refusal(400 if isinstance(error, DataError) else 500, str(error))
        except Exception as error:
            return failure(error)
