"""A small HTTP server whose answers a test decides, and requests to another one."""

import json
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]
"""Status and JSON value."""


def ask(port: int, path: str, body: dict[str, Any] | None) -> Reply:
    """The reply of a server on this machine; without a body it is a GET."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    if body is None:
        connection.request("GET", path)
    else:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    reply = response.status, json.loads(response.read())
    connection.close()
    return reply


class JsonServer:
    """Answers each request by a function of path and body; `seen` has the bodies, `paths` where they went."""

    def __init__(self, reply: Callable[[str, dict[str, Any] | None], Reply]) -> None:
        self.seen: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def send(self, status: int, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if 300 <= status < 400:
                    self.send_header("Location", "http://evil.example/v1/completions")
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.send(*reply(self.path, None))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(body)
                outer.paths.append(self.path)
                outer.headers.append(dict(self.headers))
                self.send(*reply(self.path, body))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
