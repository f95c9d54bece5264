"""Lists of a benchmark in which a name stands twice, or that name a subset that there isn't."""

from collections.abc import Sequence

from workbench.config.benchmark import BenchmarkConfig
from workbench.errors import ConfigError


def check_lists(name: str, config: BenchmarkConfig) -> None:
    """Refuse names that stand twice: each would count twice, or once where two were meant.

    Raises:
        ConfigError: with the key and the name.
    """
    key = f"benchmarks.{name}"
    for field in ("metrics", "only", "options", "tasks"):
        _check_once(getattr(config, field), f"{key}.{field}")
    for group, subsets in config.groups.items():
        _check_once(subsets, f"{key}.groups.{group}")
        for subset in subsets:
            if subset not in config.subsets:
                known = ", ".join(config.subsets) or "none"
                raise ConfigError(f"{key}.groups.{group}: no subset {subset!r} (known: {known})")


def _check_once(values: Sequence[str], key: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key}: {value!r} stands twice in {list(values)!r} (once)")
