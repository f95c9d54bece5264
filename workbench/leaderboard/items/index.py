"""Caches the items of predictions files by the files' content, so that a later board needn't parse them."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workbench.files import write_atomic
from workbench.leaderboard.items.answers import Items
from workbench.leaderboard.items.model_answers import ModelAnswers

VERSION = 2
"""Number of the cache's format; raise it when items are read differently, so that older caches are
ignored."""

WORTHWHILE = 100_000
"""Number of items from which on a cache file is written; fewer are parsed as fast."""

DIGEST_BYTES = 32

Frame = tuple[pa.Array, pa.Array, pa.Array, pa.Array]
"""Ids, prompt hashes, subsets and clusters of a benchmark's items; models that answered the same items
share a frame."""


class ItemIndex:
    """Cache of items by `file_digest` of the predictions file and metric; writing it drops unused entries.

    Answers as labels and texts (`predictions`, `targets`, `texts`, `weights` of `Items`) aren't cached.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the cache at a path; a missing or damaged file counts as empty. None: nothing is cached."""
        self.path = path
        self._known = {} if path is None else _read(path)
        self._used: dict[str, Items] = {}

    def get(self, digest: str, metric: str) -> Items | None:
        """Return the cached items of a file with this `file_digest`, scored by this metric; None: not cached.

        Items that were returned stay in the cache when it is written.
        """
        key = f"{digest} {metric}"
        items = self._used.get(key, self._known.get(key))
        if items is not None:
            self._used[key] = items
        return items

    def put(self, digest: str, metric: str, items: Items) -> None:
        """Add the items of a file with this `file_digest`, scored by this metric; nothing without a path."""
        if self.path is not None:
            self._used[f"{digest} {metric}"] = items

    def write(self) -> None:
        """Write the items that `get` returned or `put` added; all others are dropped from the file.

        Nothing is written without a path, if the file has exactly these, or if they are fewer than
        `WORTHWHILE`.
        """
        is_same = self._used.keys() == self._known.keys()
        if self.path is None or is_same or sum(map(len, self._used.values())) < WORTHWHILE:
            return
        payload = _packed(self._used)
        write_atomic(self.path, hashlib.sha256(payload).digest() + payload)


def _packed(items: dict[str, Items]) -> bytes:
    """Serialize cache key -> items as the bytes of an .npz file without pickled objects."""
    frames, numbers = _frames(list(items.values()))
    texts = [[column.to_pylist() for column in _frame(each)] for each in frames]
    widths, chosen, likelihoods = _packed_answers([each.answers for each in items.values()])
    buffer = io.BytesIO()
    np.savez(
        buffer,
        version=np.array(VERSION),
        keys=np.array(list(items)),
        frames=np.array(numbers, dtype=np.int64),
        values=np.concatenate([each.values for each in items.values()]),
        widths=widths,
        chosen=chosen,
        loglikelihoods=likelihoods,
        texts=np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8),
    )
    return buffer.getvalue()


def _frames(items: Sequence[Items]) -> tuple[list[Items], list[int]]:
    """Find the distinct frames (ids, prompt hashes, subsets and clusters), which several models share.

    Returns:
        One `Items` with each frame, and for each of `items` the index of its frame.
    """
    frames: list[Items] = []
    by_size: dict[int, list[int]] = {}
    by_identity: dict[tuple[int, ...], int] = {}
    numbers = []
    for each in items:
        identity = tuple(map(id, _frame(each)))  # those that were read from an index share their arrays
        number = by_identity.get(identity)
        if number is None:
            same_size = by_size.setdefault(len(each), [])
            number = next((place for place in same_size if _is_same_frame(frames[place], each)), len(frames))
            if number == len(frames):
                same_size.append(number)
                frames.append(each)
            by_identity[identity] = number
        numbers.append(number)
    return frames, numbers


def _frame(items: Items) -> Frame:
    return (items.ids, items.prompts, items.subsets, items.clusters)


def _packed_answers(
    answers: Sequence[ModelAnswers | None],
) -> tuple[NDArray[np.int64], NDArray[np.int16], NDArray[np.float32]]:
    """Concatenate the answers of all models.

    Returns:
        Number of options per item, one per model, -1 without answers; all chosen indices; all
        log-likelihoods. A model without answers adds nothing to the last two.
    """
    known = [each for each in answers if each is not None]
    widths = [-1 if each is None else each.loglikelihoods.shape[1] for each in answers]
    nothing = np.empty(0, np.int16)
    chosen = np.concatenate([nothing, *(each.chosen for each in known)])
    rows = (each.loglikelihoods.reshape(-1) for each in known)
    return np.array(widths, dtype=np.int64), chosen, np.concatenate([nothing.astype(np.float32), *rows])


def _is_same_frame(one: Items, other: Items) -> bool:
    return all(a is b or a.equals(b) for a, b in zip(_frame(one), _frame(other), strict=True))


def _read(path: Path) -> dict[str, Items]:
    """Return the items of a cache file; an empty dict if it is missing, damaged or of another version."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
            return {}
        with np.load(io.BytesIO(data[DIGEST_BYTES:]), allow_pickle=False) as arrays:
            if int(arrays["version"]) != VERSION:
                return {}
            return _unpacked({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, IndexError, RecursionError):
        return {}


def _unpacked(arrays: dict[str, NDArray[Any]]) -> dict[str, Items]:
    texts = json.loads(arrays["texts"].tobytes())
    frames = [[pa.array(column, pa.string()) for column in frame] for frame in texts]
    values, chosen, likelihoods = (_Reader(arrays[name]) for name in ("values", "chosen", "loglikelihoods"))
    found: dict[str, Items] = {}
    rows = zip(*(arrays[name].tolist() for name in ("keys", "frames", "widths")), strict=True)
    for key, number, width in rows:
        ids, prompts, subsets, clusters = frames[number]
        answers = None
        if width >= 0:
            numbers = likelihoods.next(len(ids) * width).reshape(len(ids), width)
            answers = ModelAnswers(chosen=chosen.next(len(ids)), loglikelihoods=numbers)
        found[key] = Items(
            ids=ids,
            prompts=prompts,
            subsets=subsets,
            clusters=clusters,
            values=values.next(len(ids)),
            answers=answers,
        )
    return found


class _Reader:
    """Reads an array from its start to its end in pieces of given lengths."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.start = values, 0

    def next(self, count: int) -> NDArray[Any]:
        """Return the next `count` values."""
        self.start += count
        return self.values[self.start - count : self.start]
