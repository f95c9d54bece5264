"""A server that answers each request with the bytes that a test prepared, and then closes the connection."""

import socketserver
import threading
from collections.abc import Mapping


class ByteServer:
    """Sends prepared replies in turn, the last one again and again; `requests` has what came, as bytes."""

    def __init__(self, *replies: bytes) -> None:
        self.requests: list[bytes] = []
        left = list(replies)
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b"".join(iter(self.rfile.readline, b"\r\n"))
                lengths = [
                    line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                ]
                body = self.rfile.read(int(lengths[0].partition(b":")[2])) if lengths else b""
                outer.requests.append(head + b"\r\n" + body)
                self.wfile.write(left.pop(0) if len(left) > 1 else left[0])

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def reply(body: bytes, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a reply; `headers` may give another Content-Length."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
