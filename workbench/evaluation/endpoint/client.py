"""Sends requests to an endpoint of OpenAI's interface over HTTP."""

import json
import os
import ssl
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

from workbench.config.serving.endpoint import EndpointConfig
from workbench.config.serving.loopback import is_loopback
from workbench.errors import ConfigError, EndpointError
from workbench.evaluation.endpoint.replies import (
    FailedStatusError,
    NoSuchPathError,
    RefusedRequestError,
    UnsuitableError,
)
from workbench.shown import clean, remember_secret

KEY_VARIABLE = "WORKBENCH_ENDPOINT_KEY"
MOST_BYTES = 2**26
"""Largest reply that is read."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses after which a request is sent again."""
REFUSALS = {400: RefusedRequestError, 404: NoSuchPathError, 422: RefusedRequestError}
"""Other statuses -> the error that says more than UnsuitableError."""
LONGEST_PAUSE_SECONDS = 60
GOES_ON = " (the same command goes on with what is answered)"
"""End of the message about an endpoint that fails again and again."""


class Client:
    """Client of an endpoint; its methods may be called from several threads."""

    def __init__(self, url: str, config: EndpointConfig) -> None:
        """Check the address, and read the key from the environment; nothing is sent yet.

        Raises:
            ConfigError: The address is malformed, has a password in it, or would send texts unencrypted.
        """
        self.url = checked_url(url, config.plain_http)
        self._config = config
        self._key = os.environ.get(KEY_VARIABLE, "")
        if self._key:
            remember_secret(self._key)
        self._lock, self._next_time = threading.Lock(), 0.0

    def post(self, path: str, values: dict[str, Any], retries: int | None = None) -> dict[str, Any]:
        """Send a JSON object to a path below the address, such as `completions`; return the reply's object.

        Args:
            path: Path below the address; with a slash in front, below the address without its `/v1`.
            values: The object.
            retries: Most times that the request is sent again; None: as configured.

        Raises:
            UnsuitableError: The endpoint refuses the request, or sends another reply than a JSON object.
            EndpointError: It redirects the request, fails again and again, or sends more than `MOST_BYTES`.
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
        for attempt in range(retries + 1):
            self._wait_for_turn()
            try:
                status, pause, data = self._send(method, self._target(path), body)
            except (OSError, HTTPException) as error:
                reason, pause = f"{type(error).__name__} ({clean(str(error))[:200]})", None
                kind = EndpointError
            else:
                if status == 200:
                    return self._parsed(data)
                reason, kind = f"status {status}: {self._message(data)}", FailedStatusError
                if 300 <= status < 400:
                    raise EndpointError(f"{self.shown}: redirects {path}, not followed")
                if status not in AGAIN:
                    raise REFUSALS.get(status, UnsuitableError)(f"{self.shown}: {path} was refused, {reason}")
            if attempt < retries:
                time.sleep(min(LONGEST_PAUSE_SECONDS, 0.5 * 2**attempt if pause is None else pause))
        raise kind(f"{self.shown}: {path} failed {retries + 1} times, {reason}{GOES_ON}")

    def _target(self, path: str) -> str:
        below = self.url.path
        return below.removesuffix("/v1") + path if path.startswith("/") else f"{below}/{path}"

    def _send(self, method: str, target: str, body: bytes | None) -> tuple[int, float | None, bytes]:
        """Send one request; return status, seconds to wait as the endpoint says, and the reply."""
        headers = {"Accept": "application/json", "User-Agent": "open-llama-workbench"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with closing(self._connection()) as connection:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            data = response.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise EndpointError(f"{self.shown}: a reply has more than {MOST_BYTES:,} bytes")
            after = response.headers.get("Retry-After", "")
            return response.status, float(after) if after.isdecimal() else None, data

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

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise UnsuitableError(f"{self.shown}: a reply is not a JSON object (is the address right?)")
        return value

    def _message(self, data: bytes) -> str:
        """Return the endpoint's own words about an error, short and with the key masked."""
        text = data[:2000].decode("utf-8", "replace")
        try:
            value = json.loads(data)
            error = value.get("error") or value  # some servers have no object around the message
            words = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
            text = str(words or text)
        except (ValueError, AttributeError, RecursionError):
            pass
        return clean(" ".join(text.split()))[:300]

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
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
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
