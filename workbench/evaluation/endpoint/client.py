"""Sends requests to an endpoint of OpenAI's interface over HTTP."""

import json
import os
import ssl
import threading
import time
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from workbench.config.serving.endpoint import EndpointConfig
from workbench.config.serving.loopback import is_loopback
from workbench.errors import ConfigError, EndpointError
from workbench.evaluation.endpoint.errors_in_replies import (
    error_in,
    is_temporary,
    json_of,
    message_in,
    one_line,
    status_in,
)
from workbench.evaluation.endpoint.replies import (
    FailedStatusError,
    NoSuchPathError,
    RefusedRequestError,
    UnsuitableError,
)
from workbench.evaluation.endpoint.reply_bytes import UnreadableBodyError, read_body, seconds_to_wait
from workbench.shown import clean, remember_secret

KEY_VARIABLE = "WORKBENCH_ENDPOINT_KEY"
REFUSALS: dict[int | None, type[UnsuitableError]] = {
    400: RefusedRequestError,
    404: NoSuchPathError,
    422: RefusedRequestError,
}
"""Other statuses -> the error that says more than UnsuitableError."""
LONGEST_PAUSE_SECONDS = 60
GOES_ON = " (the same command goes on with what is answered)"
"""End of the message about an endpoint that fails again and again."""


class _TemporaryError(Exception):
    """A request that may be answered if it is sent again; the message has no address."""

    def __init__(
        self, reason: str, pause: float | None = None, kind: type[EndpointError] = EndpointError
    ) -> None:
        """Create an error.

        Args:
            reason: What failed.
            pause: Seconds to wait, as the endpoint says.
            kind: Error that is raised when it has failed too often.
        """
        super().__init__(reason)
        self.pause, self.kind = pause, kind


