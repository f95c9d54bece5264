"""Finds the lengths of a text at which a model may begin to compute otherwise: windows and long ropes."""

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""Fields of configurations with the number of tokens, or places, that a token attends to."""
LENGTH_DEPENDENT_ROPES = ("dynamic", "longrope")
"""Types of rotary embedding whose frequencies depend on the length of the text."""


def windows(config: PreTrainedConfig) -> list[int]:
    """Return the windows of a model's layers, in tokens; [] if all layers attend to all earlier tokens."""
    text = config.get_text_config()
    return sorted(
        {value for name in WINDOWS if type(value := getattr(text, name, None)) is int and value > 0}
    )


def ropes(config: PreTrainedConfig) -> list[Mapping[str, Any]]:
    """Return the parameters of a model's rotary embeddings; each type of layers may have its own."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None)
    if not isinstance(parameters, Mapping):
        return []
    return [value for value in parameters.values() if isinstance(value, Mapping)] or [parameters]


def rope_type(rope: Mapping[str, Any]) -> object:
    """Return the type of a rotary embedding, of its parameters."""
    return rope.get("rope_type", rope.get("type"))


def unchanged_length(rope: Mapping[str, Any], config: PreTrainedConfig) -> int | None:
    """Return the number of tokens up to which all texts have the same frequencies; None: at any length."""
    trained = getattr(config.get_text_config(), "max_position_embeddings", None)
    own = rope.get("original_max_position_embeddings") if rope_type(rope) == "longrope" else None
    length = (own or trained) if rope_type(rope) in LENGTH_DEPENDENT_ROPES else None
    return int(length) if length else None


def edges(config: PreTrainedConfig) -> list[int]:
    """Return the lengths, in tokens, around each window and rope threshold, and two or three times of it."""
    return sorted({length for length in _around(config) if length > 0})


def _around(config: PreTrainedConfig) -> Iterator[int]:
    for window in windows(config):
        yield from (window - 1, window, window + 1, 3 * window)
    for threshold in {unchanged_length(rope, config) for rope in ropes(config)}:
        if threshold is not None:
            yield from (threshold - 1, threshold, threshold + 1, 2 * threshold)
