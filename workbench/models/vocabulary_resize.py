"""A model for a larger vocabulary: rows for the new tokens, each the mean of those that spelled it before."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.config.model import ModelConfig
from workbench.contexts import quiet_transformers
from workbench.models.checkpoints.checkpoint import read
from workbench.models.checkpoints.hub import locate
from workbench.models.checkpoints.stable_embedding import EMBEDDING, HEAD
from workbench.models.checkpoints.validation import fitted
from workbench.models.export import Cast, write_weights
from workbench.models.loading import CLASSES
from workbench.models.open_llama.configuration_open_llama import EXTENDED_FROM
from workbench.models.stored import Stored
from workbench.models.tokenizers.learn_vocabulary import subpieces


@dataclass(frozen=True)
class Extended:
    """A stored table of rows with new ones, made when it is asked for."""

    stored: Stored
    size: int
    """Rows in all."""
    parts: Mapping[int, list[int]]
    """Each new row -> the old rows of which it is the mean."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The extended table's shape."""
        return (self.size, *self.stored.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The table's type."""
        return self.stored.dtype

    def __getitem__(self, index: Any, /) -> Tensor:
        """The table, for `...`."""
        old = self.stored[...]
        table = old.new_zeros(self.shape)
        table[: len(old)] = old
        for row, parts in self.parts.items():
            table[row] = old[parts].float().mean(0)
        return table


def extend_model(
    model: ModelConfig,
    old: PreTrainedTokenizerFast,
    new: PreTrainedTokenizerFast,
    folder: Path,
    max_shard_size: str,
) -> int:
    """Write the model at `model.path` as an Open-Llama with a row for each token of `new`; how many are new.

    Its config.json says from which row on they are, so that an adapter trains them with the rest; with those
    of an earlier extension, which may not have been trained yet.

    Args:
        model: The section.
        old: The tokenizer of that model.
        new: Its extension.
        folder: Where `new` lies already.
        max_shard_size: Of a file of weights, such as `4GB`.

    Raises:
        CheckpointError: the checkpoint is damaged or doesn't fit.
    """
    source = locate(model.path, model.revision)
    checkpoint = read(source)
    tensors = fitted(checkpoint, CLASSES[model.task])
    if source.is_file():
        tensors = {name: Cast(tensor, torch.bfloat16) for name, tensor in tensors.items()}
    parts = subpieces(old, new)
    size = max(checkpoint.config.vocab_size, max(parts) + 1)
    for name in {EMBEDDING, HEAD} & set(tensors):
        tensors[name] = Extended(tensors[name], size, parts)
    config = checkpoint.config
    config.vocab_size = size
    config.tie_word_embeddings = config.ties_embeddings  # peft looks at no other field
    config.architectures, config.dtype = [CLASSES[model.task].__name__], tensors[EMBEDDING].dtype
    setattr(config, EXTENDED_FROM, min([*parts, getattr(config, EXTENDED_FROM, size)]))
    with quiet_transformers():
        config.save_pretrained(folder)
        if checkpoint.generation is not None:
            checkpoint.generation.save_pretrained(folder)
    write_weights(tensors, folder, max_shard_size)
    return len(parts)
