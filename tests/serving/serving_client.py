"""A server of the toy model on loopback, and a client that writes bytes."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from http.client import HTTPConnection
from typing import Any

from workbench.config import EvaluateConfig, ServeConfig
from workbench.config.benchmark import GenerationConfig
from workbench.config.data import DataConfig
from workbench.evaluation.inference.causal_lm import TransformersLM
from workbench.evaluation.inference.decoder import Decoder
from workbench.serving.access import Access
from workbench.serving.answering import Answerer
from workbench.serving.server import Server
from workbench.serving.worker import Worker


class OneModel:
    """A single model, named base."""

    def __init__(self, lm: TransformersLM) -> None:
        self.names = ["base"]
        self.decoder = Decoder(lm, GenerationConfig())
        self.answered: list[str] = []

    @contextmanager
    def answering(self, name: str) -> Iterator[Decoder]:
        self.answered.append(name)
        yield self.decoder


class Served:
    """A server in a thread of its own."""

    def __init__(self, models: Any, lengths: dict[str, int], data: DataConfig, **limits: Any) -> None:
        config = ServeConfig(port=0, **limits)
        answerer = Answerer(models, data, config)
        self.worker = Worker(answerer.answer, config.max_waiting, nullcontext)
        self._server = Server(self.worker, lengths, config, Access(config))
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._listening.wait(20)

    async def _run(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()

        def on_listening(port: int) -> None:
            self.port = port
            self._listening.set()

        await self._server.run(self._stopped, on_listening)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stop the server, and wait for it."""
        with suppress(RuntimeError):  # stopped already
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send JSON; return status and JSON."""
        status, text = self.send(path, None if body is None else json.dumps(body).encode(), **headers)
        return status, json.loads(text)

    def send(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """Send bytes; return status and text."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            kind = {"Content-Type": "application/json"} if body is not None else {}
            connection.request("GET" if body is None else "POST", path, body, {**kind, **headers})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8")

    def complete(self, prompt: Any, **fields: Any) -> dict[str, Any]:
        """Return the answer to a completion request, which must be answered."""
        status, answer = self.ask("/v1/completions", {"model": "base", "prompt": prompt, **fields})
        assert status == 200, answer
        return answer

    def stream(self, path: str, body: dict[str, Any]) -> list[Any]:
        """Return the events of a stream, without its end mark, which must be there."""
        status, text = self.send(path, json.dumps({**body, "stream": True}).encode())
        assert status == 200, text
        *events, end, nothing = text.split("\n\n")
        assert (end, nothing) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]

    def socket(self) -> socket.socket:
        """Return an open connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def raw(self, data: bytes) -> bytes:
        """Send bytes as they are; return all that comes until the server closes."""
        with self.socket() as connection:
            connection.sendall(data)
            received = b""
            while part := connection.recv(65536):
                received += part
            return received


def head(method: str = "POST", path: str = "/v1/completions", *lines: str, host: str = "127.0.0.1") -> bytes:
    """The first lines of a request."""
    return "".join(
        f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "")
    ).encode()


def language_model(model: Any, tokenizer: Any) -> TransformersLM:
    """The evaluate step's view of a model."""
    return TransformersLM(model.eval(), tokenizer, EvaluateConfig())
