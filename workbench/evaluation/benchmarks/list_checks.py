"""Checks a benchmark's configuration for duplicate or unknown names in lists, and for unread keys."""

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
        "gen_kwargs",
        "metadata",
        "metrics",
        "num_fewshot",
        "limit",
        "sample",
        "chat_template",
    ),
}
"""Keys of a benchmark that are read for tasks of lm-evaluation-harness."""
_FOR_TASKS = ("tasks", "include_path", "gen_kwargs", "metadata")
"""Keys that are read for tasks of lm-evaluation-harness only."""


def check_ignored(name: str, config: BenchmarkConfig) -> None:
    """Check that the configuration sets only keys that a benchmark of its output type reads.

    Tasks of lm-evaluation-harness (`output_type: lm-eval`) read other keys than all other benchmarks.

    Raises:
        ConfigError: A key that isn't read is set; the message names the key and its value.
    """
    is_task = config.output_type == OutputType["lm-eval"]
    for key, value in _set_keys(config):
        field = key.partition(".")[0]
        if is_task and field not in _READ_BY_TASKS:
            raise ConfigError(
                f"benchmarks.{name}.{key}: {value!r} is not read for tasks of lm-evaluation-harness, which "
                "define it themselves (leave it out, or change the task's file)"
            )
        if not is_task and field in _FOR_TASKS:
            raise ConfigError(
                f"benchmarks.{name}.{key}: {value!r} is read for output_type: lm-eval only (leave it out)"
            )


def _set_keys(config: Any, parent: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each field that differs from its default."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _set_keys(value, f"{parent}{field.name}.")
        elif value != (field.default_factory() if field.default_factory is not MISSING else field.default):
            yield f"{parent}{field.name}", value


def check_lists(name: str, config: BenchmarkConfig) -> None:
    """Check that a benchmark's lists have no duplicates, and that its groups contain only its own subsets.

    Raises:
        ConfigError: A list has a duplicate, or a group has an unknown subset; the message names both key and
            name.
    """
    key = f"benchmarks.{name}"
    for field in ("metrics", "only", "options", "tasks"):
        _check_unique(getattr(config, field), f"{key}.{field}")
    for group, subsets in config.groups.items():
        _check_unique(subsets, f"{key}.groups.{group}")
        for subset in subsets:
            if subset not in config.subsets:
                known = ", ".join(config.subsets) or "none"
                raise ConfigError(f"{key}.groups.{group}: no subset {subset!r} (known: {known})")


def check_two_classes(key: str, config: BenchmarkConfig) -> None:
    """Check that a benchmark with the metric `f1`, the F1 of the second choice, has at most two choices.

    Raises:
        ConfigError: There are more choices; the message names their number.
    """
    if "f1" in config.metrics and len(config.choices) > 2:
        raise ConfigError(
            f"{key}.metrics: 'f1' is the F1 of the second of two choices, but the benchmark has "
            f"{len(config.choices)} choices (macro_f1 is the mean over all)"
        )


def _check_unique(values: Sequence[str], key: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key}: {value!r} is listed twice in {list(values)!r} (remove one)")
