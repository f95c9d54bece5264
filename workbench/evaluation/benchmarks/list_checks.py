"""Names that stand twice in a benchmark's lists or name nothing, and keys that nothing would read."""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from workbench.config.benchmark import BenchmarkConfig, OutputType
from workbench.errors import ConfigError

_READ_BY_TASKS = {
    *(
        "source",
        "language",
        "output_type",
        "tasks",
        "include_path",
        "metrics",
        "num_fewshot",
        "limit",
        "sample",
    ),
}
"""Keys of a benchmark that mean something for tasks of lm-evaluation-harness."""
_FOR_TASKS = ("tasks", "include_path")
"""Keys that mean nothing for other benchmarks."""


def check_ignored(name: str, config: BenchmarkConfig) -> None:
    """Refuse keys that are set and that nothing would read.

    Raises:
        ConfigError: with the key and the value.
    """
    is_task = config.output_type == OutputType["lm-eval"]
    for key, value in _set_keys(config):
        field = key.partition(".")[0]
        if is_task and field not in _READ_BY_TASKS:
            raise ConfigError(
                f"benchmarks.{name}.{key}: {value!r} is not read by tasks of lm-evaluation-harness, which "
                "bring their own (leave it out, or change the task's file)"
            )
        if not is_task and field in _FOR_TASKS:
            raise ConfigError(
                f"benchmarks.{name}.{key}: {value!r} is read for output_type: lm-eval only (leave it out)"
            )


def _set_keys(config: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of what differs from its default."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _set_keys(value, f"{above}{field.name}.")
        elif value != (field.default_factory() if field.default_factory is not MISSING else field.default):
            yield f"{above}{field.name}", value


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


def check_two_classes(key: str, config: BenchmarkConfig) -> None:
    """Refuse F1 of more than two choices, which would be that of the second choice alone.

    Raises:
        ConfigError: with the number of choices.
    """
    if "f1" in config.metrics and len(config.choices) > 2:
        raise ConfigError(
            f"{key}.metrics: 'f1' is that of the second of two choices, but there are {len(config.choices)} "
            "(macro_f1 is the mean over all)"
        )


def _check_once(values: Sequence[str], key: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key}: {value!r} stands twice in {list(values)!r} (once)")
