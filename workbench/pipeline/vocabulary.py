"""The tokenizer and extend steps: learn a vocabulary from text, or add tokens to that of a model."""

import logging
from collections.abc import Iterator
from typing import Any

from workbench.config import Config, Step
from workbench.config.history import hashed
from workbench.errors import ConfigError
from workbench.models.checkpoints.hub import locate_tokenizer
from workbench.models.tokenizers import learn_vocabulary
from workbench.models.tokenizers.load_tokenizer import load_tokenizer, read_tokenizer, tokenizer_place
from workbench.models.vocabulary_resize import extend_model
from workbench.pipeline.run_state import Run
from workbench.pipeline.step_inputs import content, row_inputs, skip_finished
from workbench.run_dir import fingerprint, new_folder
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

MEASURED_TEXTS = 1000
"""Number of texts on which the characters per token are measured."""


def read_texts(run: Run) -> list[str]:
    """Return the texts to learn from: every string of every row. Empty if `extend` has `pieces` and no data.

    Raises:
        ConfigError: Neither text nor `tokenizer.pieces` is given.
        CheckpointError: There is no tokenizer at `tokenizer.pieces`.
        DataError: The file is missing, malformed or empty.
    """
    config = run.config
    if Step.extend in config.steps and config.tokenizer.pieces:
        locate_tokenizer(config.tokenizer.pieces, "tokenizer.pieces")
    if not config.data.path and not config.data.sources:
        if Step.extend in config.steps and config.tokenizer.pieces:
            return []
        raise ConfigError("data.path: not given (a file, folder or hub id with text to learn from)")
    return [text for row in run.rows for text in strings(row.values)]


def strings(value: Any) -> Iterator[str]:
    """Yield the strings in a row's values, nested ones too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def tokenizer(run: Run) -> None:
    """Learn a tokenizer from the rows of the data section, and write it into the run's folder.

    If it is finished with the same inputs, it is not repeated. `models.tokenizers.learn_vocabulary` does the
    work; the Python interface has no function for it.

    Raises:
        ConfigError, DataError: As `read_texts` says.
    """
    config, run_dir = run.config, run.run_dir
    inputs, record = vocabulary_fingerprint(config), RunRecord(run_dir.run_json)
    if skip_finished("tokenizer", record.is_finished("tokenizer", inputs, run_dir.tokenizer), config):
        return
    texts = read_texts(run)
    learned = learn_vocabulary.learn(texts, config.tokenizer)
    with new_folder(run_dir.tokenizer) as temporary:
        learned.save_pretrained(temporary)
    characters = learn_vocabulary.characters_per_token(learned, texts[:MEASURED_TEXTS])
    log.info(
        "tokenizer: %d tokens from %d texts, %.2f characters per token; %s",
        len(learned),
        len(texts),
        characters,
        run_dir.tokenizer,
    )
    record.finish("tokenizer", inputs, run_dir.tokenizer, {"characters_per_token": characters})


def extend(run: Run) -> None:
    """Write a copy of the model at `model.path` with more tokens, learned from text or of another tokenizer.

    The copy, with its tokenizer, is in the run's folder. If it is finished with the same inputs, it is not
    repeated. `models.vocabulary_resize` does the work; the Python interface has no function for it.

    Raises:
        ConfigError: There are no new tokens.
        CheckpointError: The two tokenizers are of different types.
    """
    config, run_dir = run.config, run.run_dir
    inputs, record = vocabulary_fingerprint(config), RunRecord(run_dir.run_json)
    if skip_finished("extend", record.is_finished("extend", inputs, run_dir.extended), config):
        return
    texts = read_texts(run)
    path = config.tokenizer.pieces
    pieces = read_tokenizer(locate_tokenizer(path, "tokenizer.pieces")) if path else None
    old = read_tokenizer(tokenizer_place(config.model))
    load_tokenizer(config.model)  # raises if it doesn't fit the embedding
    with new_folder(run_dir.extended) as temporary:
        new = learn_vocabulary.extend(old, texts, pieces, config.tokenizer, temporary)
        count = extend_model(config.model, old, new, temporary, config.export.max_shard_size)
    before, after = (
        learn_vocabulary.characters_per_token(tokenizer, texts[:MEASURED_TEXTS]) for tokenizer in (old, new)
    )
    log.info("extend: %d tokens added to %d; %s", count, len(new) - count, run_dir.extended)
    if texts:
        log.info("extend: %.2f characters per token on this text, %.2f before", after, before)
    record.finish("extend", inputs, run_dir.extended, {"characters_per_token": [before, after]})


def vocabulary_fingerprint(config: Config) -> str:
    """Return the fingerprint of the settings and files that the learned tokens depend on."""
    section = {**hashed(config.tokenizer, "tokenizer"), "pieces": content(config.tokenizer.pieces)}
    model = {**hashed(config.model, "model"), "path": content(config.model.path)}
    return fingerprint([section, row_inputs(config.data), model, config.seed])
