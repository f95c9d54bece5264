"""Reads the body of a reply whole, unpacked and of bounded size, and what its headers say about waiting."""

import math
import time
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead

from workbench.shown import clean

MOST_BYTES = 2**26
"""Largest reply that is read, and that a compressed one may unpack to."""
_PART = 2**16
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
"""Argument of `zlib.decompressobj` by which it reads both formats."""
IDENTITY, DEFLATED = ("", "identity"), ("gzip", "x-gzip", "deflate")


class UnreadableBodyError(Exception):
    """A body is too large, or compressed in an unknown way; the message has no address."""


def read_body(response: HTTPResponse, seconds: float) -> bytes:
    """Return the body of a reply, unpacked if the server has compressed it unasked.

    Args:
        response: The reply, whose headers are read.
        seconds: Time within which all of the body must come.

    Raises:
        UnreadableBodyError: It has more than MOST_BYTES, or an unknown compression.
        IncompleteRead, HTTPException: The connection was closed before its end, or it isn't what its headers
            say.
        TimeoutError: It took longer than `seconds`.
    """
    deadline, parts, size = time.monotonic() + seconds, [], 0
    while part := response.read1(_PART):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise UnreadableBodyError(f"a reply has more than {MOST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the reply took more than {seconds:g} seconds")
    body = b"".join(parts)
    if response.length:  # bytes that are missing; http.client doesn't raise for them
        raise IncompleteRead(body, response.length)
    return unpacked(body, response.headers.get("Content-Encoding", "").strip().lower())


def unpacked(body: bytes, encoding: str) -> bytes:
    """Return a body without its compression.

    Args:
        body: The body as it came.
        encoding: Value of the header Content-Encoding, in lower case.

    Raises:
        UnreadableBodyError: It unpacks to more than MOST_BYTES, or the compression is unknown.
        HTTPException: It is damaged or cut off.
    """
    if encoding in IDENTITY:
        return body
    if encoding not in DEFLATED:
        raise UnreadableBodyError(
            f"a reply is compressed as {clean(encoding)[:40]!r}, which was not asked for (turn it off in the "
            "gateway)"
        )
    decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        data = decompressor.decompress(body, MOST_BYTES + 1)
    except zlib.error as error:
        raise HTTPException(f"its {encoding} is damaged: {error}") from error
    if len(data) > MOST_BYTES:
        raise UnreadableBodyError(f"a reply unpacks to more than {MOST_BYTES:,} bytes")
    if not decompressor.eof:
        raise IncompleteRead(data)
    return data


def seconds_to_wait(retry_after: str) -> float | None:
    """Return the seconds that Retry-After asks for, by a number or a date; None if it has neither."""
    text = retry_after.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
