"""Servers that answer almost as they should: each hands requests on to a right one and spoils something."""

import json
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Spoil = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Function of a request and its right answer; returns the wrong answer."""


Fails = Callable[[dict[str, Any]], int | None]
"""Function of a request; returns the status to fail with, or None to hand the request on."""


def first(*statuses: int) -> Fails:
    """Fails the first requests with these statuses."""
    left = list(statuses)
    return lambda body: left.pop(0) if left else None


def forward(port: int, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """The right server's answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    if body is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


class Spoiled:
    """A server in front of the one at `port`."""

    def __init__(
        self, port: int, change: Callable[[str, dict], dict], spoil: Spoil, fails: Fails | None = None
    ) -> None:
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.fails = fails
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def reply(self, status: int, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://evil.example/v1/completions")
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.reply(200, forward(port, self.path, None))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(body)
                outer.headers.append(dict(self.headers))
                if outer.fails and (status := outer.fails(body)):
                    return self.reply(status, {"error": {"message": "not now"}})
                asked = change(self.path, json.loads(json.dumps(body)))
                self.reply(200, spoil(body, forward(port, self.path, asked)))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def unchanged(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return body


def right(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return answer


def without_echo(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ignores echo."""
    return {name: value for name, value in body.items() if name != "echo"}


def shifted(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Values of an echo belong to the token before."""
    if body.get("echo"):
        logprobs = answer["choices"][0]["logprobs"]
        for name in ("token_logprobs", "top_logprobs"):
            logprobs[name] = [None, *logprobs[name][2:], logprobs[name][-1]]
    return answer


def shortened(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The last entry of an echo is lost."""
    if body.get("echo"):
        for name, values in answer["choices"][0]["logprobs"].items():
            answer["choices"][0]["logprobs"][name] = values[:-1]
    return answer


def zeros(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """All log-probabilities are 0."""
    logprobs = answer["choices"][0]["logprobs"]
    if logprobs:
        logprobs["token_logprobs"] = [value and 0.0 for value in logprobs["token_logprobs"]]
    return answer


def without_first(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The first log-probability is missing, of generated tokens too."""
    answer["choices"][0]["logprobs"]["token_logprobs"][0] = None
    return answer


def with_beginning(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Puts a beginning token before token ids."""
    return {**body, "prompt": [1, *body["prompt"]]} if isinstance(body.get("prompt"), list) else body
