"""Sends the answers to a request: as one JSON object, or as server-sent events while they grow."""

import asyncio
from collections.abc import Callable

from workbench.serving.answering import Answers
from workbench.serving.http import Connection, json_bytes
from workbench.serving.refusal import Refusal
from workbench.serving.requests import Request
from workbench.serving.responses import chunk_fields, envelope
from workbench.serving.worker import Event, Job, Worker

END = b"[DONE]"
"""Data of the last event of a stream."""


async def send_answers(
    connection: Connection, worker: Worker, request: Request, seconds: float, on_status: Callable[[int], None]
) -> None:
    """Submit a request to the worker and send its answers; if the client is gone, the computation is stopped.

    An error after a stream has begun, such as the end of the time, is sent as the stream's last event.

    Args:
        connection: The client's connection.
        worker: The worker that computes the answers.
        request: The request.
        seconds: Time limit, from now until the last event.
        on_status: Called with the HTTP status when an answer begins.

    Raises:
        Refusal: The request isn't answered, and nothing was sent; the caller sends the refusal.
        ConnectionError: The client is gone.
    """
    job = worker.submit(request)
    gone = asyncio.create_task(connection.gone())
    send = _send_stream if request.stream else _send_whole
    try:
        async with asyncio.timeout(seconds):
            await send(connection, _Events(job, gone), request, on_status)
    except TimeoutError:
        late = Refusal(504, f"not answered within {seconds:,} seconds (serve.max_seconds)", code="timeout")
        if connection.can_answer:
            raise late from None
        await connection.event(json_bytes(late.body()))
        await connection.end_events()
    finally:
        worker.give_up(job)
        gone.cancel()
        await asyncio.wait((gone,))  # until then the next request can't be read


class _Events:
    """The events of a job, for as long as the client is there."""

    def __init__(self, job: Job, gone: asyncio.Task[None]) -> None:
        self._job, self._gone = job, gone

    async def next(self) -> Event:
        """Return the next event.

        Raises:
            ConnectionError: The client is gone.
        """
        event = asyncio.create_task(self._job.events.get())
        try:
            await asyncio.wait((event, self._gone), return_when=asyncio.FIRST_COMPLETED)
            if not event.done():
                raise ConnectionAbortedError
            return event.result()
        finally:
            event.cancel()


async def _send_whole(
    connection: Connection, events: _Events, request: Request, on_status: Callable[[int], None]
) -> None:
    event = await events.next()
    if isinstance(event, Refusal):
        raise event
    assert isinstance(event, Answers)
    on_status(200)
    choices = {"choices": event.choices, "usage": event.usage.fields()}
    await connection.answer(200, envelope(request) | choices)


async def _send_stream(
    connection: Connection, events: _Events, request: Request, on_status: Callable[[int], None]
) -> None:
    """Send chunks as they come, then the numbers of tokens if asked for, and the end mark.

    An error before the first chunk is raised; a later one is an event, and there is no end mark.
    """
    common, has_begun, roles = envelope(request), False, set()
    usage = {"usage": None} if request.include_usage else {}
    while True:
        event = await events.next()
        if isinstance(event, Refusal) and not has_begun:
            raise event
        if not has_begun:
            has_begun = True
            on_status(200)
            await connection.start_events()
        if isinstance(event, Refusal):
            await connection.event(json_bytes(event.body()))
            return await connection.end_events()
        if isinstance(event, Answers):
            if request.include_usage:
                last = {"choices": [], "usage": event.usage.fields()}
                await connection.event(json_bytes(common | last))
            await connection.event(END)
            return await connection.end_events()
        chunk = chunk_fields(request, event.index, event.text, event.finish_reason)
        if request.is_chat and event.index not in roles:
            roles.add(event.index)
            chunk["delta"] = {"role": "assistant", **chunk["delta"]}
        await connection.event(json_bytes({**common, "choices": [chunk], **usage}))
