"""Finds the files of runs below a folder, and reads those that only describe a run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from workbench.files import file_fingerprint, read_json
from workbench.run_dir import RunDir

NAMES = RunDir(Path())
RESULTS = NAMES.results_json.name
FAILURE = "failure.json"
"""File in the folder of a run whose model could not be scored."""
INSIDE_A_RUN = {
    *(NAMES.checkpoints.name, NAMES.adapter.name, NAMES.merged.name, NAMES.model.name),
    *(NAMES.all_predictions.name, NAMES.cache.name),
}
"""Folders that are not searched for runs."""

LONGEST_CONFIG = 2**20
"""Bytes of a config.yaml; 200 benchmarks have a quarter of it."""


def files_below(folder: Path, name: str) -> Iterator[Path]:
    """Yield the path of each file of a name outside of models and predictions, in path order."""
    for parent, folders, files in os.walk(folder):
        names = [inner for inner in folders if inner not in INSIDE_A_RUN and not inner.startswith(".")]
        if name in files or name in names:  # a folder of that name is reported too
            yield Path(parent) / name
        folders[:] = sorted(inner for inner in names if inner != name)


def config_of(files: RunDir, record: dict[str, Any]) -> dict[str, Any]:
    """Return what config.yaml says before its benchmarks; empty if it isn't as the run wrote it."""
    path = files.config_yaml
    try:
        if not path.is_file() or path.stat().st_size > LONGEST_CONFIG:
            return {}
        if record.get("config", "") not in ("", file_fingerprint(path)):
            return {}
        text = path.read_text(encoding="utf-8").partition("\nbenchmarks:")[0]
        return _plain_yaml(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}


def _plain_yaml(text: str) -> dict[str, Any]:
    """Return the mapping of a YAML text without aliases, which could repeat a value without end.

    Raises:
        ValueError: It has an alias.
        yaml.YAMLError: It is not YAML.
    """
    if "*" in text and any(
        isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)
    ):
        raise ValueError("aliases")
    values = yaml.load(text, yaml.CSafeLoader)
    return values if isinstance(values, dict) else {}


def train_json_of(path: Path) -> dict[str, Any]:
    """Return the contents of train.json; empty if it doesn't exist or can't be read."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
