"""The rows that a run is trained on, as tokens."""

from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase

from workbench.config import Config
from workbench.data.encode import Encoded, encode
from workbench.data.labelled import label_names
from workbench.data.rows import Row, load_rows, split_rows
from workbench.data.streaming import encode_streamed
from workbench.models.loading import load_tokenizer
from workbench.pipeline.inputs import is_classifier, named_data
from workbench.ranks import ranks
from workbench.run_dir import RunDir


@dataclass(frozen=True)
class Examples:
    """What is trained on, and what is held out."""

    tokenizer: PreTrainedTokenizerBase
    training: Encoded
    validation: Encoded | None
    rows: list[Row]
    """That are trained on, as they were read; none where they are streamed."""
    labels: list[str]
    """Of a classifier, in the order of their numbers."""


def encoded_examples(config: Config, run_dir: RunDir) -> Examples:
    """The rows of the data section, in the model's tokens."""
    tokenizer = load_tokenizer(config.model)
    named = named_data(config)
    if config.data.streaming:
        labels = label_names([], named) if is_classifier(config) else []
        folder = run_dir.cache / f"rows-{ranks()[0]}"
        training, validation = encode_streamed(
            config.data, tokenizer, config.model.task, folder, seed=config.seed, names=labels
        )
        return Examples(cast(PreTrainedTokenizerBase, tokenizer), training, validation, [], labels)
    rows = load_rows(config.data, config.seed)
    labels = label_names(rows, named) if is_classifier(config) else []
    kept, held_out = split_rows(rows, config.data.validation_fraction, config.seed)
    task = config.model.task
    training = encode(kept, tokenizer, config.data, task, seed=config.seed, names=labels)
    validation = encode(held_out, tokenizer, config.data, task, names=labels) if held_out else None
    return Examples(cast(PreTrainedTokenizerBase, tokenizer), training, validation, kept, labels)
