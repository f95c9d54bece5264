"""Collates rows into batches: padded on the right, or concatenated without padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.config.names import IGNORED
from workbench.data.packing import positions


@dataclass(frozen=True)
class Collator:
    """Builds a batch from rows of different lengths."""

    pad_token_id: int
    joined: bool = False
    """Concatenate all rows; position ids separate them, for causal models that support this."""

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Build the batch; a `row` column becomes a tensor (rows,), which traces the batch to its file."""
        batch = self.join(features) if self.joined else self.pad(features)
        if "row" in features[0]:
            batch["row"] = torch.tensor([feature["row"] for feature in features])
        return batch

    def pad(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return (batch, seq_len) ids, attention mask and labels; (batch,) class numbers for a classifier."""
        width = max(len(feature["input_ids"]) for feature in features)
        batch = {
            "input_ids": padded([feature["input_ids"] for feature in features], width, self.pad_token_id),
            "attention_mask": padded([[1] * len(feature["input_ids"]) for feature in features], width, 0),
        }
        labels = [feature["labels"] for feature in features if "labels" in feature]
        if labels and isinstance(labels[0], int | float):
            batch["labels"] = torch.tensor(labels)
        elif labels:
            batch["labels"] = padded(labels, width, IGNORED)
        return batch

    def join(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return (1, all tokens) ids, labels, position ids; the first token of each text must be masked."""
        position_ids = [
            position
            for feature in features
            for position in feature.get("position_ids") or positions([len(feature["input_ids"])])
        ]
        return {
            "input_ids": torch.tensor([[token for feature in features for token in feature["input_ids"]]]),
            "labels": torch.tensor([[label for feature in features for label in feature["labels"]]]),
            "position_ids": torch.tensor([position_ids]),
        }


def padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    """Pad rows with `value` to a (batch, width) tensor of int64."""
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
