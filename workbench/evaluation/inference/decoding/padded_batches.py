"""Decodes prompts whose prefixes can't be shared, because of their length, in batches padded on the left."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch

from workbench.evaluation.inference import encoding
from workbench.evaluation.inference.decoding.next_tokens import append_next
from workbench.evaluation.inference.decoding.preallocated_cache import GrowingCache
from workbench.evaluation.inference.decoding.row import Row
from workbench.evaluation.inference.decoding.settings import DecodingSettings

_ROWS = 32
"""Largest number of prompts in a batch."""


class PaddedBatches:
    """Continues prompts that exceed a window, or up to which a model's rotary frequencies change."""

    def __init__(self, settings: DecodingSettings) -> None:
        """Create it for a model."""
        self.settings, self.lm = settings, settings.lm

    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield each row with its `generated` tokens, batch by batch.

        Raises:
            CheckpointError: The model's logits are NaN.
        """
        ordered = sorted(rows, key=lambda row: row.prompt)
        # Rotary frequencies may depend on the longest row.
        size = 1 if self.lm.invariant or self.lm.rope.longest_unchanged is not None else _ROWS
        while ordered:
            end = self._batch_end([len(row.prompt) for row in ordered[:size]])
            batch, ordered = ordered[:end], ordered[end:]
            self.lm.rope.reset()
            self._decode(batch)
            yield from batch

    def _batch_end(self, lengths: Sequence[int]) -> int:
        """Return how many of the next prompts, of these lengths, are decoded as one batch."""
        most_new, most_cached = self.settings.limits.max_new_tokens, self.settings.most_cached
        if most_cached is None:
            return len(lengths)
        longest = accumulate((length + most_new for length in lengths), max)
        fitting = [number * length <= most_cached for number, length in enumerate(longest, 1)]
        return max(1, sum(fitting))

    @torch.no_grad()
    def _decode(self, rows: Sequence[Row]) -> None:
        """Decode all rows as one batch until each has ended; new tokens are appended to `generated`."""
        cache = GrowingCache()
        ids, mask = encoding.pad([row.prompt for row in rows], "left", self.lm.device)  # (rows, longest)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self.lm.computed_tokens += ids.numel()
        while True:
            logits = self.lm.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            ended = append_next(rows, logits, self.settings)
            unfinished = [index for index in range(len(rows)) if index not in ended]
            if not unfinished:
                return
            if len(unfinished) < len(rows):
                keep = torch.tensor(unfinished, device=self.lm.device)
                cache.batch_select_indices(keep)
                mask, positions = mask[keep], positions[keep]
                rows = [rows[index] for index in unfinished]
            ids = torch.tensor([[row.generated[-1]] for row in rows], device=self.lm.device)
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            positions = positions[:, -1:] + 1
            if self.lm.rope.is_recomputed(len(rows[0].tokens)):  # such a row is decoded alone
                ids, cache = torch.tensor([rows[0].tokens], device=self.lm.device), GrowingCache()
                mask = torch.ones_like(ids)
                positions = mask.cumsum(-1) - 1
