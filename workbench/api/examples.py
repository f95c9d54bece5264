"""The examples of a training, as `finetune` and the train step make them from rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from workbench.config.data import DataConfig
from workbench.config.model import ModelConfig, Task
from workbench.data.classes import is_unlabelled
from workbench.data.classification import named_by_head
from workbench.data.encode import Encoding, encode
from workbench.data.encoded import Encoded
from workbench.data.holdout import HoldOut
from workbench.data.readers.row_store import concatenate, select
from workbench.data.rows import Row
from workbench.models.head_labels import head_labels


@dataclass(frozen=True)
class Examples:
    """Encoded training and validation rows, with the tokenizer and the rows that they were encoded from."""

    tokenizer: PreTrainedTokenizerBase
    training: Encoded
    """The encoded rows to train on."""
    validation: Encoded | None
    """The encoded held-out rows; None: no rows are held out."""
    rows: Sequence[Row]
    """The training rows as they were read; empty if they are streamed."""
    hold_out: HoldOut
    """Which rows are held out, or why none are; empty if rows are streamed."""
    labels: list[str]
    """Classes of a classifier by number; empty for a causal model."""


def encode_examples(split: HoldOut, encoding: Encoding) -> Examples:
    """Encode the rows to train on and the rows held out.

    With `data.drop_unlabelled`, held-out rows without a class become training rows, and encoding drops them.

    Args:
        split: The rows to train on and the rows held out.
        encoding: How to encode them; its `names` are the classes of a classifier.

    Raises:
        DataError: A row can't be encoded, or no row is left to train on.
    """
    labels = list(encoding.names)
    if encoding.data.drop_unlabelled:
        split = _without_unlabelled(split, labels)
    training = encode(split.training, encoding)
    validation = encode(split.held_out, replace(encoding, seed=0)) if split.held_out else None
    return Examples(encoding.tokenizer, training, validation, split.training, split, labels)


def name_classes(data: DataConfig, model: ModelConfig, adapter: str | None) -> DataConfig:
    """Return the data section with `labels`: if empty, the classes of the head that the training starts from.

    For a causal model, and for a head without class names, the section is returned unchanged.

    Args:
        data: The data section.
        model: The base model.
        adapter: Path of the adapter to train further; None: a new adapter.

    Raises:
        ConfigError: `data.labels` has other classes, or another order.
        DataError: `data.labels_file` can't be read.
        CheckpointError: The files of the adapter or the model can't be read.
    """
    if model.task is not Task.sequence_classification:
        return data
    return named_by_head(data, head_labels(model, adapter), f"the head of {adapter or model.path!r}")


def _without_unlabelled(split: HoldOut, labels: list[str]) -> HoldOut:
    """Return the split with its held-out rows that have no class moved to the training rows.

    Encoding drops and counts unlabelled training rows.
    """
    unlabelled = {number for number, row in enumerate(split.held_out) if is_unlabelled(row, labels)}
    labelled = [number for number in range(len(split.held_out)) if number not in unlabelled]
    training = concatenate(split.training, select(split.held_out, sorted(unlabelled)))
    return replace(split, training=training, held_out=select(split.held_out, labelled))
