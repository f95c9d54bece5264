"""What an adapter's configuration announces, held against its weights and the layers of the model."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig
from torch import Tensor

from workbench import patterns
from workbench.errors import CheckpointError, ConfigError

MAX_LAYERS = 2_000
MAX_ENTRIES = 1_000
"""Names in one list of a small model's adapter; of a larger one as many as it has layers, or sizes."""
SIZES = ("r", "init_r", "num_vectors", "vector_length", "n_frequency", "n_tasks", "n_skills", "n_splits")
"""Fields of all kinds of adapters that are a side of a tensor in the file."""
AS_MATCHED = {
    "target_modules": "{}",
    "exclude_modules": "{}",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
    "rank_pattern": r"(.*\.)?({})$",
    "alpha_pattern": r"(.*\.)?({})$",
}
"""Field -> the regular expression that peft 0.21 makes of each of its texts."""
NAMES = ("target_modules", "exclude_modules")
"""Of these a list holds names as they are."""


def patterns_of(config: PeftConfig) -> dict[str, list[str]]:
    """The regular expressions of a configuration, by the field that they stand in."""
    expressions: dict[str, list[str]] = {}
    for name in AS_MATCHED:
        value = getattr(config, name, None) or []
        texts = [value] if isinstance(value, str) else [] if name in NAMES else value
        expressions[name] = [text for text in texts if text != "all-linear"]
    return expressions


def check_patterns(config: PeftConfig, file: Path) -> None:
    """Refuse what is not a regular expression.

    Raises:
        CheckpointError: with the field.
    """
    for name, texts in patterns_of(config).items():
        for text in texts[:MAX_ENTRIES]:
            try:
                patterns.check_pattern(text)
            except patterns.PatternError as error:
                raise CheckpointError(f"{file}: {name}: {error}") from error


def check_lengths(config: PeftConfig, most: int, file: Path) -> None:
    """Refuse lists that peft would compare with each layer of the model without end.

    Raises:
        CheckpointError: with the field.
    """
    for name, value in vars(config).items():
        lists = [value, *value.values()] if isinstance(value, Mapping) else [value]
        longest = max((len(each) for each in lists if isinstance(each, Collection)), default=0)
        if longest > most and not isinstance(value, str):
            raise CheckpointError(f"{file}: {name}: {longest:,} entries (at most {most:,} for this model)")


def check_announced(
    config: PeftConfig, weights: Mapping[str, Tensor], names: Iterable[str], file: Path
) -> None:
    """Refuse ranks and copies of layers that no weights stand behind, and patterns that take too long.

    Raises:
        CheckpointError: with the field.
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
                f"{file}: {key}={rank:,}, and no tensor has a side of more than {largest:,}"
            )
    copies = getattr(config, "layer_replication", None) or []
    if sum(abs(last - first) for first, last in copies) > MAX_LAYERS:
        raise CheckpointError(f"{file}: layer_replication={copies!r:.60} (at most {MAX_LAYERS:,} layers)")
    matched = {
        AS_MATCHED[name].format(text): (name, text)
        for name, texts in patterns_of(config).items()
        for text in texts
        if any(repeat in text for repeat in "*+{")
    }
    if slow := patterns.slow_in_re([*matched], names):
        name, text = matched[slow]
        raise CheckpointError(
            f"{file}: {name}: the pattern {text!r} takes too long over the names of the layers"
        )


def check_rank_patterns(rank_pattern: Mapping[str, int], names: Iterable[str]) -> None:
    """Refuse keys of `adapter.rank_pattern` that peft would match without end.

    Raises:
        ConfigError: with the pattern.
    """
    if slow := patterns.slow_in_re([rf"(.*\.)?({key})$" for key in rank_pattern], [*names]):
        raise ConfigError(f"adapter.rank_pattern: {slow!r} takes too long over the names of the layers")
