"""Finds the files of runs below a folder; reads config.yaml and train.json."""

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
"""Folders of a run that are not searched for further runs. A run folder itself may have one of these
names."""

OF_A_RUN = {NAMES.results_json.name, NAMES.run_json.name, NAMES.config_yaml.name}
"""A folder with one of these files is a run folder."""

LONGEST_CONFIG = 2**20
"""Largest config.yaml that is read, in bytes; one of 200 benchmarks has a quarter of that."""


def files_below(folder: Path, name: str) -> Iterator[Path]:
    """Yield the path of each file or folder called `name` in the folders that `folders_below` yields.

    A folder of this name is a mistake that the caller reports; it is not searched.
    """
    for parent, folders, files in folders_below(folder):
        if name in files or name in folders:  # a folder of that name is reported too
            yield parent / name
        folders[:] = [inner for inner in folders if inner != name]


def folders_below(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield `folder` and each folder below, in path order: path, names of its folders, names of its files.

    Hidden folders, and a run's folders of models, predictions and the like, are left out. A symbolic link to
    a folder is yielded, because a run folder may be one, but not searched. If the caller removes a name from
    the yielded list of folders, that folder is not searched.
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
    """Return a run's label: the path of its folder relative to the leaderboard's folder.

    A run in the leaderboard's folder itself is called after that folder, unless a folder in it has this name
    too.
    """
    label = path.relative_to(folder).as_posix()
    name = folder.resolve().name
    return name if label == "." and name and not (folder / name).exists() else label


def config_of(files: RunDir, record: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of config.yaml that precede its benchmarks.

    Empty if the file is missing, unreadable, has aliases, or isn't the one whose checksum is in run.json.

    Args:
        files: Files of the run.
        record: Contents of run.json.
    """
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
    """Parse a YAML mapping and refuse aliases, by which a small file can expand without bound.

    Raises:
        ValueError: The text has an alias.
        yaml.YAMLError: The text is not YAML.
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
