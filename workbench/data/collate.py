"""Rows as one batch of tensors, padded on the right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.data.tokens import IGNORED


@dataclass(frozen=True)
class Collator:
    """Makes (batch, seq_len) tensors of rows of different lengths."""

    pad_token_id: int

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Input ids, attention mask and labels; labels are (batch,) class numbers for a classifier.

        A `row` column, where there is one, comes along as (batch,) so that a batch can be traced to its file.
        """
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
        if "row" in features[0]:
            batch["row"] = torch.tensor([feature["row"] for feature in features])
        return batch


def padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    """(batch, width) of int64."""
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
