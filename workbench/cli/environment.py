"""`${oc.env:NAME}` in a YAML, whose value is used and never shown."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

from workbench.errors import ConfigError
from workbench.shown import masked, remember_secret

SHORTEST = 5
"""Letters of a value that is masked: a shorter one stands in too many other words."""

OPEN = ("USER", "LOGNAME", "HOSTNAME", "HOME", "PWD", "TMPDIR", "SCRATCH", "WORK", "HF_HOME", "HF_HUB_CACHE")
OPEN_BEGINNINGS = ("SLURM_", "PBS_", "LSB_", "XDG_")
"""Variables of the system and of schedulers of jobs, which name people, machines, jobs and folders."""
SECRET = ("SLURM_JWT", "PBS_JOBCOOKIE")
"""Those among them that let others in."""

NAMING = ("run_dir", "leaderboard.folder", "predict.output", "export.path")
"""Keys whose values name what is written."""

LOCATING = ("path", "dataset", "revision", "include_path", "choices_file", "files", "split", "subsets")
"""Keys of a benchmark that say where its items are; all others end in prompts, scores or files."""


def register_environment() -> None:
    """Let `oc.env` remember what it has read, so that it is masked wherever it would be shown."""
    OmegaConf.register_new_resolver("oc.env", from_environment, replace=True)


def from_environment(key: str, *default: Any) -> str | None:
    """The environment variable's value, as OmegaConf's own resolver gives it."""
    value = oc.env(key, *default)
    if key in os.environ and value is not None and is_secret(value) and not is_open(key):
        remember_secret(value)
    return value


def is_open(variable: str) -> bool:
    """Whether a variable by its name holds nothing secret."""
    return variable in OPEN or (variable.startswith(OPEN_BEGINNINGS) and variable not in SECRET)


def is_secret(value: str) -> bool:
    """Whether a value may be a secret: not a number, and not the path of a file or folder that there is."""
    if len(value) < SHORTEST or value.replace(".", "", 1).isdecimal():
        return False
    return len(value) > 255 or "\0" in value or not Path(value).exists()


def check_environment(composed: DictConfig) -> None:
    """Refuse values of the environment where no mask can hide them: in templates and in names of files.

    Raises:
        ConfigError: names the key.
    """
    for key, value in interpolated(composed, ""):
        words = key.split(".")
        if masked(value) == value or not (is_naming(words) or is_template(words, value)):
            continue
        where = "names what is written" if is_naming(words) else "is written into prompts and results"
        raise ConfigError(
            f"{key}: {where}, and a value of the environment is stored nowhere (write the value itself; of "
            "the environment only a number, a folder that exists, USER, HOSTNAME, SLURM_... and the like)"
        )


def interpolated(node: DictConfig | ListConfig, prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted key and value of each text in a configuration that is made of another value."""
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
    """Whether a key, given as its words, names a file or folder that is written."""
    return ".".join(words) in NAMING


def is_template(words: list[str], value: str) -> bool:
    """Whether a text is a template or a pattern, or goes into the prompts or results of a benchmark."""
    of_benchmark = words[0] == "benchmarks" and not set(words[2:]) & set(LOCATING)
    return of_benchmark or "{{" in value or "{%" in value
