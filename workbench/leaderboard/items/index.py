"""Keeps the item scores of files of predictions by the content of these files, so that they are read once."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.files import write_atomic
from workbench.leaderboard.items.answers import Items

VERSION = 1
"""Raised when items are read in another way, so that nothing older is used."""

WORTHWHILE = 100_000
"""Items from which on an index is written; fewer are read as fast."""

DIGEST_BYTES = 32

Frame = tuple[pa.Array, pa.Array, pa.Array, pa.Array]
"""Ids, prompts, subsets and clusters of a benchmark's items, which all its models share."""


class ItemIndex:
    """Item scores by SHA-256 of their file, and metric. What isn't used while a board is built is dropped."""

    def __init__(self, path: Path | None) -> None:
        """Read the index at a path; a damaged or missing one is empty, and with None nothing is kept."""
        self.path = path
        self._known = {} if path is None else _read(path)
        self._used: dict[str, Items] = {}

    def get(self, digest: str, metric: str) -> Items | None:
        """Return the items of a file with this content; None if they aren't known."""
        items = self._known.get(f"{digest} {metric}")
        if items is not None:
            self._used[f"{digest} {metric}"] = items
        return items

    def put(self, digest: str, metric: str, items: Items) -> None:
        """Keep the items of a file with this content."""
        if self.path is not None:
            self._used[f"{digest} {metric}"] = items

    def write(self) -> None:
        """Write what was used since the index was read, if that is another set, and worthwhile."""
        is_same = self._used.keys() == self._known.keys()
        if self.path is None or is_same or sum(map(len, self._used.values())) < WORTHWHILE:
            return
        payload = _packed(self._used)
        write_atomic(self.path, hashlib.sha256(payload).digest() + payload)


def _packed(items: dict[str, Items]) -> bytes:
    """Return items as the bytes of an .npz file without pickled objects."""
    frames: list[Items] = []
    by_size: dict[int, list[int]] = {}
    numbers = []
    for each in items.values():
        same_size = by_size.setdefault(len(each), [])
        number = next((place for place in same_size if _is_same_frame(frames[place], each)), len(frames))
        if number == len(frames):
            same_size.append(number)
            frames.append(each)
        numbers.append(number)
    texts = [[column.to_pylist() for column in _frame(each)] for each in frames]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        version=np.array(VERSION),
        keys=np.array(list(items)),
        frames=np.array(numbers, dtype=np.int64),
        values=np.concatenate([each.values for each in items.values()]),
        texts=np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8),
    )
    return buffer.getvalue()


def _frame(items: Items) -> Frame:
    return (items.ids, items.prompts, items.subsets, items.clusters)


def _is_same_frame(one: Items, other: Items) -> bool:
    return all(a is b or a.equals(b) for a, b in zip(_frame(one), _frame(other), strict=True))


def _read(path: Path) -> dict[str, Items]:
    """Return the items of an index; none if there is no file, or one that isn't as it was written."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
            return {}
        with np.load(io.BytesIO(data[DIGEST_BYTES:]), allow_pickle=False) as arrays:
            if int(arrays["version"]) != VERSION:
                return {}
            return _unpacked(arrays["keys"], arrays["frames"], arrays["values"], arrays["texts"])
    except (OSError, ValueError, KeyError, IndexError, RecursionError):
        return {}


def _unpacked(
    keys: NDArray[np.str_], numbers: NDArray[np.int64], values: NDArray[np.float64], texts: NDArray[np.uint8]
) -> dict[str, Items]:
    frames = [[pa.array(column, pa.string()) for column in frame] for frame in json.loads(texts.tobytes())]
    found: dict[str, Items] = {}
    start = 0
    for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
        ids, prompts, subsets, clusters = frames[number]
        end = start + len(ids)
        found[key] = Items(
            ids=ids, prompts=prompts, subsets=subsets, clusters=clusters, values=values[start:end]
        )
        start = end
    return found
