"""The rows that a run is trained on, as tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workbench.config import Config
from workbench.config.data import DataConfig
from workbench.data.classes import is_unlabelled
from workbench.data.classification import label_names
from workbench.data.conversations import is_chat
from workbench.data.encode import Encoding, encode
from workbench.data.encoded import Encoded
from workbench.data.formats import row_format
from workbench.data.holdout import HoldOut
from workbench.data.readers.row_store import chosen, joined
from workbench.data.rows import Row
from workbench.data.streaming import encode_streamed, streamed_rows
from workbench.distributed import rank_and_world_size
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.tokenizers import training_tokenizer

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
    rows: Sequence[Row]
    """That are trained on, as they were read; none where they are streamed."""
    hold_out: HoldOut
    """Which rows are held out, and why none are; empty where rows are streamed."""
    labels: list[str]
    """Of a classifier, in the order of their numbers."""


def without_unlabelled(split: HoldOut, labels: list[str]) -> HoldOut:
    """The same, but for held-out rows without a class: these are dropped and counted with the others."""
    is_lost = [is_unlabelled(row, labels) for row in split.held_out]
    lost = chosen(split.held_out, [number for number, gone in enumerate(is_lost) if gone])
    held_out = chosen(split.held_out, [number for number, gone in enumerate(is_lost) if not gone])
    return replace(split, training=joined(split.training, lost), held_out=held_out)


def trained_on_chats(config: Config, rows: Sequence[Row]) -> bool | None:
    """Whether the first row of any source has roles that a chat template writes out; None: not known."""
    if is_classifier(config):
        return None
    first = rows[0] if rows else next(streamed_rows(config.data, config.seed))
    firsts = {first.source: first}
    for row in rows:
        firsts.setdefault(row.source, row)
    shapes = {
        source: row_format(row, config.data.of_source(source), config.model.task)
        for source, row in firsts.items()
    }
    return any(is_chat(row, shapes[source]) for source, row in firsts.items())


def encoded_examples(run: Run) -> Examples:
    """The rows of the data section, in the model's tokens."""
    config, tokenizer = run.config, training_tokenizer(run)
    if config.data.streaming:
        return streamed_examples(run, tokenizer)
    labels = label_names(run.rows, run.data) if is_classifier(config) else []
    split = run.hold_out
    if config.data.drop_unlabelled:
        split = without_unlabelled(split, labels)
    encoding = Encoding(tokenizer, config.data, config.model.task, config.seed, labels)
    training = encode(split.training, encoding)
    validation = encode(split.held_out, replace(encoding, seed=0)) if split.held_out else None
    return Examples(tokenizer, training, validation, split.training, split, labels)


def streamed_examples(run: Run, tokenizer: PreTrainedTokenizerFast) -> Examples:
    """The same of rows that are streamed: they go to the disk as tokens, and none is kept as it was read."""
    config = run.config
    labels = label_names([], run.data) if is_classifier(config) else []
    folder = run.run_dir.cache / f"rows-{rank_and_world_size()[0]}"
    encoding = Encoding(tokenizer, config.data, config.model.task, names=labels)
    training, validation = encode_streamed(encoding, folder, config.seed)
    reason = STREAMED if config.data.validation_fraction is None else ""
    return Examples(tokenizer, training, validation, [], HoldOut([], [], reason=reason), labels)
