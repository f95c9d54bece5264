"""Rows as one batch of tensors: padded on the right, or joined end to end without any padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.data.packing import positions
from workbench.labels import IGNORED


@dataclass(frozen=True)
class Collator:
    """Makes a batch of rows of different lengths."""

    pad_token_id: int
    joined: bool = False
    """All rows in one, told apart by their position ids: for causal models that mind these."""

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch; a `row` column comes along as (rows,), so that a batch can be traced to its file."""
        batch = self.join(features) if self.joined else self.pad(features)
        if "row" in features[0]:
            batch["row"] = torch.tensor([feature["row"] for feature in features])
        return batch

    def pad(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """(batch, seq_len) ids, attention mask and labels; (batch,) class numbers for a classifier."""
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
        """(1, all tokens) ids, labels and position ids; rows must have no label on the first of a text."""
        places = [
            place
            for feature in features
            for place in feature.get("position_ids") or positions([len(feature["input_ids"])])
        ]
        return {
            "input_ids": torch.tensor([[token for feature in features for token in feature["input_ids"]]]),
            "labels": torch.tensor([[label for feature in features for label in feature["labels"]]]),
            "position_ids": torch.tensor([places]),
        }


def padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    """(batch, width) of int64."""
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
