"""The plan step, and what it assumes where the model's folder or the configuration doesn't say it."""

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from workbench.config import Config
from workbench.data.classification import label_names
from workbench.distributed import rank_and_world_size
from workbench.errors import ConfigError
from workbench.models.loading import has_weights
from workbench.models.tokenizers.load_tokenizer import has_tokenizer
from workbench.pipeline.plan.forecast import log_forecast, log_forecast_of_examples, say
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import is_classifier
from workbench.pipeline.training_rows import encoded_examples
from workbench.run_dir import RunDir
from workbench.training.estimate.workload import RowSizes

log = logging.getLogger("workbench")


def plan(run: Run) -> None:
    """Log the memory and time that this configuration's training will need, without loading the model.

    A folder with a config.json alone is enough: what is missing is assumed, and the log says so.

    Raises:
        WorkbenchError: The model's configuration or a row can't be read, or rows are too long for the model.
    """
    config = run.config
    if not (has_weights(config.model) or config.model.init):
        say("no weights: sizes and number format are those of config.json")
    if has_rows(config) and has_tokenizer(config.model):
        plan_for_rows(run)
    else:
        plan_for_assumed_rows(run)


def has_rows(config: Config) -> bool:
    """Return whether the configuration names training rows."""
    return bool(config.data.path or config.data.sources)


def plan_for_rows(run: Run) -> None:
    """Encode the rows of the data section, and log the memory and time that a training on them will need.

    Nothing is written into the run's folder.

    Raises:
        WorkbenchError: A row can't be read or is too long for the model, or the model's files can't be used.
    """
    with TemporaryDirectory() as folder:
        if run.config.data.streaming:  # the rows go to the disk as tokens, but not into the run's folder
            run = replace(run, run_dir=RunDir(Path(folder)))
        examples = encoded_examples(run)
        log.info("data: %s", examples.training.account)
        log_forecast_of_examples(run, examples)


def plan_for_assumed_rows(run: Run) -> None:
    """Log the memory and time of a training on rows of `data.max_length` tokens, the longest there can be.

    Raises:
        ConfigError: `data.max_length` is more than the model's context.
        DataError: The rows or classes can't be read.
    """
    config, length = run.config, run.config.data.max_length
    num_rows = len(run.hold_out.training) if has_rows(config) and not config.data.streaming else None
    check_context(run)
    reason = "no tokenizer" if has_rows(config) else "no data.path"
    rows = f"each of {num_rows:,} rows" if num_rows else "each row"
    say(f"{reason}: {rows} is assumed to have data.max_length={length} tokens, all of them unmasked")
    if not has_tokenizer(config.model):
        vocabulary = run.model_config.get_text_config().vocab_size
        say(f"no tokenizer: the vocabulary has {vocabulary:,} tokens by config.json")
    is_known = num_rows is not None or config.train.max_steps > 0
    log_forecast(
        run,
        assumed_rows(config, num_rows or rows_per_step(config)),
        num_classes(run),
        is_one_step=not is_known,
    )


def check_context(run: Run) -> None:
    """Refuse a `data.max_length` beyond the model's context.

    Raises:
        ConfigError: It is larger; the message has the length of the context.
    """
    length = run.config.data.max_length
    context = getattr(run.model_config.get_text_config(), "max_position_embeddings", None)
    if isinstance(context, int) and 0 < context < length:
        raise ConfigError(
            f"data.max_length: {length} is more than the model's context (data.max_length={context})"
        )


def assumed_rows(config: Config, count: int) -> RowSizes:
    """Return the sizes of `count` assumed rows of `data.max_length` tokens, all of them unmasked."""
    length, is_class = config.data.max_length, is_classifier(config)
    labelled = [1 if is_class else length] * count
    return RowSizes([length] * count, labelled, length, joined=not is_class)


def rows_per_step(config: Config) -> int:
    """Return the number of rows of `data.max_length` tokens in an optimizer step of all ranks."""
    train = config.train
    batch = train.per_device_batch_size
    if train.max_tokens_per_batch:
        batch = max(1, train.max_tokens_per_batch // config.data.max_length)
    return batch * train.gradient_accumulation_steps * rank_and_world_size()[1]


def num_classes(run: Run) -> int:
    """Return the number of classes: of `data.labels` or its file, else of the rows, else of config.json.

    0 for a causal model, 1 for regression; 2 if none of these has a number. Streamed rows are not read.

    Raises:
        DataError: The classes can't be read.
    """
    config = run.config
    if not is_classifier(config):
        return 0
    if config.data.regression:
        return 1
    has_names = config.data.labels or config.data.labels_file
    if has_names or (has_rows(config) and not config.data.streaming):
        return len(label_names(run.rows if has_rows(config) else [], run.data))
    return run.model_config.num_labels or 2
