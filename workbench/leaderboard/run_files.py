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
"""Folders of a run that are not searched for runs. A run itself may have such a name."""

OF_A_RUN = {NAMES.results_json.name, NAMES.run_json.name, NAMES.config_yaml.name}
"""Files by which the folder of a run is known."""

LONGEST_CONFIG = 2**20
"""Bytes of a config.yaml; 200 benchmarks have a quarter of it."""


def files_below(folder: Path, name: str) -> Iterator[Path]:
    """Yield the path of each file of a name outside of models and predictions, in path order."""
    for parent, folders, files in folders_below(folder):
        if name in files or name in folders:  # a folder of that name is reported too
            yield parent / name
        folders[:] = [inner for inner in folders if inner != name]


def folders_below(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield a folder and those below it, each with its folders and files by name, in path order.

    Hidden folders, and those inside of a run, are left out. A folder that is a link is yielded too, since the
    folder of a run may be one, but nothing below it. Names that are taken off a list of folders aren't
    searched.
    """
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        _, folders, files = next(os.walk(path), ("", [], []))
        hidden = INSIDE_A_RUN if OF_A_RUN & {*files} else set()
        names = sorted(name for name in folders if name not in hidden and not name.startswith("."))
        yield path, names, files
        if path == folder or not path.is_symlink():
            waiting += [path / name for name in reversed(names)]


def label_of(path: Path, folder: Path) -> str:
    """Return the path of a run's folder relative to the board's folder, which no other run has.

    It is the name of the board's folder itself, unless a folder in it is called so too.
    """
    label = path.relative_to(folder).as_posix()
    name = folder.resolve().name
    return name if label == "." and name and not (folder / name).exists() else label


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
