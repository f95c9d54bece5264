"""Many, slow, vanishing and oversized clients; the server answers the others and stops cleanly."""

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from serving_client import OneModel, head

from workbench.evaluation.inference.decoder import Decoder
from workbench.serving.server import SPARE_CONNECTIONS

JSON = ("Content-Type: application/json",)
PLAIN = {"model": "base", "prompt": "x", "max_tokens": 1}
CHUNKS = b'2c\r\n{"model": "base", "prompt": "x", "top_k": 0}\r\n0\r\n\r\n'


class Gated(OneModel):
    """A model that answers once a gate is open."""

    def __init__(self, lm) -> None:
        super().__init__(lm)
        self.gate, self.entered = threading.Event(), threading.Event()

    @contextmanager
    def answering(self, name: str):
        self.entered.set()
        assert self.gate.wait(30)
        with super().answering(name) as decoder:
            yield decoder


class Endless(OneModel):
    """A model that writes until it is stopped, and counts its tokens."""

    def __init__(self, lm) -> None:
        super().__init__(lm)
        self.num_tokens = 0
        self.ended = threading.Event()

    @contextmanager
    def answering(self, name: str):
        endless = self

        class Slow(Decoder):
            def tokens(self, prompts, seeds):
                generated: list[int] = []
                try:
                    while True:
                        generated.append(50)
                        endless.num_tokens += 1
                        time.sleep(0.005)
                        self.on_token(generated)
                finally:
                    endless.ended.set()

        decoder = self.decoder
        slow = Slow(decoder.lm, decoder.limits)
        yield slow


def post(body: bytes, *lines: str) -> bytes:
    return head("POST", "/v1/completions", *JSON, f"Content-Length: {len(body)}", *lines) + body


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


@contextmanager
def first_computed(serve, lm, **limits):
    """Starts a server that computes a first request, which waits at the gate of its models."""
    models = Gated(lm)
    server = serve(models, **limits)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.ask, "/v1/completions", PLAIN)
        assert models.entered.wait(10)
        yield server, models, pool, first


def test_fifty_requests_at_once_have_each_its_own_answer(served):
    prompts = [[number + 5, 30, 40] for number in range(50)]
    expected = served.complete(prompts, max_tokens=8)["choices"]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda prompt: served.complete(prompt, max_tokens=8), prompts))
    assert [answer["choices"][0]["text"] for answer in answers] == [choice["text"] for choice in expected]


def test_requests_beyond_those_that_may_wait_are_refused_and_the_others_answered(serve, lm):
    with first_computed(serve, lm, max_waiting=3) as (server, models, pool, first):
        others = [pool.submit(server.ask, "/v1/completions", PLAIN) for _ in range(7)]
        deadline = time.monotonic() + 10
        while sum(other.done() for other in others) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        models.gate.set()
        statuses = sorted(other.result()[0] for other in others)
    assert first.result()[0] == 200 and statuses == [200] * 3 + [503] * 4


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_its_answer(serve, lm, stream):
    models = Endless(lm)
    server = serve(models)
    with server.socket() as connection:
        connection.sendall(post(json.dumps({**PLAIN, "max_tokens": 400, "stream": stream}).encode()))
        if stream:
            assert b"200 OK" in connection.recv(1000)
        wait_until(lambda: models.num_tokens >= 5)
    assert models.ended.wait(10)


def test_a_client_that_goes_away_while_it_waits_is_not_computed(serve, lm):
    models = Gated(lm)
    server = serve(models)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.ask, "/v1/completions", PLAIN)
        assert models.entered.wait(10)
        with server.socket() as connection:
            connection.sendall(post(json.dumps(PLAIN).encode()))
            wait_until(lambda: server.worker._jobs)
        wait_until(lambda: not server.worker._jobs)
        models.gate.set()
        assert first.result()[0] == 200
    assert server.ask("/health")[0] == 200 and models.answered == ["base"]


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_takes_too_long_is_given_up(serve, lm, stream):
    models = Endless(lm)
    server = serve(models, max_seconds=1)
    code, text = server.send("/v1/completions", json.dumps({**PLAIN, "stream": stream}).encode())
    assert code == (200 if stream else 504) and "serve.max_seconds" in text and "[DONE]" not in text
    assert models.ended.wait(10)


def test_a_body_of_twenty_megabytes_is_refused(served):
    body = json.dumps({**PLAIN, "prompt": "x" * 20_000_000}).encode()
    assert served.send("/v1/completions", body)[0] == 413
    answer = served.raw(head("POST", "/v1/completions", *JSON, "Content-Length: 20000000"))
    assert status(answer) == 413 and b"connection: close" in answer.lower()


