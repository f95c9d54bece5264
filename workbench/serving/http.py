"""A connection of HTTP/1.1: requests within limits, answers, and server-sent events."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import h11

from workbench.config.serving.serve import ServeConfig
from workbench.serving.refusal import Refusal

MOST_HEADER_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
LINGER_SECONDS = 2
"""How long the rest of a refused request is read, so that its sender sees the answer before the end."""

_LINE_ENDS = "\x85\u2028\u2029"
"""Characters that end a line for Unicode, and not for JSON."""

Headers = Sequence[tuple[bytes, bytes]]


class Connection:
    """A client's connection, whose requests are answered one after the other.

    Of each request, `head` is read, then `body` or `no_body`; then `answer` is sent, or `start_events`,
    `event` and `end_events`. Methods that send raise ConnectionError if the client is gone or takes nothing
    in time.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: ServeConfig
    ) -> None:
        """Wrap the streams of an accepted connection; `close` closes them."""
        self._reader, self._writer, self._limits = reader, writer, limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)
        self._has_bytes = False
        self._without_body = False
        self.waiting_since = time.monotonic()
        """When the server began to wait for the present request."""
        self.is_answered = False
        """Whether a whole request has arrived, and its answer is computed or sent."""

    async def head(self) -> h11.Request | None:
        """Return the next request's method, target and headers; None if the client has no more.

        Raises:
            Refusal: The request is malformed, or its headers are too large.
        """
        self._has_bytes = bool(self._http.trailing_data[0])
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        self._without_body = event.method == b"HEAD"
        # h11's limit is for headers that haven't arrived as a whole.
        if (
            sum(len(name) + len(value) for name, value in event.headers) + len(event.target)
            > MOST_HEADER_BYTES
        ):
            raise Refusal(431, f"the headers have more than {MOST_HEADER_BYTES:,} bytes")
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            # A proxy in front that goes by the other header would see another end of the request.
            raise Refusal(400, "Content-Length and Transfer-Encoding: both in one request")
        return event

    async def body(self, head: h11.Request) -> bytes:
        """Return the body of the request whose `head` was read.

        Raises:
            Refusal: The body is too large, its Content-Type is not application/json, or it is encoded.
            ConnectionError: The client is gone before all of it has arrived.
        """
        fields = dict(head.headers)
        kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Refusal(415, "Content-Type: not application/json")
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refusal(415, "Content-Encoding: not supported (send the JSON as it is)")
        if int(fields.get(b"content-length", b"0")) > self._limits.max_body_bytes:
            raise self._too_large()
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        body = bytearray()
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.max_body_bytes:
                    raise self._too_large()
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                raise ConnectionError

    async def no_body(self) -> None:
        """Read the end of a request that must have no body.

        Raises:
            Refusal: The request has a body.
        """
        if not isinstance(await self._event(), h11.EndOfMessage):
            raise Refusal(400, "a body, where none is expected")

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body has more than {self._limits.max_body_bytes:,} bytes")

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(READ_BYTES)
                self._has_bytes = self._has_bytes or bool(data)
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Refusal(
                error.error_status_hint, "not a request of HTTP/1.1, or its headers are too large"
            ) from None
        return event

    def receiving(self) -> asyncio.Timeout:
        """Return an async context that raises TimeoutError unless it ends within `receive_seconds`."""
        return asyncio.timeout(self._limits.receive_seconds)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a next request has arrived."""
        return not self._has_bytes

    async def gone(self) -> None:
        """Return when the client has closed the connection, or its half of it.

        What the client sends meanwhile is kept for its next request; if that is more than MOST_HEADER_BYTES,
        the client is taken for gone.
        """
        with suppress(ConnectionError):
            while len(self._http.trailing_data[0]) <= MOST_HEADER_BYTES:
                data = await self._reader.read(MOST_HEADER_BYTES)
                if not data:
                    return
                self._http.receive_data(data)

    async def answer(self, status: int, value: Any, headers: Headers = ()) -> None:
        """Send a JSON value as the answer to the present request; to HEAD, only its headers.

        Args:
            status: HTTP status.
            value: The JSON value.
            headers: Headers besides those for type, length and connection.
        """
        body = json_bytes(value)
        own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if self._http.their_state is not h11.DONE:
            own.append((b"connection", b"close"))
        data = [] if self._without_body else [h11.Data(data=body)]
        await self._send(_response(status, [*own, *headers]), *data, h11.EndOfMessage())

    async def start_events(self) -> None:
        """Begin an answer of server-sent events."""
        await self._send(_response(200, [(b"content-type", b"text/event-stream; charset=utf-8")]))

    async def event(self, data: bytes) -> None:
        """Send one server-sent event with `data`, which must not contain a line end."""
        await self._send(h11.Data(data=b"data: " + data + b"\n\n"))

    async def end_events(self) -> None:
        """End an answer of server-sent events."""
        await self._send(h11.EndOfMessage())

    async def _send(self, *events: Any) -> None:
        """Send parts of an answer.

        Raises:
            ConnectionError: The client is gone, or doesn't take the answer in time.
        """
        try:
            self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
            async with asyncio.timeout(self._limits.receive_seconds):
                await self._writer.drain()
        except TimeoutError as error:
            self._writer.transport.abort()
            raise ConnectionAbortedError from error

    @property
    def can_answer(self) -> bool:
        """Whether no answer to the present request has begun."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def next_request(self) -> bool:
        """Get ready for the connection's next request; return False if there can't be one."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.waiting_since, self.is_answered = time.monotonic(), False
            return True
        return False

    async def close(self) -> None:
        """Close the connection, after reading and dropping what the client still sends for LINGER_SECONDS."""
        with suppress(OSError, TimeoutError):
            if self._http.their_state is not h11.DONE and not self._reader.at_eof():
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                async with asyncio.timeout(LINGER_SECONDS):
                    while await self._reader.read(READ_BYTES):
                        pass
        with suppress(OSError, TimeoutError):
            self._writer.close()
            async with asyncio.timeout(self._limits.receive_seconds):
                await self._writer.wait_closed()
        self._writer.transport.abort()  # if the client doesn't take the rest of its answer


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON in one line of UTF-8.

    Escaped are characters that some clients take for a line end, and halves of surrogate pairs, which a
    client's field name can have.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for end in _LINE_ENDS:
        text = text.replace(end, f"\\u{ord(end):04x}")
    return text.encode("utf-8", "backslashreplace")


def _response(status: int, headers: Headers) -> h11.Response:
    common = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    reason = HTTPStatus(status).phrase.encode()
    return h11.Response(status_code=status, reason=reason, headers=[*headers, *common])
