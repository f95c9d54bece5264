"""Decodes prompts in slots: a row that has ended leaves its slot, and a waiting prompt takes it.

New rows are computed in passes over the prefix tree of their prompts, after the prefix that their group
shares. Each step computes one token of all rows in slots, and reads the chosen tokens from the device once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor

from workbench.evaluation.inference import prefix_tree
from workbench.evaluation.inference.decoding.next_tokens import append_next
from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache
from workbench.evaluation.inference.decoding.prefix_store import PrefixStore
from workbench.evaluation.inference.decoding.prompt_groups import Group, groups
from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.decoding.settings import DecodingSettings
from workbench.evaluation.inference.decoding.slot_cache import SlotCache, columns
from workbench.evaluation.inference.masks import BOOLEAN_MASKED
from workbench.evaluation.inference.prefix_tree import Pass, TokenRequest

SLOTS = 64
"""Largest number of rows in a step, which reads all weights once for all of them."""
_CPU_CACHE_BYTES, _GPU_CACHE_BYTES = 1 << 28, 1 << 32
_CACHE_SHARE = 4
"""Largest size of the slots, unless the caller gives a number of tokens; a quarter of the weights' if that is
more."""
_JOIN_SHARE = 8
"""Prompts wait until an eighth of the slots is free, so that several share a forward pass."""


@dataclass
class _Slot:
    """A row in a slot, or on its way into one."""

    row: Row
    group: int
    """Number of the row's group."""
    num_shared: int
    """Number of tokens of the group's prefix."""
    prefix: GrowingCache
    """Keys and values of the group's prefix."""
    most_cached: int
    """Largest number of tokens that the slot may have to hold."""