def test_a_body_in_chunks_is_refused_once_it_is_too_large(served):
    chunks = b"".join(b"10000\r\n" + b"x" * 0x10000 + b"\r\n" for _ in range(20))
    answer = served.raw(head("POST", "/v1/completions", *JSON, "Transfer-Encoding: chunked") + chunks)
    assert status(answer) == 413


def test_a_body_in_chunks_is_read(served):
    body = json.dumps(PLAIN).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    lines = (*JSON, "Transfer-Encoding: chunked", "Connection: close")
    assert status(served.raw(head("POST", "/v1/completions", *lines) + chunks)) == 200


def test_a_client_that_waits_for_leave_to_send_gets_it(served):
    body = json.dumps(PLAIN).encode()
    with served.socket() as connection:
        lines = (*JSON, f"Content-Length: {len(body)}", "Expect: 100-continue")
        connection.sendall(head("POST", "/v1/completions", *lines))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert b"200 OK" in connection.recv(10_000)


def test_headers_that_are_too_large_are_refused(served):
    assert status(served.raw(head("GET", "/health", "X: " + "x" * 20_000))) == 431
    assert status(served.raw(b"GET /" + b"x" * 20_000)) == 431
    assert status(served.raw(head("GET", "/health", *(f"X{number}: x" for number in range(9000))))) == 431


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        head("POST", "/v1/completions", *JSON, "Content-Length: -1"),
        head("POST", "/v1/completions", *JSON, "Content-Length: 1", "Content-Length: 2"),
        head("POST", "/v1/completions", *JSON, "Transfer-Encoding: chunked, gzip"),
        head("POST", "/v1/completions", *JSON, "Content-Length: 4", "Transfer-Encoding: chunked") + CHUNKS,
        head("POST", "/v1/completions", *JSON, "Transfer-Encoding: chunked", "Content-Length: 99") + CHUNKS,
        head("POST", "/v1/completions", *JSON, "Transfer-Encoding: chunked") + b"zz\r\n",
        head("GET", "/health", "Content-Length: 1") + b"x",
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(served, data):
    assert status(served.raw(data)) in (400, 501)
    assert served.ask("/health")[0] == 200


def test_slow_clients_are_dropped_and_others_answered_meanwhile(serve):
    server = serve(receive_seconds=1)
    slow = [server.socket() for _ in range(20)]
    for number, connection in enumerate(slow):
        connection.sendall(
            (head("POST", "/v1/completions", *JSON, "Content-Length: 100") + b"{")[: 30 + 9 * number]
        )
    silent = server.socket()
    assert server.ask("/v1/completions", PLAIN)[0] == 200
    ends = time.monotonic() + 10
    for connection in slow:
        while time.monotonic() < ends:
            try:
                connection.sendall(b"a")
            except OSError:
                break
            connection.settimeout(0.2)
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            assert answer == b"" or status(answer) in (400, 408)
            break
        else:
            pytest.fail("a slow client is still connected")
        connection.close()
    assert silent.recv(10) == b""  # a connection without a request is closed without an answer
    silent.close()


@pytest.mark.parametrize("data", [b"", b"POST /v1/comp"])
def test_clients_without_a_request_lock_nobody_out(serve, data):
    server = serve(max_waiting=4)
    silent = [server.socket() for _ in range(4 + SPARE_CONNECTIONS)]
    for connection in silent:
        connection.sendall(data)
    wait_until(lambda: len(server._server._connections) == len(silent))
    assert [server.ask("/v1/completions", PLAIN)[0] for _ in range(3)] == [200] * 3
    for connection in silent:
        connection.close()


def test_a_request_that_is_computed_keeps_its_place(serve, lm):
    with first_computed(serve, lm, max_waiting=4) as (server, models, pool, first):
        silent = [server.socket() for _ in range(8 + SPARE_CONNECTIONS)]
        assert server.ask("/health")[0] == 200
        models.gate.set()
        assert first.result()[0] == 200
    for connection in silent:
        connection.close()


