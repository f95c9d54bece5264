"""Keys and values of earlier tokens, in memory with room for more: a new token copies nothing but itself."""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Tokens that a buffer has room for beyond those it was made for; an eighth of these if that is more."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values (rows, heads, tokens, width) of one layer, each the beginning of a larger buffer."""

    keys: Tensor
    values: Tensor
    _key_buffer: Tensor | None = None
    _value_buffer: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._key_buffer, self.keys = _extended(self._key_buffer, self.keys, key_states)
        self._value_buffer, self.values = _extended(self._value_buffer, self.values, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows only."""
        length = self.get_seq_length()
        if length:
            assert self._key_buffer is not None and self._value_buffer is not None
            self._key_buffer = self._key_buffer.index_select(0, indices)
            self._value_buffer = self._value_buffer.index_select(0, indices)
            self.keys, self.values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]

    def shared_by(self, rows: int) -> "GrowingLayer":
        """A layer whose rows all begin with what this one holds in its only row; nothing is copied yet."""
        layer = GrowingLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(self.keys, self.values)
        layer.keys = self.keys.expand(rows, -1, -1, -1)
        layer.values = self.values.expand(rows, -1, -1, -1)
        return layer


class GrowingCache(DynamicCache):
    """A cache for decoding: each step writes into buffers that are there, instead of copying all it holds."""

    def __init__(self) -> None:
        """Make an empty one; layers come with their first tokens."""
        super().__init__()
        self.layer_class_to_replicate = GrowingLayer

    def shared_by(self, rows: int) -> "GrowingCache":
        """A cache of so many rows that all begin with what this one holds in its only row."""
        cache = GrowingCache()
        cache.layers = [layer.shared_by(rows) for layer in self.layers if isinstance(layer, GrowingLayer)]
        return cache


def _extended(buffer: Tensor | None, held: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """The buffer, a larger one if need be, and its beginning: `held`, then `new`."""
    before = held.shape[-2] if held.numel() else 0
    after = before + new.shape[-2]
    if buffer is None or after > buffer.shape[-2]:
        buffer = new.new_empty((*new.shape[:-2], after + max(_ROOM, after // 8), new.shape[-1]))
        if before:
            buffer[:, :, :before] = held
    buffer[:, :, before:after] = new
    return buffer, buffer[:, :, :after]
