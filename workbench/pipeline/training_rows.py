"""The examples that a run trains on: its rows in the tokens of its model."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from workbench.api.examples import Examples, encode_examples
from workbench.config import Config
from workbench.config.data import DataConfig
from workbench.data.classification import label_names
from workbench.data.conversations import is_chat
from workbench.data.encode import Encoding
from workbench.data.formats import row_format
from workbench.data.holdout import HoldOut
from workbench.data.rows import Row
from workbench.data.streaming import encode_streamed, streamed_rows
from workbench.distributed import rank_and_world_size
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.tokenizers import training_tokenizer

STREAMED = "data.streaming reads them one by one (data.validation_fraction=0.01 holds out 1%)"
"""Why no row is held out by default if rows are streamed."""


def encoded_examples(run: Run) -> Examples:
    """Encode the rows of the data section, split into training and held-out rows.

    Raises:
        WorkbenchError: A row can't be read, or nothing is left to train on.
    """
    config, tokenizer = run.config, training_tokenizer(run)
    if config.data.streaming:
        return streamed_examples(run, tokenizer)
    labels = label_names(run.rows, run.data) if is_classifier(config) else []
    encoding = Encoding(tokenizer, config.data, config.model.task, config.seed, labels)
    return encode_examples(run.hold_out, encoding)


def streamed_examples(run: Run, tokenizer: PreTrainedTokenizerFast) -> Examples:
    """Encode streamed rows into files in the run's cache folder, one folder for each rank.

    The result has no rows, only their token ids.

    Raises:
        WorkbenchError: A row can't be read, or nothing is left to train on.
    """
    config = run.config
    labels = label_names([], run.data) if is_classifier(config) else []
    folder = run.run_dir.cache / f"rows-{rank_and_world_size()[0]}"
    encoding = Encoding(tokenizer, config.data, config.model.task, names=labels)
    training, validation = encode_streamed(encoding, folder, config.seed)
    reason = STREAMED if config.data.validation_fraction is None else ""
    return Examples(tokenizer, training, validation, [], HoldOut([], [], reason=reason), labels)


def limits_of_comparison(data: DataConfig, has_benchmarks: bool) -> list[str]:
    """Return lines for the log on what a comparison on held-out rows leaves out for this kind of data.

    The list is empty if there is nothing to say.

    Args:
        data: The data section.
        has_benchmarks: Whether the run has benchmarks.
    """
    if data.validation_fraction == 0 or (data.streaming and not data.validation_fraction):
        return []
    limits = []
    if data.streaming:
        limits.append(
            "data.streaming: held-out rows are recognized by their last prompt only, so an earlier turn of "
            "theirs may be in a training row"
        )
    if (data.streaming or data.regression) and not has_benchmarks:
        key = "data.streaming" if data.streaming else "data.regression"
        limits.append(f"{key}: the models are compared by the validation loss only, not on held-out answers")
    return limits


def trained_on_chats(config: Config, rows: Sequence[Row]) -> bool | None:
    """Return whether the rows of any source are chats, judged by each source's first row; see `is_chat`.

    None for a classifier. Without `rows`, as for streamed data, only the first row of the data is read.

    Raises:
        DataError, ConfigError: The first row can't be read, or a row has no known format.
    """
    if is_classifier(config):
        return None
    first = rows[0] if rows else next(streamed_rows(config.data, config.seed))
    first_rows = {first.source: first}
    for row in rows:
        first_rows.setdefault(row.source, row)
    return any(
        is_chat(row, row_format(row, config.data.of_source(source), config.model.task))
        for source, row in first_rows.items()
    )