def test_a_client_that_goes_away_stops_the_forward_pass(serve, lm):
    first, *others = lm.model.model.layers
    entered, gate, passed = threading.Event(), threading.Event(), []

    def wait_at_gate(*_) -> None:
        entered.set()
        assert gate.wait(20)

    handles = [first.register_forward_hook(wait_at_gate)]
    handles += [layer.register_forward_hook(lambda *_: passed.append(1)) for layer in others]
    server = serve()
    try:
        with server.socket() as connection:
            connection.sendall(post(json.dumps(PLAIN).encode()))
            assert entered.wait(20)
        wait_until(lambda: server.worker._current.given_up.is_set())
        gate.set()
        wait_until(lambda: server.worker._current is None)
        assert others and not passed
    finally:
        for handle in handles:
            handle.remove()
    assert not any(layer._forward_pre_hooks for layer in (first, *others))
    assert server.complete("1 + 1 =", max_tokens=4) and server.ask("/health")[0] == 200


def test_a_client_that_does_not_take_its_answer_is_dropped(serve, lm):
    server = serve(receive_seconds=1)
    body = {**PLAIN, "prompt": [[7] * 500] * 20, "echo": True, "logprobs": 20}
    with server.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(post(json.dumps(body).encode()))
        wait_until(lambda: len(server._server._connections) == 1)
        wait_until(lambda: not server._server._connections)
    assert server.ask("/health")[0] == 200


def test_a_client_that_does_not_take_the_rest_of_its_last_answer_is_dropped(serve):
    server = serve(receive_seconds=1)
    connections = server._server._connections
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect(("127.0.0.1", server.port))
        wait_until(lambda: connections)
        (connection,) = connections.values()
        connection._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while not connection._writer.transport.get_write_buffer_size():  # until the system takes no more
            client.sendall(head("GET", "/health"))
            time.sleep(0.001)
        client.sendall(b"no HTTP\r\n\r\n")
        wait_until(lambda: not connections)
    assert server.ask("/health")[0] == 200


def test_requests_that_come_before_the_last_answer_are_answered(serve, lm):
    model = Gated(lm)
    server = serve(model)
    body = json.dumps(PLAIN).encode()
    with server.socket() as connection:
        connection.sendall(post(body))
        assert model.entered.wait(20)
        connection.sendall(head("GET", "/v1/models/base"))
        time.sleep(0.1)
        connection.sendall(head("GET", "/health", "Connection: close"))
        time.sleep(0.1)
        model.gate.set()
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    first, second, third = answers.split(b"HTTP/1.1 200 ")[1:]
    assert b"text_completion" in first and b"max_model_len" in second and b"status" in third


def test_a_connection_has_one_request_after_the_other(served):
    body = json.dumps(PLAIN).encode()
    with served.socket() as connection:
        for data in (
            post(body),
            head("GET", "/health"),
            head("GET", "/v1/models/none"),
            post(b"{"),
            post(body),
        ):
            connection.sendall(data)
            assert connection.recv(10_000).startswith(b"HTTP/1.1 ")


def test_the_log_has_no_word_of_a_request(serve, lm, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    caplog.set_level(logging.INFO)
    secret = "秘密-secret"

    class Broken(OneModel):
        @contextmanager
        def answering(self, name: str):
            yield self.decoder
            raise ValueError(secret)

    server = serve(Broken(lm))
    code, answer = server.ask("/v1/completions", {**PLAIN, "prompt": secret})
    assert code == 500 and secret not in json.dumps(answer)
    server.ask(f"/v1/{secret.encode().hex()}", {**PLAIN, secret: secret})
    server.ask("/v1/completions", {**PLAIN, "model": secret})
    logged = [record.getMessage() for record in caplog.records]
    assert any("500" in line for line in logged) and any("404" in line for line in logged)
    assert not any(secret in line or secret.encode().hex() in line for line in logged)


def test_a_fault_within_a_stream_is_logged_and_cuts_it_off(serve, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("workbench"), "propagate", True)
    server = serve()
    chunks = iter([{"index": 0, "text": "x"}])
    monkeypatch.setattr("workbench.serving.streams.chunk_fields", lambda *_: list(chunks)[0])
    answer = server.raw(post(json.dumps({**PLAIN, "max_tokens": 9, "stream": True}).encode()))
    assert status(answer) == 200 and answer.count(b"data: ") == 1
    assert b"[DONE]" not in answer and not answer.endswith(b"0\r\n\r\n")
    assert any("failed with IndexError" in record.getMessage() for record in caplog.records)
    assert server.ask("/health")[0] == 200


def test_stopping_ends_waiting_and_running_requests_with_an_error(serve, lm):
    models = Endless(lm)
    server = serve(models)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(server.ask, "/v1/completions", PLAIN) for _ in range(2)]
        wait_until(lambda: models.num_tokens >= 5 and server.worker._jobs)
        server.stop()
        assert [one.result()[0] for one in asked] == [503, 503]
    assert models.ended.is_set()
