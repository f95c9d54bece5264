"""Checks an adapter's configuration against its weights and the model's layers, before peft reads it."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig

from workbench.errors import CheckpointError, ConfigError
from workbench.models.stored import Stored
from workbench.patterns.matching import PatternError, check_pattern
from workbench.patterns.slow_patterns import slow_in_re

MAX_LAYERS = 2_000
"""Largest number of layers that `layer_replication` may give."""
MAX_ENTRIES = 1_000
"""Largest length of a list in adapter_config.json, unless the model has more modules or larger tensors."""
SIZES = ("r", "init_r", "num_vectors", "vector_length", "n_frequency", "n_tasks", "n_skills", "n_splits")
"""Fields, in any peft type, whose value is a dimension of a tensor in the adapter file."""
AS_MATCHED = {
    "target_modules": "{}",
    "exclude_modules": "{}",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
    "rank_pattern": r"(.*\.)?({})$",
    "alpha_pattern": r"(.*\.)?({})$",
}
"""Field -> template of the regular expression that peft 0.21 builds from each entry of the field."""
NAMES = ("target_modules", "exclude_modules")
"""Fields whose lists contain names instead of regular expressions."""


def patterns_of(config: PeftConfig) -> dict[str, list[str]]:
    """Return field -> its regular expressions, for each field in AS_MATCHED; plain names are left out."""
    expressions: dict[str, list[str]] = {}
    for name in AS_MATCHED:
        value = getattr(config, name, None) or []
        texts = [value] if isinstance(value, str) else [] if name in NAMES else value
        expressions[name] = [text for text in texts if text != "all-linear"]
    return expressions


def check_patterns(config: PeftConfig, file: Path) -> None:
    """Check that the first MAX_ENTRIES patterns in each field of a configuration are regular expressions.

    Raises:
        CheckpointError: A pattern is invalid; the message begins with `file` and the pattern's field.
    """
    for name, texts in patterns_of(config).items():
        for text in texts[:MAX_ENTRIES]:
            try:
                check_pattern(text)
            except PatternError as error:
                raise CheckpointError(f"{file}: {name}: {error}") from error


def check_lengths(config: PeftConfig, limit: int, file: Path) -> None:
    """Check that no list or mapping in a configuration has more than `limit` entries.

    peft compares each entry with the name of each layer.

    Raises:
        CheckpointError: One is longer; the message begins with `file` and names its field.
    """
    for name, value in vars(config).items():
        lists = [value, *value.values()] if isinstance(value, Mapping) else [value]
        longest = max((len(entries) for entries in lists if isinstance(entries, Collection)), default=0)
        if longest > limit and not isinstance(value, str):
            raise CheckpointError(f"{file}: {name}: {longest:,} entries (at most {limit:,} for this model)")


def check_announced(
    config: PeftConfig, weights: Mapping[str, Stored], names: Iterable[str], file: Path
) -> None:
    """Check the sizes that a configuration announces, before peft allocates memory for them.

    Ranks are compared with the tensors in the file; the number of replicated layers and the time to match
    patterns against the layers' names are limited.

    Args:
        config: The adapter's configuration.
        weights: The adapter's tensors, of which only the shapes are used.
        names: Names of all modules of the base.
        file: Path of adapter_config.json, for messages.

    Raises:
        CheckpointError: A size is too large; the message names its field.
    """
    names = list(names)
    largest = max((size for tensor in weights.values() for size in tensor.shape), default=0)
    check_lengths(config, max(MAX_ENTRIES, len(names), largest), file)
    ranks: dict[str, Any] = {name: getattr(config, name, 0) for name in SIZES}
    ranks |= {
        f"rank_pattern.{key}": rank for key, rank in (getattr(config, "rank_pattern", None) or {}).items()
    }
    for key, rank in ranks.items():
        if isinstance(rank, int) and rank > largest:
            raise CheckpointError(
                f"{file}: {key}={rank:,} is larger than all dimensions of the tensors (at most {largest:,})"
            )
    copies = getattr(config, "layer_replication", None) or []
    if sum(abs(last - first) for first, last in copies) > MAX_LAYERS:
        raise CheckpointError(
            f"{file}: layer_replication={copies!r:.60} is too many layers (at most {MAX_LAYERS:,})"
        )
    check_pattern_speed(config, names, file)


def check_pattern_speed(config: PeftConfig, names: Iterable[str], file: Path) -> None:
    """Check that matching a configuration's patterns against the layers' names takes reasonable time.

    Raises:
        CheckpointError: A pattern is slow; the message begins with `file`, and names the pattern's field.
    """
    expressions = {
        AS_MATCHED[name].format(text): (name, text)
        for name, texts in patterns_of(config).items()
        for text in texts
        if any(repeat in text for repeat in "*+{")
    }
    if slow := slow_in_re([*expressions], [*names]):
        name, text = expressions[slow]
        raise CheckpointError(
            f"{file}: {name}: matching the pattern {text!r} against the layer names takes too long"
        )


def check_rank_patterns(rank_pattern: Mapping[str, int], names: Iterable[str]) -> None:
    """Check that matching the keys of `adapter.rank_pattern` against the layer names takes reasonable time.

    Raises:
        ConfigError: A pattern is slow; the message names it.
    """
    if slow := slow_in_re([rf"(.*\.)?({key})$" for key in rank_pattern], [*names]):
        raise ConfigError(f"adapter.rank_pattern: matching {slow!r} against the layer names takes too long")
