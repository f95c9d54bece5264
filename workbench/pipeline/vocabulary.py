"""The tokenizer and extend steps: a vocabulary learned from text, alone or on top of an old model's."""

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
from workbench.pipeline.step_inputs import content, skipped
from workbench.run_dir import fingerprint, new_folder
from workbench.run_record import RunRecord

log = logging.getLogger("workbench")

MEASURED = 1000
"""Texts on which it is counted how much a token holds."""


def check_text(run: Run) -> list[str]:
    """The texts to learn from: every string of every row, whatever its column.

    Raises:
        ConfigError: neither text nor pieces are given.
        CheckpointError: the pieces are nowhere.
        DataError: the file is missing, malformed or empty.
    """
    config = run.config
    if Step.extend in config.steps and config.tokenizer.pieces:
        locate_tokenizer(config.tokenizer.pieces, "tokenizer.pieces")
    if not config.data.path and not config.data.sources:
        if Step.extend in config.steps and config.tokenizer.pieces:
            return []
        raise ConfigError("data.path: not given (a file, folder or hub id of text to learn from)")
    return [text for row in run.rows for text in strings(row.values)]


def strings(value: Any) -> Iterator[str]:
    """The strings within a row's values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def tokenizer(run: Run) -> None:
    """Learn a tokenizer from the rows of `data.path`."""
    config, run_dir = run.config, run.run_dir
    inputs, record = learned_from(config), RunRecord(run_dir.run_json)
    if skipped("tokenizer", record.is_finished("tokenizer", inputs, run_dir.tokenizer), config):
        return
    texts = check_text(run)
    learned = learn_vocabulary.learn(texts, config.tokenizer)
    with new_folder(run_dir.tokenizer) as temporary:
        learned.save_pretrained(temporary)
    held = learn_vocabulary.characters_per_token(learned, texts[:MEASURED])
    log.info(
        "tokenizer: %d tokens from %d texts, %.2f characters a token; %s",
        len(learned),
        len(texts),
        held,
        run_dir.tokenizer,
    )
    record.finish("tokenizer", inputs, run_dir.tokenizer, {"characters_per_token": held})


def extend(run: Run) -> None:
    """Give the model at `model.path` new tokens, learned from text or taken from another tokenizer.

    Raises:
        ConfigError: nothing new to add.
        CheckpointError: the tokenizers can't be joined.
    """
    config, run_dir = run.config, run.run_dir
    inputs, record = learned_from(config), RunRecord(run_dir.run_json)
    if skipped("extend", record.is_finished("extend", inputs, run_dir.extended), config):
        return
    texts = check_text(run)
    place = config.tokenizer.pieces
    pieces = read_tokenizer(locate_tokenizer(place, "tokenizer.pieces")) if place else None
    old = read_tokenizer(tokenizer_place(config.model))
    load_tokenizer(config.model)  # fits the embedding, or says why not
    with new_folder(run_dir.extended) as temporary:
        new = learn_vocabulary.extend(old, texts, pieces, config.tokenizer, temporary)
        count = extend_model(config.model, old, new, temporary, config.export.max_shard_size)
    held = [learn_vocabulary.characters_per_token(each, texts[:MEASURED]) for each in (old, new)]
    log.info("extend: %d new tokens behind %d old ones; %s", count, len(new) - count, run_dir.extended)
    if texts:
        log.info("extend: a token of this text holds %.2f characters, before it was %.2f", held[1], held[0])
    record.finish("extend", inputs, run_dir.extended, {"characters_per_token": held})


def learned_from(config: Config) -> str:
    """Fingerprint of what decides the tokens."""
    section = {**hashed(config.tokenizer, "tokenizer"), "pieces": content(config.tokenizer.pieces)}
    data = {**hashed(config.data, "data"), "path": content(config.data.path)}
    model = {**hashed(config.model, "model"), "path": content(config.model.path)}
    return fingerprint([section, data, model, config.seed])
