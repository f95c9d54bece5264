"""The rows that a run is trained on, as tokens."""

from dataclasses import dataclass, replace
from typing import cast

from transformers import PreTrainedTokenizerBase

from workbench.config import Config
from workbench.config.data import DataConfig
from workbench.data.classes import is_unlabelled
from workbench.data.classification import label_names
from workbench.data.conversations import is_chat
from workbench.data.encode import Encoded, encode
from workbench.data.formats import row_format
from workbench.data.holdout import HoldOut, hold_out
from workbench.data.rows import Row, load_rows
from workbench.data.streaming import encode_streamed, streamed_rows
from workbench.distributed import rank_and_world_size
from workbench.pipeline.step_inputs import is_classifier, named_data
from workbench.pipeline.tokenizers import training_tokenizer
from workbench.run_dir import RunDir

STREAMED = "data.streaming reads them one after the other (data.validation_fraction=0.01 holds out 1%)"
"""Why no row is held out by itself where rows are streamed."""


def limits_of_comparison(data: DataConfig, has_benchmarks: bool) -> list[str]:
    """What the comparison on held-out rows leaves out for this kind of data, a line each."""
    if data.validation_fraction == 0 or (data.streaming and not data.validation_fraction):
        return []
    said = []
    if data.streaming:
        said.append(
            "data.streaming: held-out rows are told by their last prompt alone; an earlier turn of theirs "
            "may be trained in another row"
        )
    if (data.streaming or data.regression) and not has_benchmarks:
        key = "data.streaming" if data.streaming else "data.regression"
        said.append(f"{key}: held-out rows give the validation loss, and no benchmark that compares models")
    return said


@dataclass(frozen=True)
class Examples:
    """What is trained on, and what is held out."""

    tokenizer: PreTrainedTokenizerBase
    training: Encoded
    validation: Encoded | None
    rows: list[Row]
    """That are trained on, as they were read; none where they are streamed."""
    hold_out: HoldOut
    """Which rows are held out, and why none are; empty where rows are streamed."""
    labels: list[str]
    """Of a classifier, in the order of their numbers."""


def without_unlabelled(split: HoldOut, labels: list[str]) -> HoldOut:
    """The same, but for held-out rows without a class: these are dropped and counted with the others."""
    lost = [row for row in split.held_out if is_unlabelled(row, labels)]
    held_out = [row for row in split.held_out if not is_unlabelled(row, labels)]
    return replace(split, training=split.training + lost, held_out=held_out)


def trained_on_chats(config: Config, rows: list[Row]) -> bool | None:
    """Whether the first row of any source has roles that a chat template writes out; None: not known."""
    if is_classifier(config):
        return None
    first = rows[0] if rows else next(streamed_rows(config.data, config.seed))
    firsts = {row.source: row for row in reversed(rows)} or {first.source: first}
    shapes = {
        source: row_format(row, config.data.of_source(source), config.model.task)
        for source, row in firsts.items()
    }
    return any(is_chat(row, shapes[source]) for source, row in firsts.items())


def encoded_examples(config: Config, run_dir: RunDir) -> Examples:
    """The rows of the data section, in the model's tokens."""
    tokenizer = training_tokenizer(config)
    named = named_data(config)
    if config.data.streaming:
        labels = label_names([], named) if is_classifier(config) else []
        folder = run_dir.cache / f"rows-{rank_and_world_size()[0]}"
        training, validation = encode_streamed(
            config.data, tokenizer, config.model.task, folder, seed=config.seed, names=labels
        )
        reason = STREAMED if config.data.validation_fraction is None else ""
        return Examples(
            cast(PreTrainedTokenizerBase, tokenizer),
            training,
            validation,
            [],
            HoldOut([], [], reason=reason),
            labels,
        )
    rows = load_rows(config.data, config.seed)
    labels = label_names(rows, named) if is_classifier(config) else []
    task = config.model.task
    split = hold_out(rows, config.data, task)
    if config.data.drop_unlabelled:
        split = without_unlabelled(split, labels)
    training = encode(split.training, tokenizer, config.data, task, seed=config.seed, names=labels)
    held_out = split.held_out
    validation = encode(held_out, tokenizer, config.data, task, names=labels) if held_out else None
    return Examples(
        cast(PreTrainedTokenizerBase, tokenizer), training, validation, split.training, split, labels
    )