class Client:
    """Client of an endpoint; its methods may be called from several threads."""

    def __init__(self, url: str, config: EndpointConfig) -> None:
        """Check the address, and read the key from the environment; nothing is sent yet.

        Raises:
            ConfigError: The address is malformed, has a password in it, or would send texts unencrypted; the
                key can't be sent.
        """
        self.url = checked_url(url, config.plain_http)
        self._config = config
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if self._key:
            remember_secret(self._key)
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"{KEY_VARIABLE}: has characters that no key has (give the key alone)")
        self._lock, self._next_time = threading.Lock(), 0.0

    def post(self, path: str, values: dict[str, Any], retries: int | None = None) -> dict[str, Any]:
        """Send a JSON object to a path below the address, such as `completions`; return the reply's object.

        Args:
            path: Path below the address; with a slash in front, below the address without its `/v1`.
            values: The object.
            retries: Most times that the request is sent again; None: as configured.

        Raises:
            UnsuitableError: The endpoint refuses the request, or sends another reply than a JSON object.
            EndpointError: It redirects the request, fails again and again, or its reply can't be read.
        """
        return self._ask("POST", path, json.dumps(values).encode("utf-8"), retries)

    def get(self, path: str, retries: int | None = None) -> dict[str, Any]:
        """Return the JSON object at a path below the address; the arguments are those of `post`.

        Raises:
            EndpointError: As by `post`; the endpoint has no such path, for example.
        """
        return self._ask("GET", path, None, retries)

    def _ask(self, method: str, path: str, body: bytes | None, retries: int | None = None) -> dict[str, Any]:
        retries = self._config.retries if retries is None else min(retries, self._config.retries)
        kind: type[EndpointError] = EndpointError
        reason = ""
        for attempt in range(retries + 1):
            self._wait_for_turn()
            try:
                return self._value(path, *self._received(method, path, body))
            except _TemporaryError as error:
                kind, reason, pause = error.kind, str(error), error.pause
            if attempt < retries:
                time.sleep(min(LONGEST_PAUSE_SECONDS, 0.5 * 2**attempt if pause is None else pause))
        times = f"{retries + 1} times" if retries else "once"
        raise kind(f"{self.shown}: {path} failed {times}, {reason}{GOES_ON}")

    def _received(self, method: str, path: str, body: bytes | None) -> tuple[int, Message, bytes]:
        """Send a request once; return status, headers and body of the reply.

        Raises:
            _TemporaryError: The connection fails, or is closed before the end of the reply.
            EndpointError: The reply can't be read, or the certificate isn't valid.
        """
        try:
            return self._send(method, self._target(path), body)
        except UnreadableBodyError as error:
            raise EndpointError(f"{self.shown}: {error}") from error
        except ssl.SSLCertVerificationError as error:
            raise EndpointError(
                f"{self.shown}: its certificate is refused, {one_line(error.verify_message)} "
                "(SSL_CERT_FILE=FILE trusts another authority)"
            ) from error
        except (OSError, HTTPException) as error:
            raise _TemporaryError(f"{type(error).__name__} ({one_line(str(error))})") from error

    def _value(self, path: str, status: int, headers: Message, data: bytes) -> dict[str, Any]:
        """Return the JSON object of a reply.

        Raises:
            _TemporaryError: It says that the request may be answered later, or is cut off.
            EndpointError: It redirects, refuses the request, or is not a JSON object.
        """
        if 300 <= status < 400:
            target = one_line(headers.get("Location", "").partition("?")[0])
            raise EndpointError(
                f"{self.shown}: redirects {path} to {target!r}, not followed (model.endpoint=URL names the "
                "endpoint's own address)"
            )
        value = json_of(data)
        code: int | None = status
        reason = (
            f"status {status}: {message_in(value) if value else one_line(data.decode('utf-8', 'replace'))}"
        )
        if status == 200:
            if not isinstance(value, dict):
                raise self._not_an_object(path, data)
            if (error := error_in(value)) is None:
                return value
            code, reason = status_in(error), f"an error with status 200: {message_in(error)}"
        if code == 429:
            reason += " (endpoint.requests_per_minute=N and a lower endpoint.concurrency ask less)"
        if code is not None and is_temporary(code):
            raise _TemporaryError(reason, seconds_to_wait(headers.get("Retry-After", "")), FailedStatusError)
        way_out = f" (is {KEY_VARIABLE} its key?)" if code in (401, 403) else ""
        kind = REFUSALS.get(code, UnsuitableError)
        raise kind(f"{self.shown}: {path} was refused, {reason}{way_out}")

    def _not_an_object(self, path: str, data: bytes) -> Exception:
        """Return the error about a reply with status 200 whose body is not a JSON object."""
        start = data.lstrip()[:1]
        if start in (b"", b"{"):
            return _TemporaryError(
                "a reply that is cut off" if start else "an empty reply", None, FailedStatusError
            )
        text = one_line(data.decode("utf-8", "replace"))[:80]
        return UnsuitableError(
            f"{self.shown}: a reply to {path} is not a JSON object but {text!r} (is the address right? most "
            "end with /v1)"
        )

    def _target(self, path: str) -> str:
        below = self.url.path
        return below.removesuffix("/v1") + path if path.startswith("/") else f"{below}/{path}"

    def _send(self, method: str, target: str, body: bytes | None) -> tuple[int, Message, bytes]:
        """Send one request; return status, headers and body of the reply."""
        headers = {"Accept": "application/json", "User-Agent": "open-llama-workbench"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with closing(self._connection()) as connection:
            connection.request(method, target, body, headers)  # http.client says that it accepts identity
            response = connection.getresponse()
            return response.status, response.headers, read_body(response, self._config.timeout_seconds)

    def _connection(self) -> HTTPConnection:
        host, port, seconds = str(self.url.hostname), self.url.port, self._config.timeout_seconds
        if self.url.scheme == "http":
            return HTTPConnection(host, port, timeout=seconds)
        return HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())

    def _wait_for_turn(self) -> None:
        """Wait until the next request may be sent at the configured rate."""
        with self._lock:
            now = time.monotonic()
            wait = max(0.0, self._next_time - now)
            per_minute = self._config.requests_per_minute
            self._next_time = now + wait + (60 / per_minute if per_minute else 0)
        time.sleep(wait)

    @property
    def shown(self) -> str:
        """Configuration key and address, with which messages start."""
        return f"model.endpoint: {self.url.geturl()}"


def checked_url(url: str, plain_http: bool) -> SplitResult:
    """Return an endpoint's address, with `/v1` if it has no path.

    Raises:
        ConfigError: It is malformed, has a user, password, query or fragment, or is http of another machine
            without `plain_http`.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # an unfinished [address]
        parts = urlsplit("")
    is_plain = parts.path.isascii() and parts.path.isprintable() and " " not in parts.path
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or not is_plain
    ):
        raise ConfigError(
            f"model.endpoint: {clean(url)[:80]!r} is not an address (as in http://127.0.0.1:8000/v1)"
        )
    if parts.username or parts.password:
        raise ConfigError(
            f"model.endpoint: a user or password in the address (set {KEY_VARIABLE} to the key)"
        )
    if parts.scheme == "http" and not plain_http and not is_loopback(parts.hostname):
        raise ConfigError(
            f"model.endpoint: http to {parts.hostname!r} sends texts and the key unencrypted (https, or "
            "endpoint.plain_http=true)"
        )
    try:
        parts.port  # noqa: B018  raises if it isn't a port
    except ValueError as error:
        raise ConfigError(f"model.endpoint: {clean(url)[:80]!r} has no valid port") from error
    return parts._replace(path=parts.path.rstrip("/") or "/v1")
