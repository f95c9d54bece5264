"""Tells which texts may share a forward pass if a model's rotary frequencies depend on the text's length.

With the rope types `dynamic` and `longrope`, the longest text of a pass decides the frequencies of all texts
in it, and transformers' dynamic type keeps those of the longest text so far. Scores are those of each text
alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from workbench.evaluation.inference import encoding
from workbench.model_trials.lengths import rope_type, ropes, unchanged_length


class RopeLengths:
    """The length from which a model's rotary frequencies depend on the length of a text."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read the rope types of all layers from the model's configuration."""
        lengths = [(rope_type(rope), unchanged_length(rope, model.config)) for rope in ropes(model.config)]
        self.longest_unchanged: int | None = min((length for _, length in lengths if length), default=None)
        """Number of tokens up to which the frequencies are the same; None: at any length."""
        self.longest_short: int | None = min(
            (length for kind, length in lengths if length and kind == "longrope"), default=None
        )
        """Number of tokens up to which longrope has its short frequencies; None: there is no longrope.

        Keys of a cache that were computed with the short ones are computed again for a longer text.
        """
        self._dynamic = [module for module in model.modules() if hasattr(module, "max_seq_len_cached")]

    def is_unchanged(self, length: int) -> bool:
        """Return whether a text of `length` tokens has the same frequencies as shorter texts."""
        return self.longest_unchanged is None or length <= self.longest_unchanged

    def is_recomputed(self, length: int) -> bool:
        """Return whether a text that has just grown to `length` tokens is computed again without a cache."""
        return self.longest_short is not None and length == self.longest_short + 1

    def batches(self, inputs: Sequence[tuple[int, ...]], budget: int) -> Iterator[list[tuple[int, ...]]]:
        """Yield the batches of `encoding.batches`, each of sequences that have the same frequencies.

        Args:
            inputs: Token sequences sorted by length.
            budget: Tokens of a batch, padding included.
        """
        for _, group in groupby(inputs, lambda tokens: 0 if self.is_unchanged(len(tokens)) else len(tokens)):
            yield from encoding.batches(list(group), budget)

    def reset(self) -> None:
        """Let transformers' dynamic type forget longer texts: one position within the trained length does."""
        if self.longest_unchanged is None:
            return
        for module in self._dynamic:
            _rotate_first_position(module)


def _rotate_first_position(module: nn.Module) -> None:
    """Call a rotary embedding of transformers for position 0, which resets its frequencies."""
    device = next(module.buffers()).device
    types: Any = getattr(module, "rope_type", None)
    for layer_type in types if isinstance(types, Mapping) else [None]:
        named = {} if layer_type is None else {"layer_type": layer_type}
        module(
            torch.zeros(1, 1, 1, device=device), torch.zeros(1, 1, dtype=torch.long, device=device), **named
        )
