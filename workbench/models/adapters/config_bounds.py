"""What an adapter's configuration announces, held against its weights and the layers of the model."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig
from torch import Tensor

from workbench import patterns
from workbench.errors import CheckpointError, ConfigError

MAX_LAYERS = 2_000


def patterns_of(config: PeftConfig) -> dict[str, list[str]]:
    """The regular expressions of a configuration, by the field that they stand in."""
    expressions: dict[str, list[str]] = {}
    for name in ("target_modules", "exclude_modules", "layers_pattern"):
        value = getattr(config, name, None)
        texts = value if isinstance(value, list) and name == "layers_pattern" else [value]
        expressions[name] = [text for text in texts if isinstance(text, str) and text != "all-linear"]
    for name in ("rank_pattern", "alpha_pattern"):
        expressions[name] = [key for key in getattr(config, name, None) or {} if isinstance(key, str)]
    return expressions


def check_kinds(config: PeftConfig, file: Path) -> None:
    """Refuse fields that hold something else than peft's documentation says.

    Raises:
        CheckpointError: with the field and its value.
    """
    for name in ("rank_pattern", "alpha_pattern"):
        value = getattr(config, name, None) or {}
        if not isinstance(value, Mapping):
            raise CheckpointError(f"{file}: {name}: {value!r:.60} (a mapping of layers to numbers)")
    copies = getattr(config, "layer_replication", None) or []
    if not isinstance(copies, list) or not all(_is_layer_range(copy) for copy in copies):
        raise CheckpointError(f"{file}: layer_replication: {copies!r:.60} (a list of [first, last])")


def _is_layer_range(value: Any) -> bool:
    """Whether a value is a first and a last number of layers."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(number, int) for number in value)


def check_patterns(config: PeftConfig, file: Path) -> None:
    """Refuse what is not a regular expression.

    Raises:
        CheckpointError: with the field.
    """
    for name, texts in patterns_of(config).items():
        for text in texts:
            try:
                patterns.check_pattern(text)
            except patterns.PatternError as error:
                raise CheckpointError(f"{file}: {name}: {error}") from error


def check_announced(
    config: PeftConfig, weights: Mapping[str, Tensor], names: Iterable[str], file: Path
) -> None:
    """Refuse ranks and copies of layers that no weights stand behind, and patterns that take too long.

    Raises:
        CheckpointError: with the field.
    """
    largest = max((size for tensor in weights.values() for size in tensor.shape), default=0)
    ranks: dict[str, Any] = {"r": getattr(config, "r", 0)}
    ranks |= {
        f"rank_pattern.{key}": rank for key, rank in (getattr(config, "rank_pattern", None) or {}).items()
    }
    for key, rank in ranks.items():
        if isinstance(rank, int) and rank > largest:
            raise CheckpointError(
                f"{file}: {key}={rank:,}, and no tensor has a side of more than {largest:,}"
            )
    copies = getattr(config, "layer_replication", None) or []
    if sum(last - first for first, last in copies) > MAX_LAYERS:
        raise CheckpointError(f"{file}: layer_replication={copies!r:.60} (at most {MAX_LAYERS:,} layers)")
    texts = [text for texts in patterns_of(config).values() for text in texts]
    check_fast(texts, names, f"{file}")


def check_fast(texts: Iterable[str], names: Iterable[str], where: str) -> None:
    """Refuse a regular expression that peft would match against names of layers without end.

    Raises:
        CheckpointError: with the pattern.
    """
    if slow := patterns.slow_in_re([*texts], [*names]):
        raise CheckpointError(f"{where}: the pattern {slow!r} takes too long over the names of the layers")


def check_rank_patterns(rank_pattern: Mapping[str, int], names: Iterable[str]) -> None:
    """Refuse keys of `adapter.rank_pattern` that peft would match without end.

    Raises:
        ConfigError: with the pattern.
    """
    if slow := patterns.slow_in_re([rf"(.*\.)?({key})$" for key in rank_pattern], [*names]):
        raise ConfigError(f"adapter.rank_pattern: {slow!r} takes too long over the names of the layers")
