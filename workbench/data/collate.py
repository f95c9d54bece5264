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
    """Builds a training batch from encoded rows of different lengths."""

    pad_token_id: int
    joined: bool = False
    """False: pad the rows (see `pad`). True: concatenate them to one sequence (see `join`)."""

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Build a batch of tensors from rows of `Encoded.dataset`, by `pad` or `join`.

        If the rows have the column `row`, the batch has their numbers as a tensor of shape (rows,).
        """
        batch = self.join(features) if self.joined else self.pad(features)
        if "row" in features[0]:
            batch["row"] = torch.tensor([feature["row"] for feature in features])
        return batch

    def pad(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Pad rows on the right: `input_ids`, `attention_mask` and `labels` have the shape (batch, seq_len).

        Labels are padded with -100. A classifier's labels, class indices or numbers, have the shape (batch,).
        Rows without labels give a batch without `labels`.
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
        return batch

    def join(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Concatenate rows: `input_ids`, `labels` and `position_ids` have the shape (1, number of tokens).

        Position ids start at 0 in each text; there is no attention mask, so the model must separate the texts
        by them. The label of each text's first token must already be -100: no token before it predicts it.
        """
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
    """Pad rows, none longer than `width`, on the right with `value`; return int64 of shape (batch, width)."""
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
