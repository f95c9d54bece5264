"""Packs JSON values and numeric arrays into short texts that a browser can unpack."""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 8
"""Arrays start at multiples of this number of bytes, so that the browser can view them without a copy."""

LEVEL = 6
"""Level of zlib compression: 9 takes six times as long for 4% of the size."""

RUNS = zlib.Z_RLE
"""Compression strategy for arrays that seldom repeat: as small as the default's, in a fifth of the time."""


def packed(
    values: Any, arrays: Mapping[str, NDArray[Any]] | None = None, strategy: int = zlib.Z_DEFAULT_STRATEGY
) -> str:
    """Return values and arrays as base64 of a deflated container (raw deflate, without a zlib header).

    The container is the length of the header (4 bytes, little-endian), the header, and the arrays. The header
    is JSON: `values`, and for each array its type, offset from the end of the header, and number of elements.

    Args:
        values: JSON values.
        arrays: Name -> array; None: there are none.
        strategy: Compression strategy of zlib.
    """
    parts, places, offset = [], {}, 0
    for name, array in (arrays or {}).items():
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        places[name] = [array.dtype.str[1:], offset, array.size]
        parts.append(data + bytes(-len(data) % ALIGNMENT))
        offset += len(parts[-1])
    text = as_json({"values": values, "arrays": places}).encode("utf-8")
    text += b" " * (-(len(text) + 4) % ALIGNMENT)
    return deflated(b"".join([len(text).to_bytes(4, "little"), text, *parts]), strategy)


def deflated(data: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> str:
    """Return data as base64 of raw deflate."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return base64.b64encode(compressor.compress(data) + compressor.flush()).decode("ascii")


def as_json(value: Any) -> str:
    """Return compact JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
