"""Replies of gateways and broken servers: sent again where that helps, else refused in one line."""

import gzip
import json
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from byte_server import ByteServer, reply

from workbench.config import EndpointConfig
from workbench.errors import ConfigError, EndpointError
from workbench.evaluation.endpoint import reply_bytes
from workbench.evaluation.endpoint.client import KEY_VARIABLE, Client
from workbench.evaluation.endpoint.replies import NoSuchPathError, RefusedRequestError, UnsuitableError

KEY = "a-secret-endpoint-key"
VALUE = {"choices": [{"text": "好"}], "error": None}
GOOD = reply(json.dumps(VALUE).encode())


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that the client waits, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: waited.append(seconds) if seconds else None)
    return waited


@pytest.fixture
def client(pauses, monkeypatch):
    """A client of a server with these replies, which is its second value."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    servers = []

    def client(*replies: bytes, retries: int = 2) -> tuple[Client, ByteServer]:
        servers.append(ByteServer(*replies))
        return Client(servers[-1].url, EndpointConfig(retries=retries)), servers[-1]

    yield client
    for server in servers:
        server.stop()


def refused(client: Client, server: ByteServer, kind: type[Exception] = EndpointError) -> str:
    """The message of the error, which must be one line with the address and without the key."""
    with pytest.raises(kind) as error:
        client.post("completions", {"prompt": "x"})
    message = str(error.value)
    assert message.startswith(f"model.endpoint: {server.url}: ") and "\n" not in message
    assert KEY not in message and f"Bearer {KEY}".encode() in server.requests[-1]
    return message


def told(error: object, **fields: object) -> bytes:
    return reply(json.dumps({"error": error, **fields}).encode())


@pytest.mark.parametrize(
    "error",
    [
        {"message": "slow down", "code": 429},
        {"message": "overloaded", "code": "529"},
        {"message": "bad gateway", "status": 502},
        {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"},
        {"message": "busy", "type": "overloaded_error"},
    ],
    ids=json.dumps,
)
def test_an_error_with_status_200_that_passes_is_asked_again(client, error):
    asked, server = client(told(error), told(error, choices=[]), GOOD)
    assert asked.post("completions", {}) == VALUE and len(server.requests) == 3
    asked, server = client(told(error))
    message = refused(asked, server)
    assert f"failed 3 times, an error with status 200: {error['message']}" in message
    assert "the same command goes on" in message and len(server.requests) == 3


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"error": {"message": f"no credit for {KEY}", "code": 402}}, UnsuitableError, "no credit for ***"),
        ({"error": "model is gone"}, UnsuitableError, "model is gone"),
        ({"error": {"message": "no such model", "code": 404}}, NoSuchPathError, "no such model"),
        ({"error": {"message": "bad\nfield", "code": "400"}}, RefusedRequestError, "bad field"),
        ({"object": "error", "message": "too long", "code": 400}, RefusedRequestError, "too long"),
        ({"error": {"message": "who are you", "code": 401}}, UnsuitableError, f"is {KEY_VARIABLE} its key"),
        ({"error": {"detail": "no", "code": True}}, UnsuitableError, "status 200: no"),
        ({"error": {"reason": "odd"}}, UnsuitableError, '{"reason": "odd"}'),
        ({"choices": [{"text": "", "error": {"code": 403, "message": "no"}}]}, UnsuitableError, "no"),
        ({"choices": [{"text": "ha", "finish_reason": "error"}]}, UnsuitableError, "ends by an error"),
    ],
)
def test_an_error_with_status_200_that_stays_is_shown_at_once(client, body, kind, words):
    asked, server = client(reply(json.dumps(body).encode()))
    message = refused(asked, server, kind)
    assert "completions was refused" in message and words in message and len(server.requests) == 1


@pytest.mark.parametrize("key", ["two\nlines", "密钥", "a\tb"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(monkeypatch, key):
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match=KEY_VARIABLE) as error:
        Client("http://127.0.0.1:1", EndpointConfig())
    assert key not in str(error.value)


def test_blanks_around_the_key_are_not_sent(client, monkeypatch):
    _, server = client(GOOD)
    monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\n")
    Client(server.url, EndpointConfig()).get("models")
    assert f"Authorization: Bearer {KEY}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_missing_key_is_named(client, status):
    message = refused(*client(reply(b'{"detail": "no"}', status)))
    assert f"status {status[:3]}: no (is {KEY_VARIABLE} its key?)" in message


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(gzip.compress, "gzip"), (gzip.compress, "X-GZIP"), (zlib.compress, "deflate"), (bytes, "identity")],
)
def test_replies_compressed_unasked_are_read(client, body, encoding):
    data = body(json.dumps(VALUE).encode())
    asked, server = client(reply(data, headers={"Content-Encoding": encoding}))
    assert asked.post("completions", {}) == VALUE
    assert b"accept-encoding: identity" in server.requests[0].lower()


def test_a_compressed_reply_unpacks_to_a_bounded_size(client, monkeypatch):
    data = gzip.compress(json.dumps({"text": "x" * 10**6}).encode())
    assert len(data) < 5000
    packed = reply(data, headers={"Content-Encoding": "gzip"})
    assert client(packed)[0].post("completions", {})
    monkeypatch.setattr(reply_bytes, "MOST_BYTES", 10**5)
    asked, server = client(packed)
    assert "unpacks to more than 100,000 bytes" in refused(asked, server) and len(server.requests) == 1
    asked, server = client(reply(b"x" * (10**5 + 1)))
    assert "has more than 100,000 bytes" in refused(asked, server) and len(server.requests) == 1


def test_an_unknown_compression_is_named(client):
    asked, server = client(reply(b"\x1b\x00", headers={"Content-Encoding": "br"}))
    assert "compressed as 'br', which was not asked for" in refused(asked, server)
    assert len(server.requests) == 1


PACKED = gzip.compress(json.dumps(VALUE).encode())
LONG = str(len(json.dumps(VALUE)) + 40)
CUT_OFF = {
    "in the JSON": (reply(b'{"choices": [{"te'), "a reply that is cut off"),
    "empty": (reply(b""), "an empty reply"),
    "blank": (reply(b" \n"), "an empty reply"),
    "without all of its length": (
        reply(json.dumps(VALUE).encode(), headers={"Content-Length": LONG}),
        "Incom",
    ),
    "in a chunk": (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{"choices"',
        "IncompleteRead",
    ),
    "after a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "IncompleteRead"),
    "in gzip": (reply(PACKED[:-9], headers={"Content-Encoding": "gzip"}), "IncompleteRead"),
    "in the headers": (b"HTTP/1.1 200 OK\r\nContent-Le", ""),
    "before the status": (b"", "RemoteDisconnected"),
    "damaged gzip": (reply(b"no gzip", headers={"Content-Encoding": "gzip"}), "its gzip is damaged"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "BadStatusLine"),
}


@pytest.mark.parametrize("cut", CUT_OFF)
def test_a_reply_that_is_cut_off_is_asked_for_again(client, cut):
    broken, words = CUT_OFF[cut]
    asked, server = client(broken, broken, GOOD)
    assert asked.post("completions", {}) == VALUE and len(server.requests) == 3
    asked, server = client(broken)
    message = refused(asked, server)
    assert f"failed 3 times, {words}" in message or words in message
    assert len(server.requests) == 3 and "the same command goes on" in message


@pytest.mark.parametrize("body", ["<html><title>Login</title>\n<p>…", "[]", '"42"', "null", "OK"])
def test_a_body_that_is_no_object_is_shown_at_once(client, body):
    asked, server = client(reply(body.encode(), headers={"Content-Type": "text/html"}))
    message = refused(asked, server, UnsuitableError)
    assert "is not a JSON object but" in message and "is the address right?" in message
    assert " ".join(body.split())[:20] in message and len(server.requests) == 1


@pytest.mark.parametrize("target", ["http://evil.example/v1/completions?token=1", "/v1/completions/", None])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent", "304 Same"])
def test_no_redirect_is_followed_to_any_host(client, status, target):
    asked, server = client(reply(b"", status, {"Location": target} if target else {}))
    message = refused(asked, server)
    assert f"redirects completions to {(target or '').partition('?')[0]!r}, not followed" in message
    assert "model.endpoint=URL" in message and len(server.requests) == 1


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ("7", [7, 7]),
        ("0.25", [0.25, 0.25]),
        ("0", []),
        ("3600", [60, 60]),
        ("-5", []),
        ("soon", [0.5, 1]),
        ("nan", [0.5, 1]),
        ("inf", [0.5, 1]),
        (None, [0.5, 1]),
        (timedelta(seconds=30), [29, 29]),
        (timedelta(hours=-1), []),
    ],
    ids=str,
)
def test_the_client_waits_as_long_as_it_is_told(client, pauses, after, seconds):
    if isinstance(after, timedelta):
        after = format_datetime(datetime.now(UTC) + after, usegmt=True)
    busy = reply(b"{}", "429 Too Many Requests", {"Retry-After": after} if after else {})
    asked, server = client(busy, busy, GOOD)
    assert asked.post("completions", {}) == VALUE
    assert pauses == pytest.approx(seconds, abs=2 if seconds == [29, 29] else 0)


def test_a_reply_that_drips_ends_at_the_timeout(client, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now.__setitem__(0, now[0] + 400) or now[0])
    asked, server = client(reply(b"{" + b" " * 200_000))
    assert "TimeoutError (the reply took more than 600 seconds)" in refused(asked, server)
