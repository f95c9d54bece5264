"""Caches keys and values of the rows that are being decoded, in slots of one preallocated buffer.

Rows are in the first slots. A row's own tokens are in the first columns of its slot. A step reads all columns
of the used slots, so its shapes depend on their numbers alone: the products need no copy of keys and values,
and a graph of a GPU fits many steps.

Shapes: R slots in use, G key/value heads, C columns of a slot, D width of a head.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache

_COLUMNS = 32
"""Number of columns by which slots grow."""


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values (slots, G, C, D) of one layer."""

    keys: Tensor
    values: Tensor

    def __init__(self, slots: "SlotCache", keys: Tensor, values: Tensor) -> None:
        """Create a layer of a cache with its two buffers."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.slots, self.keys, self.values = slots, keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write each row's new key and value (R, G, 1, D); return those of all columns (R, G, C, D)."""
        rows, columns = self.slots.new_places
        self.keys[rows, :, columns] = key_states[:, :, 0]
        self.values[rows, :, columns] = value_states[:, :, 0]
        return self.keys[: len(rows)], self.values[: len(rows)]

    def get_seq_length(self) -> int:
        """Return the number of columns before the new one, as masks count them."""
        return self.slots.num_columns - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return number and first index of the keys that a step reads."""
        return self.slots.num_columns, 0


class SlotCache(DynamicCache):
    """Cache of the rows of a step, each of which has its own number of tokens."""

    layers: list[Any]

    def __init__(self, num_slots: int, device: torch.device) -> None:
        """Create a cache without rows.

        Args:
            num_slots: largest number of rows.
            device: device of the model.
        """
        super().__init__()
        self.num_slots, self.device = num_slots, device
        self.num_columns = 0
        self.lengths: list[int] = []
        """Number of tokens in each used slot."""
        self.new_places: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))
        """Slot and column of each row's new token in this step."""

    def add(self, cache: GrowingCache, tokens: Sequence[Sequence[int]]) -> None:
        """Copy keys and values of new rows into the next free slots.

        Args:
            cache: cache of one row.
            tokens: for each new row, the indices of its tokens in `cache`.
        """
        first, last = len(self.lengths), len(self.lengths) + len(tokens)
        self._resize(columns(max(self.lengths + [len(row) for row in tokens]) + 1))
        self.lengths += [len(row) for row in tokens]
        padded = [[*row, *[0] * (self.num_columns - len(row))] for row in tokens]
        indices = torch.tensor(padded, device=self.device).flatten()
        if not self.layers:
            self.layers = [
                SlotLayer(self, self._buffer(s.keys), self._buffer(s.values)) for s in cache.layers
            ]
        for layer, source in zip(self.layers, cache.layers, strict=True):
            for buffer, states in ((layer.keys, source.keys), (layer.values, source.values)):
                selected = states[0].index_select(1, indices)
                selected = selected.view(len(selected), len(tokens), -1, selected.shape[-1])
                buffer[first:last] = selected.transpose(0, 1)  # (new rows, G, C, D)

    def _buffer(self, states: Tensor) -> Tensor:
        """Return a buffer of all slots for states (rows, G, any number, D)."""
        return states.new_zeros(self.num_slots, states.shape[1], self.num_columns, states.shape[3])

    def _resize(self, num_columns: int) -> None:
        """Give all slots `num_columns`."""
        if num_columns == self.num_columns:
            return
        shared, self.num_columns = min(self.num_columns, num_columns), num_columns
        for layer in self.layers:
            layer.keys, layer.values = (self._resized(old, shared) for old in (layer.keys, layer.values))

    def _resized(self, old: Tensor, shared: int) -> Tensor:
        """Return a buffer of `num_columns` with the first `shared` columns of the rows in `old`."""
        buffer, rows = self._buffer(old), len(self.lengths)
        buffer[:rows, :, :shared] = old[:rows, :, :shared]
        return buffer

    def drop(self, groups: Sequence[int], leaving: set[int]) -> list[int]:
        """Free the slots of rows that leave; return, for each row that stays, the slot that it had.

        Args:
            groups: group of each row, ascending; rows of a group stay next to each other.
            leaving: slots of the rows that leave.
        """
        order = compacted(groups, leaving)
        moved = [slot for slot, old in enumerate(order) if slot != old]
        self.lengths = [self.lengths[old] for old in order]
        if not order:
            self.layers, self.num_columns = [], 0  # so that the next rows don't depend on these
        elif moved:
            target = torch.tensor(moved, device=self.device)
            source = torch.tensor([order[slot] for slot in moved], device=self.device)
            for layer in self.layers:
                for states in (layer.keys, layer.values):
                    states[target] = states[source]
        return order

    def begin_step(self, num_rows: int) -> Tensor:
        """Make room for a token in each slot; return the mask (num_rows, 1, 1, C), True for a row's tokens.

        Args:
            num_rows: number of slots that the step computes; those without a row have one token.
        """
        needed = columns(max(self.lengths) + 1)
        if not self.num_columns // 2 < needed <= self.num_columns:
            self._resize(needed)
        lengths = [*self.lengths, *[0] * (num_rows - len(self.lengths))]
        new_columns = torch.tensor(lengths, device=self.device)
        self.new_places = torch.arange(num_rows, device=self.device), new_columns
        self.lengths = [length + 1 for length in self.lengths]
        mask = torch.arange(self.num_columns, device=self.device) <= new_columns[:, None]
        return mask[:, None, None]


def columns(num_tokens: int) -> int:
    """Return the number of columns of a slot that has to hold `num_tokens`."""
    return -(-num_tokens // _COLUMNS) * _COLUMNS


def compacted(groups: Sequence[int], leaving: set[int]) -> list[int]:
    """Return the old slot of each row that stays, so that few rows move and groups stay together.

    Args:
        groups: group of each row, ascending.
        leaving: slots of the rows that leave.
    """
    order: list[int] = []
    for group in sorted(set(groups)):
        staying = [slot for slot, own in enumerate(groups) if own == group and slot not in leaving]
        first, last = len(order), len(order) + len(staying)
        in_place = {slot for slot in staying if first <= slot < last}
        moving = iter([slot for slot in staying if slot not in in_place])
        order += [slot if slot in in_place else next(moving) for slot in range(first, last)]
    return order
