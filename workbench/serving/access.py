"""Decides who may ask: the API key, and the names in the headers Host and Origin."""

import hmac
import os
from collections.abc import Sequence
from ipaddress import ip_address

from workbench.config.serving.loopback import is_loopback
from workbench.config.serving.serve import ServeConfig
from workbench.errors import ConfigError
from workbench.serving.refusal import Refusal
from workbench.shown import remember_secret

KEY_VARIABLE = "WORKBENCH_API_KEY"
"""Environment variable with the server's API key."""
LEAST_KEY = 16
"""Smallest number of characters of a key, which could be guessed if it were short."""


class Access:
    """Checks the headers of requests: API key, Host and Origin."""

    def __init__(self, config: ServeConfig) -> None:
        """Read the API key from `KEY_VARIABLE`; all later outputs of this process show *** instead.

        Raises:
            ConfigError: There is no key and clients of other machines can connect, or the key is too short or
                has other characters than visible ASCII.
        """
        self.is_local = is_loopback(config.host)
        key = os.environ.get(KEY_VARIABLE, "")
        if not key and not self.is_local:
            raise ConfigError(
                f"serve.host: {config.host!r} can be reached from other machines, and {KEY_VARIABLE} is not "
                f"set (export {KEY_VARIABLE}=$(openssl rand -hex 32); or leave serve.host=127.0.0.1)"
            )
        if key and (len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key):
            raise ConfigError(
                f"{KEY_VARIABLE}: not at least {LEAST_KEY} letters, digits or signs (openssl rand -hex 32 "
                "makes one)"
            )
        if key:
            remember_secret(key)
        self._key = key.encode() if key else None
        self._hosts = {"localhost", config.host.lower(), *(name.lower() for name in config.hosts)}

    def check_names(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Check that a request is meant for this server, and no page of a browser sends it.

        A page could have its own host name resolve to this machine (DNS rebinding); then Host has that name.

        Raises:
            Refusal: Host is missing or foreign, or there is an Origin.
        """
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or not self._is_own(hosts[0].decode("latin-1")):
            raise Refusal(403, "Host: not a name of this server (serve.hosts lists further names)")
        if _values(headers, b"origin"):
            raise Refusal(403, "Origin: pages of a browser are refused")

    def check_key(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Check the API key in the header Authorization; without a key of the server, every request passes.

        The time that this takes doesn't depend on where a wrong key differs.

        Raises:
            Refusal: The server has a key, and the request's key is missing or wrong.
        """
        if self._key is None:
            return
        given = _values(headers, b"authorization")
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # The scheme's name is case-insensitive (RFC 9110, section 11.1).
        if scheme.lower() != b"bearer" or not hmac.compare_digest(key.lstrip(b" "), self._key):
            raise Refusal(
                401, "Authorization: not 'Bearer ' and this server's API key", code="invalid_api_key"
            )

    def _is_own(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.removeprefix("[").removesuffix("]").lower()
        if name in self._hosts:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.is_local


def _values(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for other, value in headers if other.lower() == name]
