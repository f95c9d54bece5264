"""Resolves `${oc.env:NAME}` in YAML files, and remembers the values so that outputs show `***` instead."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from workbench.errors import ConfigError
from workbench.shown import masked, remember_secret

SHORTEST = 5
"""Minimum characters of a masked value; shorter ones occur in too many other words."""

OPEN = ("USER", "LOGNAME", "HOSTNAME", "HOME", "PWD", "TMPDIR", "SCRATCH", "WORK", "HF_HOME", "HF_HUB_CACHE")
OPEN_PREFIXES = ("SLURM_", "PBS_", "LSB_", "XDG_")
"""Variables whose values aren't masked: they hold names of people, machines, jobs and folders."""
SECRET = ("SLURM_JWT", "PBS_JOBCOOKIE")
"""Variables with one of `OPEN_PREFIXES` that hold credentials; their values are masked."""

NAMING = ("run_dir", "leaderboard.folder", "predict.output", "export.path", "compare.output")
"""Keys whose values name files or folders that are written."""

LOCATING = ("path", "dataset", "revision", "include_path", "choices_file", "files", "split", "subsets")
"""Keys of a benchmark that locate its items; all others affect prompts, scores or files."""


def register_environment() -> None:
    """Replace OmegaConf's resolver `oc.env` by `from_environment`, which masks values that may be secret."""
    OmegaConf.register_new_resolver("oc.env", from_environment, replace=True)


def from_environment(key: str, *default: Any) -> str | None:
    """Return an environment variable's value, else the default; without one raise KeyError, as `oc.env` does.

    A value that may be secret is masked in all later outputs of this process; a default never is.
    """
    value = oc.env(key, *default)
    if key in os.environ and value is not None and is_secret(value) and not is_open(key):
        remember_secret(value)
    return value


def is_open(variable: str) -> bool:
    """Return whether an environment variable is known to be public, by its name: USER, SLURM_..., ..."""
    return variable in OPEN or (variable.startswith(OPEN_PREFIXES) and variable not in SECRET)


def is_secret(value: str) -> bool:
    """Return whether a value may be secret: five characters or more, not a number, not an existing path."""
    if len(value) < SHORTEST or value.replace(".", "", 1).isdecimal():
        return False
    return len(value) > 255 or "\0" in value or not Path(value).exists()


def check_environment(composed: DictConfig) -> None:
    """Check that no secret from the environment is in a template or file name, where it can't be masked.

    Raises:
        ConfigError: There is one; the message names the key.
    """
    for key, value in interpolated(composed, ""):
        words = key.split(".")
        if masked(value) == value or not (is_naming(words) or is_template(words, value)):
            continue
        use = "names a file or folder" if is_naming(words) else "goes into prompts and results"
        raise ConfigError(
            f"{key}: {use}, but may hold a secret from the environment (write the value itself; allowed from "
            "the environment are numbers, existing folders, USER, HOSTNAME, SLURM_... and the like)"
        )


def interpolated(node: DictConfig | ListConfig, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield dotted key and resolved value of each text that is written with `${...}`, at any depth."""
    names = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for name in names:
        key = f"{prefix}{name}"
        if OmegaConf.is_missing(node, name):
            continue
        if OmegaConf.is_interpolation(node, name):
            value = node[name]
            if isinstance(value, str):
                yield key, value
        elif OmegaConf.is_config(node[name]):
            yield from interpolated(node[name], f"{key}.")


def is_naming(words: list[str]) -> bool:
    """Return whether a key's value is the path of a file or folder that is written.

    Args:
        words: The dotted key, split at its dots.
    """
    return ".".join(words) in NAMING


def is_template(words: list[str], value: str) -> bool:
    """Return whether a value has `{{` or `{%`, or the key is one of a benchmark but not one in LOCATING.

    Other keys of benchmarks affect prompts or results. `words` is the dotted key, split at its dots.
    """
    is_in_benchmark = words[0] == "benchmarks" and not set(words[2:]) & set(LOCATING)
    return is_in_benchmark or "{{" in value or "{%" in value
