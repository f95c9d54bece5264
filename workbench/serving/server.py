"""The server: routes, connections, start and stop."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote

import h11

from workbench.config.serving.serve import ServeConfig
from workbench.serving.access import Access
from workbench.serving.http import Connection, Headers
from workbench.serving.refusal import Refusal, failure
from workbench.serving.requests import Request, chat_request, completion_request
from workbench.serving.responses import model_fields, model_list
from workbench.serving.streams import send_answers
from workbench.serving.worker import Worker

log = logging.getLogger("workbench")

HEALTH, MODELS, COMPLETIONS, CHAT = "/health", "/v1/models", "/v1/completions", "/v1/chat/completions"
READ = {COMPLETIONS: completion_request, CHAT: chat_request}
"""Route -> function that reads the body of its requests."""
SPARE_CONNECTIONS = 64
"""Connections besides those whose requests may wait."""
STOP_SECONDS = 2
"""How long clients may still read their last answers when the server stops."""


class Server:
    """HTTP server that answers requests to models until it is stopped."""

    def __init__(self, worker: Worker, lengths: dict[str, int], config: ServeConfig, access: Access) -> None:
        """Create a server, which doesn't listen yet.

        Args:
            worker: The worker that computes answers.
            lengths: Name of each model -> tokens of its context.
            config: Address and limits.
            access: Checks of API key, Host and Origin.
        """
        self._worker, self._lengths, self._config, self._access = worker, lengths, config, access
        self._created = int(time.time())
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def run(self, stopped: asyncio.Event, on_listening: Callable[[int], None]) -> None:
        """Listen and answer until `stopped` is set; then refuse unfinished requests and close connections.

        Starts the worker's thread, and returns when that has ended.

        Args:
            stopped: The event that ends the server.
            on_listening: Called with the port once clients can connect.

        Raises:
            OSError: The address can't be listened at.
        """
        listening = await asyncio.start_server(self._accept, self._config.host, self._config.port)
        self._worker.start()
        try:
            on_listening(int(listening.sockets[0].getsockname()[1]))
            await stopped.wait()
        finally:
            listening.close()
            self._worker.stop()
            for task, connection in self._connections.items():
                if connection.is_idle:
                    task.cancel()
            if self._connections:
                await asyncio.wait(self._connections, timeout=STOP_SECONDS)
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await asyncio.to_thread(self._worker.join)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (
            len(self._connections) >= self._config.max_waiting + SPARE_CONNECTIONS
            and not self._drop_waiting()
        ):
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = Connection(reader, writer, self._config)
        try:
            with suppress(ConnectionError):
                while await self._serve_one(connection):
                    pass
            await connection.close()
        except asyncio.CancelledError:
            # The server stops, or another client gets the place; asyncio's streams would print the error.
            writer.transport.abort()
        finally:
            self._connections.pop(task, None)
            writer.close()

    def _drop_waiting(self) -> bool:
        """Drop the connection that has kept its place for the longest time without a whole request.

        So silent and slow clients lock nobody out, however many they are. Return whether there was one.
        """
        waiting = [task for task, connection in self._connections.items() if not connection.is_answered]
        if not waiting:
            return False
        longest = min(waiting, key=lambda task: self._connections[task].waiting_since)
        del self._connections[longest]
        longest.cancel()
        return True

    async def _serve_one(self, connection: Connection) -> bool:
        """Answer the connection's next request; return whether it can have another one."""
        exchange = _Exchange(connection)
        try:
            request = await self._received(exchange)
            if exchange.route is None:
                return False
            if request is not None:
                exchange.model = request.model
                await send_answers(
                    connection, self._worker, request, self._config.max_seconds, exchange.has_status
                )
        except ConnectionError:
            raise
        except Exception as error:
            refusal = error if isinstance(error, Refusal) else failure(error)
            if not connection.can_answer:
                return False
            await exchange.refuse(refusal)
        finally:
            exchange.write_log()
        return connection.next_request()

    async def _received(self, exchange: "_Exchange") -> Request | None:
        """Receive a request; answer it if it needs no model, else return it.

        Raises:
            Refusal: It is refused, or has not arrived in time.
        """
        connection = exchange.connection
        try:
            async with connection.receiving():
                head = await connection.head()
                if head is None:
                    return None
                exchange.begin(head)
                self._check(head, exchange.route or "")
                if exchange.route in READ:
                    request = READ[exchange.route](await connection.body(head), self._config)
                    if request.model not in self._lengths:
                        raise self._unknown_model(request.model)
                    connection.is_answered = True
                    return request
                await connection.no_body()
        except TimeoutError:
            if connection.is_idle:
                raise ConnectionAbortedError from None
            raise Refusal(408, "the request did not arrive in time (serve.receive_seconds)") from None
        await self._answer_about_models(exchange)
        return None

    def _check(self, head: h11.Request, route: str) -> None:
        """Check route, method, names and key of a request, before its body is read."""
        self._access.check_names(list(head.headers))
        if route != HEALTH:
            self._access.check_key(list(head.headers))
        is_known = route in (HEALTH, MODELS, *READ) or route.startswith(f"{MODELS}/")
        if not is_known:
            raise Refusal(404, f"no such path (there are {HEALTH}, {MODELS}, {', '.join(READ)})")
        allowed = b"POST" if route in READ else b"GET"
        if head.method != allowed:
            raise Refusal(405, f"the method is not {allowed.decode()}")

    async def _answer_about_models(self, exchange: "_Exchange") -> None:
        route = exchange.route or ""
        if route == HEALTH:
            await exchange.answer(200, {"status": "ok"})
        elif route == MODELS:
            await exchange.answer(200, model_list(list(self._lengths), self._created, self._lengths))
        else:
            name = unquote(route.removeprefix(f"{MODELS}/"))
            if name not in self._lengths:
                raise self._unknown_model(name)
            await exchange.answer(200, model_fields(name, self._created, self._lengths[name]))

    def _unknown_model(self, name: str) -> Refusal:
        known = ", ".join(self._lengths)
        return Refusal(404, f"model: no {name[:80]!r} (there are {known})", "model", "model_not_found")


class _Exchange:
    """A request and its answer, for the log, in which nothing that the client wrote appears."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.route: str | None = None
        self.model = ""
        self._status, self._started = 0, 0.0

    def begin(self, head: h11.Request) -> None:
        """Note the path and the time."""
        self.route = head.target.partition(b"?")[0].decode("latin-1")
        self._started = time.monotonic()

    def has_status(self, status: int) -> None:
        """Note the status of the answer."""
        self._status = status

    async def answer(self, status: int, value: object, headers: Headers = ()) -> None:
        """Send a JSON value as the answer."""
        self.has_status(status)
        await self.connection.answer(status, value, headers)

    async def refuse(self, refusal: Refusal) -> None:
        """Send an error as the answer."""
        retry = [(b"retry-after", b"1")] if refusal.status == 503 else []
        scheme = [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
        await self.answer(refusal.status, refusal.body(), [*retry, *scheme])

    def write_log(self) -> None:
        """Log route, model, status and duration."""
        if self.route is None and not self._status:
            return
        route = self.route if self.route in (HEALTH, MODELS, *READ) else "(another path)"
        seconds = time.monotonic() - self._started if self._started else 0
        log.info(
            "serve: %s %s %s, %.2f s", route, self.model, self._status or "given up by the client", seconds
        )