class SlotDecoding:
    """Continues prompts that can share prefixes."""

    def __init__(self, settings: DecodingSettings, prefixes: PrefixStore) -> None:
        """Create it for a model, with the store that keeps its latest prefix."""
        self.settings, self.lm, self.prefixes = settings, settings.lm, prefixes
        self.copies_prefixes = not takes_shared_prefixes(self.lm.model)
        """Whether each slot holds a copy of its group's prefix."""
        self.rounds_rows = self.lm.device.type == "cuda"
        """Whether a step computes a power of two of rows, so that few shapes occur."""
        self.num_slots = 1 if self.lm.invariant else SLOTS
        self._bytes_per_token = 0
        self._cache = SlotCache(0, self.lm.device)
        self._slots: list[_Slot] = []

    @torch.no_grad()
    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield each row with its `generated` tokens, as soon as it has ended.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        self.num_slots = min(self.num_slots, len(rows))
        self._cache = SlotCache(self.num_slots, self.lm.device)
        for number, group in enumerate(groups(rows, share=not self.lm.invariant)):
            waiting = self._waiting(number, group)
            while waiting:
                num_joining = self._num_joining(waiting)
                if num_joining:
                    yield from self._join(waiting[:num_joining])
                    del waiting[:num_joining]
                else:
                    yield from self._step()
        while self._slots:
            yield from self._step()

    def _waiting(self, number: int, group: Group) -> list[_Slot]:
        """Return the rows of a group, whose prefix is computed here."""
        prefix, num_shared = self.prefixes.cache(group.prefix), len(group.prefix)
        self._bytes_per_token = self._bytes_per_token or prefix.bytes_per_token
        most_new = self.settings.limits.max_new_tokens - (0 if self.copies_prefixes else num_shared)
        return [_Slot(row, number, num_shared, prefix, len(row.prompt) + most_new) for row in group.rows]

    def _num_joining(self, waiting: Sequence[_Slot]) -> int:
        """Return how many of the next rows join those in slots in one pass; 0 if a step comes first."""
        longest = columns(max(slot.most_cached for slot in (*self._slots, waiting[0])))
        fitting = self._most_cached() // longest
        usable = max(1, min(self.num_slots, fitting))
        free = usable - len(self._slots)
        if self._slots and free < min(len(waiting), max(1, usable // _JOIN_SHARE)):
            return 0
        lengths = accumulate(len(slot.row.prompt) - slot.num_shared for slot in waiting[:free])
        most_new = min(self.lm.budget, self.settings.most_cached or self.lm.budget)
        return max(1, sum(length <= most_new for length in lengths))

    def _most_cached(self) -> int:
        """Return the number of tokens that all slots may hold; 0 while unknown, so that one row joins."""
        if self.settings.most_cached is not None:
            return self.settings.most_cached
        if not self._bytes_per_token:
            return 0
        weights = sum(parameter.nbytes for parameter in self.lm.model.parameters())
        smallest = _CPU_CACHE_BYTES if self.lm.device.type == "cpu" else _GPU_CACHE_BYTES
        return max(smallest, weights // _CACHE_SHARE) // self._bytes_per_token

    def _join(self, joining: Sequence[_Slot]) -> Iterator[Row]:
        """Compute the first token of rows of a group, and put the rows into slots; yield those that end."""
        num_shared, rows = joining[0].num_shared, [slot.row for slot in joining]
        cache = joining[0].prefix if num_shared else GrowingCache()
        tree = prefix_tree.build([TokenRequest((*row.prompt, 0), len(row.prompt)) for row in rows])
        step = Pass(list(range(num_shared, len(tree.tokens))), num_shared, keep=True)
        last = [path[-1] - num_shared for path in tree.paths]
        ended = append_next(rows, self.lm.tree_logits(tree, step, cache, last), self.settings)
        staying = [index for index in range(len(rows)) if index not in ended]
        if staying:
            first_own = 0 if self.copies_prefixes else num_shared
            self._cache.add(cache, [tree.paths[index][first_own:] for index in staying])
            self._slots += [joining[index] for index in staying]
        self._bytes_per_token = cache.bytes_per_token
        cache.truncate(num_shared)
        yield from (rows[index] for index in sorted(ended))

    def _step(self) -> Iterator[Row]:
        """Compute the next token of all rows in slots; yield the rows that end."""
        rows = [slot.row for slot in self._slots]
        spare = [0] * (_rounded(len(rows), self.num_slots) - len(rows) if self.rounds_rows else 0)
        ids = [row.generated[-1] for row in rows] + spare
        positions = [len(row.prompt) + len(row.generated) - 1 for row in rows] + spare
        logits = self.lm.model(
            input_ids=torch.tensor(ids, device=self.lm.device)[:, None],
            attention_mask=self._mask(len(ids)),
            position_ids=torch.tensor(positions, device=self.lm.device)[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            **({} if self.copies_prefixes else {"shared_prefixes": self._shared_prefixes()}),
        ).logits[: len(rows), -1]
        ended = append_next(rows, logits, self.settings)
        if ended:
            order = self._cache.drop([slot.group for slot in self._slots], ended)
            self._slots = [self._slots[index] for index in order]
        yield from (rows[index] for index in sorted(ended))

    def _mask(self, num_rows: int) -> Tensor:
        """Return the step's mask; it is additive for attention that takes no boolean mask."""
        attends = self._cache.begin_step(num_rows)
        if self.lm.model.config._attn_implementation in BOOLEAN_MASKED:
            return attends
        mask = torch.zeros(attends.shape, dtype=self.lm.dtype, device=self.lm.device)
        return mask.masked_fill_(~attends, torch.finfo(self.lm.dtype).min)

    def _shared_prefixes(self) -> list[tuple[GrowingCache, slice]]:
        """Return the prefixes of the rows in slots, each with its slots."""
        shared, start = [], 0
        for _, members in groupby(self._slots, lambda slot: slot.group):
            slots = list(members)
            if slots[0].num_shared:
                shared.append((slots[0].prefix, slice(start, start + len(slots))))
            start += len(slots)
        return shared


def takes_shared_prefixes(model: torch.nn.Module) -> bool:
    """Return whether the model's code lets rows of a batch attend to a single copy of a prefix's cache."""
    supported: bool = getattr(model, "takes_shared_prefixes", False)
    return supported and getattr(model.config, "_attn_implementation", "") in BOOLEAN_MASKED


def _rounded(num_rows: int, most: int) -> int:
    """Return the next power of two, at most `most`."""
    return min(1 << (num_rows - 1).bit_length(), most)
