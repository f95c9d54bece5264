"""Checks that YAML files change only harmless settings of Hydra, such as where and how a sweep runs.

Hydra imports and calls the `_target_` of its callbacks, launchers, sweepers and logging, and sets
environment variables. So before Hydra starts, the user's YAML files are composed without the command line's
`hydra.*` keys (composing neither configures logging nor calls anything), and the `hydra` node is compared
with that of our conf folder alone.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig

from workbench.cli.plugins import check_plugin
from workbench.cli.run_name import as_mapping
from workbench.cli.yaml_files.sources import Sources, composed
from workbench.cli.yaml_files.yaml_texts import check_texts
from workbench.errors import ConfigError

ALLOWED = ("mode", "run.dir", "sweep.dir", "sweep.subdir")
"""Keys of the `hydra` node that a YAML file may set."""

PLUGGED = ("launcher", "sweeper")
"""Keys below `hydra` whose contents a plugin defines; `check_plugin` checks these."""

FILLED_IN = ("runtime", "overrides", "job.override_dirname", "job.config_name")
"""Keys of the `hydra` node that Hydra fills in itself, so that they differ in each command."""


def check_hydra_node(sources: Sources, overrides: Sequence[str]) -> None:
    """Check that no YAML file of the user makes Hydra run code, set environment variables or write elsewhere.

    Args:
        sources: Where Hydra searches for YAML files.
        overrides: The words of the command line that are not flags.

    Raises:
        ConfigError: A YAML file does; the message names file and key.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    typed = [override for override in parsed if not override.is_hydra_override()]
    plugins = [override.input_line or "" for override in parsed if chooses_plugin(override)]
    sources.check_files()
    ours = as_mapping(composed(Sources(), []).hydra) | {"searchpath": sources.searched}
    for point in points(typed, sources):
        words = [*point, *plugins]
        config = composed(sources, words)
        sources.check_hidden(config)
        check_node(config, ours, words, sources)
        check_texts(config, sources)
        for swept in points(swept_by_yaml(config, sources), sources):
            check_node(composed(sources, [*words, *swept]), ours, [*words, *swept], sources)


def chooses_plugin(override: Override) -> bool:
    """Return whether an override chooses a launcher or a sweeper, whose keys a YAML file may set."""
    return override.key_or_group.startswith(("hydra/launcher", "hydra/sweeper"))


def points(overrides: Sequence[Override], sources: Sources) -> Iterator[list[str]]:
    """Yield a list of override words for each combination of group options (YAML files) in a sweep.

    Swept keys that aren't groups get their first value only: they don't change which YAML files are read.
    Without a sweep, one list with all overrides is yielded.
    """
    words_by_override = [list(alternatives(override, sources)) for override in overrides]
    for point in product(*words_by_override):
        yield [word for word in point if word]


def alternatives(override: Override, sources: Sources) -> Iterator[str]:
    """Yield the words that replace one override in the combinations of `points`.

    An override without a sweep yields itself; a sweep over a group yields one per option; a sweep over a key
    yields its first value, or an empty text for a range of numbers.
    """
    key, value = override.get_key_element(), override.value()
    if not override.is_sweep_override():
        yield override.input_line or ""
    elif isinstance(value, Glob):
        yield from (f"{key}={option}" for option in value.filter(sources.options(override.key_or_group)))
    elif override.is_discrete_sweep():
        words = (f"{key}={value}" for value in override.sweep_string_iterator())
        yield from words if sources.is_group(override) else [next(words)]
    else:
        yield ""  # a range of numbers chooses no YAML file


def swept_by_yaml(config: DictConfig, sources: Sources) -> list[Override]:
    """Return the overrides of groups that a YAML file sweeps over (`hydra.sweeper.params`).

    Raises:
        ConfigError: The file sweeps over keys of Hydra, or `trust_code`.
    """
    chosen = []
    for key, value in pairs(as_mapping(config.hydra)["sweeper"]):
        options = value.get("choices", []) if isinstance(value, dict) else value
        text = ",".join(map(str, options)) if isinstance(options, list) else str(options)
        if not key or key.startswith("_"):
            continue
        override = OverridesParser.create().parse_override(f"{key}={text}")
        name = override.key_or_group
        own = override.is_hydra_override() or "hydra" in (override.package or "")
        if own or name in ("hydra", "trust_code"):
            file = sources.file_with("hydra.sweeper.params", config)
            raise ConfigError(f"{file}: hydra.sweeper: {name!r} can't be swept by a YAML file")
        if sources.is_group(override):
            chosen.append(override)
    return chosen


def pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of a sweeper's mappings `params` and `search_space`, with its values."""
    for name in ("params", "search_space"):
        yield from (value.get(name) or {}).items() if isinstance(value, dict) else ()


def check_node(config: DictConfig, ours: dict[str, Any], words: Sequence[str], sources: Sources) -> None:
    """Check that the `hydra` node differs from the shipped one only in keys that a YAML file may set.

    Args:
        config: The composed configuration with its `hydra` node.
        ours: The shipped `hydra` node, as plain values.
        words: Overrides with which `config` was composed.
        sources: Where the YAML files are, to name the file.

    Raises:
        ConfigError: Another key differs; the message names file and key.
    """
    theirs = as_mapping(config.hydra)
    for key in differences(ours, theirs, ""):
        if key not in ALLOWED and key.split(".")[0] not in PLUGGED and not key.startswith(FILLED_IN):
            file = sources.file_with(f"hydra.{key}", config)
            raise ConfigError(
                f"{file}: hydra.{key}: can't be set in a YAML file (allowed are mode, run.dir, sweep.dir, "
                "sweep.subdir, launcher and sweeper; all others on the command line)"
            )
    if set(theirs["overrides"]["task"] + theirs["overrides"]["hydra"]) != {*words, *sources.own_words()}:
        file = sources.file_with("hydra.overrides", config)
        raise ConfigError(f"{file}: hydra.overrides: can't be set in a YAML file")
    for plugin in PLUGGED:
        check_plugin(theirs[plugin], f"hydra.{plugin}", config, sources)


def differences(ours: Any, theirs: Any, above: str) -> Iterator[str]:
    """Yield each dotted key whose value differs between two nested mappings, or which only one has."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            missing = object()
            inner = (ours.get(name, missing), theirs.get(name, missing))
            yield from differences(*inner, f"{above}.{name}" if above else str(name))
    elif ours != theirs:
        yield above
