"""Caches keys and values in buffers with spare room, so that a new token doesn't copy the earlier ones."""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Least spare room of a new buffer, in tokens; an eighth of its tokens if that is more."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values (rows, heads, tokens, width) of one layer, each a prefix view of a larger buffer."""

    keys: Tensor
    values: Tensor
    _key_buffer: Tensor | None = None
    _value_buffer: Tensor | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens; return the keys and values of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._key_buffer, self.keys = _extended(self._key_buffer, self.keys, key_states)
        self._value_buffer, self.values = _extended(self._value_buffer, self.values, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Drop all rows of the batch but those at `indices`."""
        length = self.get_seq_length()
        if length:
            assert self._key_buffer is not None and self._value_buffer is not None
            self._key_buffer = self._key_buffer.index_select(0, indices)
            self._value_buffer = self._value_buffer.index_select(0, indices)
            self.keys, self.values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`; new tokens take the room of the others."""
        self.keys, self.values = self.keys[:, :, :length], self.values[:, :, :length]


class GrowingCache(DynamicCache):
    """Cache for decoding: each step writes into preallocated buffers, without copying earlier tokens."""

    layers: list[Any]

    def __init__(self) -> None:
        """Create an empty cache; layers are created with their first tokens."""
        super().__init__()
        self.layer_class_to_replicate = GrowingLayer

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`."""
        for layer in self.layers:
            layer.truncate(length)

    def prefix(self, length: int) -> "GrowingCache":
        """Return a copy of the first `length` tokens."""
        cache = GrowingCache()
        for index, layer in enumerate(self.layers):
            cache.update(layer.keys[:, :, :length], layer.values[:, :, :length], index)
        return cache

    @property
    def bytes_per_token(self) -> int:
        """Bytes of a token's keys and values in all layers, for each row; 0 for an empty cache."""
        return sum(states[0, :, :1].nbytes for layer in self.layers for states in (layer.keys, layer.values))


def _extended(buffer: Tensor | None, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Append `new` to `old`, the used part of `buffer`; return the buffer and its new used part.

    A full buffer is copied to a larger one.
    """
    old_length = old.shape[-2] if old.numel() else 0
    length = old_length + new.shape[-2]
    if buffer is None or length > buffer.shape[-2]:
        buffer = new.new_empty((*new.shape[:-2], length + max(_ROOM, length // 8), new.shape[-1]))
        if old_length:
            buffer[:, :, :old_length] = old
    buffer[:, :, old_length:length] = new
    return buffer, buffer[:, :, :length]
