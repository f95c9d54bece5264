"""Extends a model to a larger vocabulary: a new token's row is the mean of the rows of its old subtokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.config.model import ModelConfig
from workbench.contexts import quiet_transformers
from workbench.models.adapters.provenance import copy_record
from workbench.models.checkpoints.checkpoint import read
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.checkpoints.validation import fitted
from workbench.models.export import write_weights
from workbench.models.loading import CLASSES
from workbench.models.open_llama.configuration_open_llama import EXTENDED_FROM
from workbench.models.stored import Cast, Stored
from workbench.models.tokenizers.learn_vocabulary import subpieces


@dataclass(frozen=True)
class ExtendedTable:
    """Embedding table of a checkpoint with new rows; each access reads the old rows and computes the new."""

    stored: Stored
    size: int
    """Number of rows after the extension."""
    sources: Mapping[int, list[int]]
    """Index of a new row -> indices of the old rows whose mean it becomes; rows without sources are zero."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the extended table."""
        return (self.size, *self.stored.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the old table, which the extended one has, too."""
        return self.stored.dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """Return a new tensor with old and new rows; the only index is `...`."""
        old = self.stored[...]
        table = old.new_zeros(self.shape)
        table[: len(old)] = old
        for row, sources in self.sources.items():
            table[row] = old[sources].float().mean(0)
        return table


def extend_model(
    model: ModelConfig,
    old: PreTrainedTokenizerFast,
    new: PreTrainedTokenizerFast,
    folder: Path,
    max_shard_size: str,
) -> int:
    """Write the model at `model.path` with a row for each token of `new`; return the number of new tokens.

    The result is an Open-Llama. config.json records the first new row, so that adapters train the new rows;
    if the model was extended before, the first row of that extension, whose rows may be untrained.

    Args:
        model: Section `model` of the configuration.
        old: Tokenizer of the model.
        new: Extended tokenizer.
        folder: Existing folder, which has the files of `new`; gets weights, configuration and generation
            config.
        max_shard_size: Largest size of a weight file, such as `4GB`.

    Raises:
        CheckpointError: The checkpoint is damaged.
        ConfigError: `model.path` is not given.
    """
    source = locate(model.path, model.revision)
    checkpoint = read(source)
    tensors = fitted(checkpoint, CLASSES[model.task])
    if source.is_file():
        tensors = {name: Cast(tensor, torch.bfloat16) for name, tensor in tensors.items()}
    sources = subpieces(old, new)
    size = max(checkpoint.config.vocab_size, max(sources) + 1)
    for name in {EMBEDDING, HEAD} & set(tensors):
        tensors[name] = ExtendedTable(tensors[name], size, sources)
    config = checkpoint.config
    config.vocab_size = size
    config.tie_word_embeddings = config.ties_embeddings  # the only field that peft reads
    config.architectures, config.dtype = [CLASSES[model.task].__name__], tensors[EMBEDDING].dtype
    setattr(config, EXTENDED_FROM, min([*sources, getattr(config, EXTENDED_FROM, size)]))
    with quiet_transformers():
        config.save_pretrained(folder)
        if checkpoint.generation is not None:
            checkpoint.generation.save_pretrained(folder)
    write_weights(tensors, folder, max_shard_size)
    copy_record(source, folder)
    return len(sources)
